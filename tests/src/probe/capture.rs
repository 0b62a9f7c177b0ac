//! Captures what a place sends and receives, as `tcpdump` does, over AF_PACKET.
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, anyhow};
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket,
    sockopt,
};

use super::Packet;
use crate::{Result, Space};

/// A running capture. Stop it to read it.
#[derive(Debug)]
pub struct Capture {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Packet>>,
}

impl Capture {
    /// Captures both directions on one interface of a place, or on all of them.
    pub fn start(space: &Space, interface: Option<&str>) -> Result<Capture> {
        let (raw, index) = space
            .run(|| open(interface))
            .with_context(|| format!("capturing in {}", space.name()))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let thread = std::thread::spawn(move || collect(&raw, index, &stopping));
        Ok(Capture { stop, thread })
    }

    /// Everything that was captured until now, in order.
    pub fn stop(self) -> Result<Vec<Packet>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .join()
            .map_err(|_| anyhow!("the capture panicked"))
    }
}

fn open(interface: Option<&str>) -> Result<(OwnedFd, Option<usize>)> {
    let index = match interface {
        Some(name) => Some(if_nametoindex(name).with_context(|| name.to_owned())? as usize),
        None => None,
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let raw = socket(
        AddressFamily::Packet,
        SockType::Raw,
        flags,
        SockProtocol::EthAll,
    )?;
    setsockopt(&raw, sockopt::RcvBufForce, &(16 << 20))?;
    Ok((raw, index))
}

/// Reads until told to stop and nothing is left in the socket.
fn collect(raw: &OwnedFd, index: Option<usize>, stop: &AtomicBool) -> Vec<Packet> {
    let (mut packets, mut buffer) = (Vec::new(), [0; 65536]);
    loop {
        match recvfrom::<LinkAddr>(raw.as_raw_fd(), &mut buffer) {
            Ok((length, from)) => {
                let here = index.is_none() || from.map(|from| from.ifindex()) == index;
                packets.extend(Packet::parse(&buffer[..length]).filter(|_| here));
            }
            Err(Errno::EAGAIN) if stop.load(Ordering::Relaxed) => return packets,
            Err(_) => {
                let mut fds = [PollFd::new(raw.as_fd(), PollFlags::POLLIN)];
                let _ = poll(&mut fds, PollTimeout::from(20_u8));
            }
        }
    }
}
