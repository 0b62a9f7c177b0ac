//! ICMP echo of both families, over raw sockets.
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, recvfrom, sendto,
    socket,
};

use crate::{Result, Space};

/// A reply to an echo request.
#[derive(Clone, Copy, Debug)]
pub struct Echo {
    /// From request to reply.
    pub time: Duration,
    /// The TTL that was left in the reply, over IPv4.
    pub ttl: Option<u8>,
}

/// Sends echo requests from a place until one is answered, for at most 3 s: a fresh link may need a second before IPv6
/// finds its neighbours (RFC 4861 retransmits after 1 s).
pub fn ping(space: &Space, to: IpAddr) -> Result<Echo> {
    ping_within(space, to, Duration::from_secs(3))
}

/// The same for as long as told, with a request every 200 ms.
pub fn ping_within(space: &Space, to: IpAddr, patience: Duration) -> Result<Echo> {
    let attempt = || -> Result<Echo> {
        let end = Instant::now() + patience;
        let pinger = Pinger::new(to)?;
        while Instant::now() < end {
            if let Some(echo) = pinger.once(end.min(Instant::now() + Duration::from_millis(200)))? {
                return Ok(echo);
            }
        }
        bail!("no reply within {patience:?}")
    };
    space
        .run(attempt)
        .with_context(|| format!("ICMP from {} to {to}", space.name()))
}

/// A raw socket for one destination.
struct Pinger {
    icmp: OwnedFd,
    to: IpAddr,
}

impl Pinger {
    fn new(to: IpAddr) -> Result<Pinger> {
        let (family, protocol) = match to {
            IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp),
            IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6),
        };
        let icmp = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol);
        Ok(Pinger {
            icmp: icmp.context("a raw socket")?,
            to,
        })
    }

    /// One request, and its reply if that comes in time.
    fn once(&self, until: Instant) -> Result<Option<Echo>> {
        static NEXT: AtomicU16 = AtomicU16::new(1);
        let mark = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let (request, reply) = if self.to.is_ipv4() {
            (8, 0)
        } else {
            (128, 129)
        };
        let mut message = [request, 0, 0, 0, mark[0], mark[1], 0, 1];
        let sum = checksum(&message); // over IPv6 the kernel replaces it
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let start = Instant::now();
        let (raw, to) = (
            self.icmp.as_raw_fd(),
            SockaddrStorage::from(SocketAddr::new(self.to, 0)),
        );
        sendto(raw, &message, &to, MsgFlags::empty()).context("sending")?;
        while readable(&self.icmp, until)? {
            let mut buffer = [0; 2048];
            let (length, _) = recvfrom::<SockaddrStorage>(raw, &mut buffer).context("receiving")?;
            // Over IPv4 a raw socket receives the IP header too.
            let header = if self.to.is_ipv4() {
                usize::from(buffer[0] & 0x0f) * 4
            } else {
                0
            };
            let answer = buffer[..length].get(header..).unwrap_or_default();
            if answer.first() == Some(&reply) && answer.get(4..6) == Some(&mark[..]) {
                let ttl = self.to.is_ipv4().then(|| buffer[8]);
                return Ok(Some(Echo {
                    time: start.elapsed(),
                    ttl,
                }));
            }
        }
        Ok(None)
    }
}

fn readable(socket: &OwnedFd, until: Instant) -> Result<bool> {
    let left = until.saturating_duration_since(Instant::now());
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    Ok(poll(&mut fds, PollTimeout::try_from(left)?)? > 0)
}

/// The Internet checksum (RFC 1071) of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    !((sum & 0xffff) + (sum >> 16)) as u16
}
