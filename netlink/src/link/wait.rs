//! Waiting for a bridge port to forward, told by the kernel and not by polling.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::get_by_name;
use crate::error::{Error, Result};
use crate::socket::Socket;

/// `RTNLGRP_LINK`, include/uapi/linux/rtnetlink.h.
const LINK_EVENTS: u32 = 1;

/// True as soon as the bridge forwards to and from `port`, false when `patience` runs out.
pub(crate) fn forwarding(socket: &mut Socket, port: &str, patience: Duration) -> Result<bool> {
    let forwards = |socket: &mut Socket| -> Result<bool> {
        let link = get_by_name(socket, port)?;
        Ok(link
            .and_then(|link| link.port)
            .is_some_and(|port| port.forwarding))
    };
    if forwards(socket)? {
        return Ok(true);
    }
    let deadline = Instant::now() + patience;
    let mut events = Socket::open(netlink_sys::protocols::NETLINK_ROUTE)?;
    events.subscribe(LINK_EVENTS)?;
    // Ask again before each wait: what happened before the subscription sends no event.
    while !forwards(socket)? {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || !readable(&events, left)? {
            return Ok(false);
        }
        match events.receive(|_| Ok(())) {
            // More happened than the socket could hold: the port may be among it.
            Err(error) if error.errno() == Some(Errno::ENOBUFS) => {}
            outcome => outcome?,
        }
    }
    Ok(true)
}

fn readable(events: &Socket, patience: Duration) -> Result<bool> {
    let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
    let mut descriptors = [PollFd::new(events.as_fd(), PollFlags::POLLIN)];
    let ready = poll(&mut descriptors, timeout)
        .map_err(|errno| Error::io("wait for link events")(errno.into()))?;
    Ok(ready > 0)
}
