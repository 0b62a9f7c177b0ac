//! Tunnel health: a UDP echo between the nodes' own addresses on the overlay, by whatever way packets of pods would take,
//! as large as the path is meant to carry. A node sends a fixed number of probes a second, whatever the number of peers.

mod table;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::UdpSocket;
use tokio::sync::watch;

pub use self::table::{Losses, Probe, Probes, RoundTrips};
use crate::config::Config;
use crate::far::QUESTION;
use crate::far::tell::Teller;
use crate::reconciler::Report;
use crate::ticks;

/// Probes in a second, at most.
const BUDGET: u32 = 20;
/// They go out together: a wake-up costs more than a probe.
const BEAT: Duration = Duration::from_secs(1);
/// IP and UDP headers, in bytes.
const HEADERS_V4: u32 = 20 + 8;
const HEADERS_V6: u32 = 40 + 8;
/// What a request begins with; a number follows.
pub(crate) const REQUEST: &[u8; 4] = b"hdl?";
/// What an answer begins with.
pub(crate) const ANSWER: &[u8; 4] = b"hdl!";
const SMALLEST: usize = 12;
/// What a small probe carries, in bytes.
const SMALL: u32 = 64;

/// What a packet of `size` bytes to `address` carries: a request or an answer, its number, and zeros.
pub(crate) fn payload(kind: &[u8; 4], number: u64, address: IpAddr, size: u32) -> Vec<u8> {
    let length = size.saturating_sub(headers(address)) as usize;
    let mut bytes = vec![0; length.max(SMALLEST)];
    bytes[..4].copy_from_slice(kind);
    bytes[4..SMALLEST].copy_from_slice(&number.to_be_bytes());
    bytes
}

fn headers(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(_) => HEADERS_V4,
        IpAddr::V6(_) => HEADERS_V6,
    }
}

/// Answers the peers' probes, sends ours, and says what came of it.
///
/// # Errors
/// When the port cannot be had.
pub async fn run(
    config: Config,
    mut report: watch::Receiver<Report>,
    out: watch::Sender<Probes>,
) -> Result<(), String> {
    let port = config.probe_port;
    let taken = |error: std::io::Error| {
        format!(
            "\"probe_port\": cannot take UDP port {port}: {error}: end what has it, or choose another on all nodes"
        )
    };
    let v4 = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))
        .await
        .map_err(taken)?;
    let v6 = only_v6(port).await.ok();
    let vxlan_port = config.vxlan_port;
    let mut prober = Prober {
        port,
        v4: Arc::new(v4),
        v6: v6.map(Arc::new),
        teller: Teller::new(config, report.clone()),
        left: BUDGET,
        out,
    };
    prober.change(|probes| probes.vxlan_port = vxlan_port);
    let (mut from_v4, mut from_v6) = (vec![0; 65_536], vec![0; 65_536]);
    let mut beat = ticks::every(BEAT);
    loop {
        tokio::select! {
            Ok((length, from)) = prober.v4.recv_from(&mut from_v4) => prober.receive(&from_v4[..length], from).await,
            Ok((length, from)) = receive(prober.v6.as_deref(), &mut from_v6) => prober.receive(&from_v6[..length], from).await,
            Ok(()) = report.changed() => {
                let peers = Arc::clone(&report.borrow_and_update().peers);
                prober.change(|probes| probes.follow(&peers));
                prober.beat().await;
            }
            _ = beat.tick() => {
                prober.left = BUDGET;
                prober.beat().await;
            }
        }
    }
}

async fn only_v6(port: u16) -> std::io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::from(nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Inet6,
        nix::sys::socket::SockType::Datagram,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC | nix::sys::socket::SockFlag::SOCK_NONBLOCK,
        None,
    )?);
    setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    let address = nix::sys::socket::SockaddrIn6::from(std::net::SocketAddrV6::new(
        Ipv6Addr::UNSPECIFIED,
        port,
        0,
        0,
    ));
    nix::sys::socket::bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &address)?;
    UdpSocket::from_std(socket)
}

async fn receive(
    socket: Option<&UdpSocket>,
    buffer: &mut [u8],
) -> std::io::Result<(usize, SocketAddr)> {
    match socket {
        Some(socket) => socket.recv_from(buffer).await,
        None => std::future::pending().await,
    }
}

struct Prober {
    port: u16,
    teller: Teller,
    /// Probes that may go out before the next beat.
    left: u32,
    v4: Arc<UdpSocket>,
    v6: Option<Arc<UdpSocket>>,
    /// What is known stands in the channel itself: a copy would weigh as much again.
    out: watch::Sender<Probes>,
}

impl Prober {
    /// Announces what is news to a person alone: probes come and go all the time.
    fn change<T>(&self, change: impl FnOnce(&mut Probes) -> T) -> Option<T> {
        let mut outcome = None;
        self.out.send_if_modified(|probes| {
            let turns = probes.turns;
            outcome = Some(change(probes));
            probes.turns != turns
        });
        outcome
    }

    async fn receive(&mut self, bytes: &[u8], from: SocketAddr) {
        if bytes.len() < SMALLEST {
            return;
        }
        if bytes.starts_with(REQUEST) {
            self.change(|probes| probes.hear(from.ip(), Instant::now()));
            let answer = [ANSWER, &bytes[4..]].concat();
            self.send(from, &answer).await;
        } else if bytes.starts_with(QUESTION) {
            if let Some(socket) = self.socket(from).cloned() {
                self.teller.tell(bytes, from, socket);
            }
        } else if bytes.starts_with(ANSWER) {
            let number = bytes[4..SMALLEST]
                .try_into()
                .map(u64::from_be_bytes)
                .unwrap_or_default();
            // By its number, not by where it comes from: on a direct path a node answers from its underlay address.
            self.change(|probes| probes.answer(number, Instant::now()));
        }
    }

    /// Sends the probes that are due longest, as far as any are.
    async fn beat(&mut self) {
        while self.left > 0 {
            let due = self.change(|probes| probes.beat(Instant::now()));
            let Some((address, bytes)) = due.flatten() else {
                break;
            };
            self.left -= 1;
            self.send(SocketAddr::new(address, self.port), &bytes).await;
        }
    }

    fn socket(&self, to: SocketAddr) -> Option<&Arc<UdpSocket>> {
        match to {
            SocketAddr::V4(_) => Some(&self.v4),
            SocketAddr::V6(_) => self.v6.as_ref(),
        }
    }

    async fn send(&self, to: SocketAddr, bytes: &[u8]) {
        let socket = self.socket(to);
        if let Some(socket) = socket {
            // What cannot be sent is not answered either.
            let _ = socket.send_to(bytes, to).await;
        }
    }
}
