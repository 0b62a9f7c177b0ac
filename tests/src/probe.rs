//! Probes that need no outside programs: who answers, from which address, how fast, and what the wire carried.
mod capture;
mod icmp;
mod loss;
mod packet;
mod tcp;
mod throughput;
mod udp;

pub use capture::Capture;
pub use icmp::{Echo, ping, ping_within};
pub use loss::{Loss, LossMeter};
pub use packet::{Packet, Vxlan};
pub use tcp::{Exchange, TcpEcho, exchange};
pub use throughput::throughput;
pub use udp::UdpEcho;
