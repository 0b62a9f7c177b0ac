//! The kernel's events: hints that something changed, to be answered by looking, never by believing.

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::link::{RTM_NEWLINK, RTM_SETLINK};
use crate::socket::Socket;

/// Multicast groups of include/uapi/linux/rtnetlink.h: links, neighbours, addresses and routes of both families, nexthops.
const GROUPS: [u32; 7] = [1, 3, 5, 7, 9, 11, 32];
/// Links, and `RTNLGRP_TC`: queueing disciplines and filters.
const LINKS_AND_QUEUES: [u32; 2] = [1, 4];
/// `NFNLGRP_NFTABLES`, include/uapi/linux/netfilter/nfnetlink.h.
const NFTABLES: u32 = 7;

/// Reads of one [`Monitor::drain`], each of many events: who only drains does nothing else.
const AT_ONCE: usize = 256;

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A link of this index came, went or changed.
    Link(u32),
    /// An address of the link of this index.
    Address(u32),
    /// A neighbour or an FDB row of the link of this index.
    Neighbour(u32),
    /// A queueing discipline or a filter of the link of this index.
    Queue(u32),
    /// A route that this protocol made.
    Route(u8),
    /// A nexthop that this protocol made.
    Nexthop(u8),
    /// The nftables ruleset.
    Ruleset,
    /// More happened than the socket could hold: look at everything.
    Lost,
}

/// A subscription to one netlink family's events. Poll it for reading, then [`Monitor::drain`] it. Equals `ip monitor`,
/// `nft monitor`.
#[derive(Debug)]
pub struct Monitor {
    socket: Socket,
    parse: fn(u16, &[u8]) -> Option<Event>,
}

impl Monitor {
    /// Events of links, addresses, neighbours, routes and nexthops in the calling thread's namespace.
    ///
    /// # Errors
    /// When there is no socket to be had.
    pub fn route() -> Result<Self> {
        Self::route_groups(&GROUPS)
    }

    /// Events of links and their queueing disciplines in the calling thread's namespace.
    ///
    /// # Errors
    /// When there is no socket to be had.
    pub fn links_and_queues() -> Result<Self> {
        Self::route_groups(&LINKS_AND_QUEUES)
    }

    fn route_groups(groups: &[u32]) -> Result<Self> {
        let mut socket = Socket::open(netlink_sys::protocols::NETLINK_ROUTE)?;
        groups
            .iter()
            .try_for_each(|&group| socket.subscribe(group))?;
        socket.set_non_blocking()?;
        Ok(Self {
            socket,
            parse: route_event,
        })
    }

    /// Events of the nftables ruleset.
    ///
    /// # Errors
    /// When the kernel has no netfilter netlink.
    pub fn nftables() -> Result<Self> {
        let mut socket = Socket::open(netlink_sys::protocols::NETLINK_NETFILTER)?;
        socket.subscribe(NFTABLES)?;
        socket.set_non_blocking()?;
        Ok(Self {
            socket,
            parse: |_, _| Some(Event::Ruleset),
        })
    }

    /// Hands over what has come in, without waiting. Of a flood that does not end it hands over a part; the rest keeps the
    /// socket readable.
    ///
    /// # Errors
    /// When the socket fails for good.
    pub fn drain(&mut self, mut each: impl FnMut(Event)) -> Result<()> {
        let parse = self.parse;
        for _ in 0..AT_ONCE {
            let received = self.socket.receive(|message| {
                parse(message.kind, message.payload)
                    .into_iter()
                    .for_each(&mut each);
                Ok(())
            });
            match received.as_ref().map_err(Error::errno) {
                Ok(()) => {}
                Err(Some(Errno::EAGAIN)) => return Ok(()),
                Err(Some(Errno::ENOBUFS)) => each(Event::Lost),
                Err(_) => return received,
            }
        }
        Ok(())
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The event in a message; its type and the fixed header say enough.
fn route_event(kind: u16, payload: &[u8]) -> Option<Event> {
    let index = || Some(u32::from_ne_bytes(payload.get(4..8)?.try_into().ok()?));
    match kind {
        RTM_NEWLINK..=RTM_SETLINK => index().map(Event::Link),
        // struct ifaddrmsg
        20..=22 => index().map(Event::Address),
        // struct rtmsg: the protocol is its sixth byte
        24..=26 => payload.get(5).copied().map(Event::Route),
        // struct ndmsg
        28..=30 => index().map(Event::Neighbour),
        // struct tcmsg
        36..=46 => index().map(Event::Queue),
        // struct nhmsg: the protocol is its third byte
        104..=106 => payload.get(2).copied().map(Event::Nexthop),
        _ => None,
    }
}
