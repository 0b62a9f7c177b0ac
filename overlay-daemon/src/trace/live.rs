//! `heddle trace --live`: marked packets are sent, and looked for on every link of the way. What looks are packet sockets,
//! which end with the process: nothing is put into the kernel, so nothing can be left in it.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use netlink::netns::Netns;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket,
    sockopt,
};
use rand::TryRng;
use rand::rngs::SysRng;
use serde::Serialize;

use super::hop::{Place, Problem};
use super::{Packet, Trace, ends};

/// Packets that are sent at most: the first ones may be lost with the question of who has an address.
const SENT: u32 = 5;
const BETWEEN: Duration = Duration::from_millis(100);
/// After the last one.
const PATIENCE: Duration = Duration::from_millis(500);
/// A port that nobody listens at, so that the kernel of the destination answers (as traceroute(8) has it).
const PORT: u16 = 33_434;
/// Of the largest number of headers around a mark: Ethernet, IPv6, UDP and VXLAN twice, ICMPv6.
const LOOKED_AT: usize = 512;
/// For a host with a lot of traffic: what does not fit is not seen.
const BUFFER: usize = 16 << 20;

/// What became of the marked packets as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Live {
    /// How many were sent, over UDP.
    pub sent: u32,
    /// Whether something came back that bears the mark: an ICMP error of the destination, or an echo.
    pub is_answered: bool,
}

/// Where packets are looked for.
struct Eye {
    place: Place,
    socket: OwnedFd,
}

/// Sends marked packets from where `from` is to the trace's destination, behind a Service to the backend that its hops lead
/// to, and says of each link whether they were seen there. The first at which they were not is where they were lost.
///
/// # Errors
/// When no packet socket is to be had.
pub fn live(trace: &mut Trace, from: &str, packet: Packet) -> Result<(), String> {
    let to = destination(trace, packet);
    let source = match from {
        "node" => None,
        pod => ends::find(pod)?.netns,
    };
    let destination = ends::find(&to.ip().to_string())?.netns;
    let said = |error: String| format!("cannot look for packets: {error}: run as root");
    let mut eyes = vec![Eye::open(Place::Here, None).map_err(said)?];
    for (place, netns) in [(Place::Source, &source), (Place::Destination, &destination)] {
        if let Some(netns) = netns {
            eyes.push(Eye::open(place, Some(netns)).map_err(said)?);
        }
    }
    let mut mark = *b"heddle trace mark 00000000";
    let number = SysRng.try_next_u64().unwrap_or_default();
    mark[18..].copy_from_slice(&number.to_be_bytes());
    let sender = within(source.as_ref(), || {
        let socket = UdpSocket::bind((trace.src, 0))?;
        socket.connect(to)?;
        Ok(socket)
    });
    let sender = sender.map_err(|error| format!("cannot send from {}: {error}", trace.src))?;
    let own = match source.is_some() {
        true => Place::Source,
        false => Place::Here,
    };
    let wanted: BTreeSet<_> = trace.hops.iter().filter_map(|hop| hop.link).collect();
    let (mut seen, mut is_answered, mut sent) = (BTreeSet::new(), false, 0);
    while sent < SENT && !(is_answered && seen.is_superset(&wanted)) {
        // A refusal is the answer to the one before.
        let _ = sender.send(&mark);
        sent += 1;
        let patience = if sent == SENT { PATIENCE } else { BETWEEN };
        let until = Instant::now() + patience;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            for sighting in look(&eyes, left, &mark) {
                seen.insert((sighting.place, sighting.index));
                is_answered |= sighting.place == own && comes_from(&sighting.frame, to.ip());
            }
            if is_answered && seen.is_superset(&wanted) {
                break;
            }
        }
    }
    trace.live = Some(Live { sent, is_answered });
    show(trace, &seen);
    Ok(())
}

fn destination(trace: &Trace, packet: Packet) -> SocketAddr {
    let backends = trace.service.as_ref().map(|service| &service.backends[..]);
    let backends = backends.unwrap_or_default();
    let lost = backends
        .iter()
        .find(|backend| backend.arrives == Some(false));
    match lost.or(backends.first()) {
        Some(backend) => backend.address,
        None => SocketAddr::new(trace.dst, packet.port.unwrap_or(PORT)),
    }
}

/// Says of each link whether marked packets were seen there; where they were not, while the kernel's state does not say why,
/// is where they were lost.
fn show(trace: &mut Trace, seen: &BTreeSet<(Place, u32)>) {
    let mut last = "the sender".to_owned();
    for hop in &mut trace.hops {
        let Some(link) = hop.link else { continue };
        let is_seen = seen.contains(&link);
        hop.seen = Some(is_seen);
        if is_seen {
            last.clone_from(&hop.object);
            continue;
        }
        if trace.arrives {
            trace.arrives = false;
            hop.problem = Some(Problem {
                reason: format!(
                    "marked packets were seen at {last} and not here: something between the two drops them"
                ),
                remedy: "nft list ruleset, iptables-save, tc filter show: rules of other programs"
                    .into(),
            });
        }
    }
}

/// A frame with the mark.
struct Sighting {
    place: Place,
    index: u32,
    frame: Vec<u8>,
}

impl Eye {
    fn open(place: Place, netns: Option<&Netns>) -> Result<Self, String> {
        let socket = within(netns, || {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let all = SockProtocol::EthAll;
            let raw = socket(AddressFamily::Packet, SockType::Raw, flags, all)?;
            // Without it the buffer is as small as the host has it.
            let _ = setsockopt(&raw, sockopt::RcvBufForce, &BUFFER);
            Ok(raw)
        });
        let socket = socket.map_err(|error| error.to_string())?;
        Ok(Self { place, socket })
    }
}

fn within<T: Send>(
    netns: Option<&Netns>,
    f: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    match netns {
        Some(netns) => netns.run(f).map_err(io::Error::other)?,
        None => f(),
    }
}

/// What has the mark of all that has come in, after at most `patience`.
fn look(eyes: &[Eye], patience: Duration, mark: &[u8]) -> Vec<Sighting> {
    let mut polled: Vec<PollFd> = eyes
        .iter()
        .map(|eye| PollFd::new(eye.socket.as_fd(), PollFlags::POLLIN))
        .collect();
    let patience = PollTimeout::try_from(patience).unwrap_or(PollTimeout::ZERO);
    // Interrupted: then there is nothing to read.
    let _ = poll(&mut polled, patience);
    let (mut sightings, mut buffer) = (Vec::new(), [0; LOOKED_AT]);
    for eye in eyes {
        while let Ok((length, from)) = recvfrom::<LinkAddr>(eye.socket.as_raw_fd(), &mut buffer) {
            let frame = &buffer[..length];
            if let Some(from) = from
                && frame.windows(mark.len()).any(|window| window == mark)
            {
                sightings.push(Sighting {
                    place: eye.place,
                    index: u32::try_from(from.ifindex()).unwrap_or_default(),
                    frame: frame.to_vec(),
                });
            }
        }
    }
    sightings
}

/// Whether the packet in an Ethernet frame is from an address.
fn comes_from(frame: &[u8], address: IpAddr) -> bool {
    let (kind, source) = match address {
        IpAddr::V4(v4) => ([0x08, 0x00], (26, v4.octets().to_vec())),
        IpAddr::V6(v6) => ([0x86, 0xdd], (22, v6.octets().to_vec())),
    };
    let (at, octets) = source;
    frame.get(12..14) == Some(&kind[..]) && frame.get(at..at + octets.len()) == Some(&octets[..])
}
