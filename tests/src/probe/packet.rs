//! What a captured frame says, as far as the tests ask: addresses, protocol, ports, and the frame within VXLAN.
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use etherparse::{NetSlice, SlicedPacket, TransportSlice};

/// A frame, read. What is not there, or not understood, is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Source and destination on the link.
    pub macs: Option<([u8; 6], [u8; 6])>,
    /// Source and destination addresses.
    pub ips: Option<(IpAddr, IpAddr)>,
    /// TTL or hop limit.
    pub ttl: Option<u8>,
    /// Source and destination ports of UDP or TCP.
    pub ports: Option<(u16, u16)>,
    /// `tcp`, `udp`, `icmp`, `icmp6`, `arp`, `ip`, or `ethernet`.
    pub protocol: &'static str,
    /// What VXLAN carries, if the destination port is one of VXLAN's (4789 of RFC 7348, 8472 of Linux).
    pub vxlan: Option<Vxlan>,
}

/// The inside of a VXLAN packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vxlan {
    /// The network identifier.
    pub vni: u32,
    /// The frame that it carries.
    pub inner: Box<Packet>,
}

impl Packet {
    /// Reads a frame that begins with its Ethernet header; `None` if even that is cut short.
    pub fn parse(frame: &[u8]) -> Option<Packet> {
        let sliced = SlicedPacket::from_ethernet(frame).ok()?;
        let ethernet = sliced
            .link
            .as_ref()
            .and_then(|link| link.to_header())
            .and_then(|link| link.ethernet2());
        let mut packet = Packet {
            macs: ethernet.map(|header| (header.source, header.destination)),
            ips: None,
            ttl: None,
            ports: None,
            protocol: "ethernet",
            vxlan: None,
        };
        match &sliced.net {
            Some(NetSlice::Ipv4(ip)) => {
                let header = ip.header();
                packet.ips = Some((
                    header.source_addr().into(),
                    header.destination_addr().into(),
                ));
                (packet.ttl, packet.protocol) = (Some(header.ttl()), "ip");
            }
            Some(NetSlice::Ipv6(ip)) => {
                let header = ip.header();
                packet.ips = Some((
                    header.source_addr().into(),
                    header.destination_addr().into(),
                ));
                (packet.ttl, packet.protocol) = (Some(header.hop_limit()), "ip");
            }
            Some(NetSlice::Arp(_)) => packet.protocol = "arp",
            None => {}
        }
        match &sliced.transport {
            Some(TransportSlice::Udp(udp)) => {
                packet.ports = Some((udp.source_port(), udp.destination_port()));
                packet.protocol = "udp";
                if [4789, 8472].contains(&udp.destination_port()) {
                    packet.vxlan = Vxlan::parse(udp.payload());
                }
            }
            Some(TransportSlice::Tcp(tcp)) => {
                packet.ports = Some((tcp.source_port(), tcp.destination_port()));
                packet.protocol = "tcp";
            }
            Some(TransportSlice::Icmpv4(_)) => packet.protocol = "icmp",
            Some(TransportSlice::Icmpv6(_)) => packet.protocol = "icmp6",
            Some(TransportSlice::Igmp(_)) | None => {}
        }
        Some(packet)
    }

    /// Whether it goes from one address to another.
    pub fn is_between(&self, from: IpAddr, to: IpAddr) -> bool {
        self.ips == Some((from, to))
    }
}

impl Vxlan {
    /// Reads the eight bytes of RFC 7348 §5 (flags, reserved, VNI, reserved) and the frame after them.
    fn parse(payload: &[u8]) -> Option<Vxlan> {
        let (header, frame) = payload.split_at_checked(8)?;
        let vni = u32::from_be_bytes([0, header[4], header[5], header[6]]);
        let inner = Box::new(Packet::parse(frame)?);
        (header[0] & 0x08 != 0).then_some(Vxlan { vni, inner })
    }
}

impl fmt::Display for Packet {
    /// One line, such as `udp 192.0.2.1:5000 > 192.0.2.2:4789 [vxlan 1: icmp 10.0.1.2 > 10.0.2.2]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.protocol)?;
        match (self.ips, self.ports) {
            (Some((from, to)), Some((source, destination))) => {
                write!(
                    f,
                    " {} > {}",
                    SocketAddr::new(from, source),
                    SocketAddr::new(to, destination)
                )?;
            }
            (Some((from, to)), None) => write!(f, " {from} > {to}")?,
            (None, _) => {}
        }
        match &self.vxlan {
            Some(Vxlan { vni, inner }) => write!(f, " [vxlan {vni}: {inner}]"),
            None => Ok(()),
        }
    }
}
