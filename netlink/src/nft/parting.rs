//! Closing a netfilter socket without waiting for it.
//!
//! When such a socket is closed, the kernel waits until whatever anybody has deleted in the namespace is freed, which is a
//! grace period of RCU later: ten milliseconds, for what nobody can see any more (`nft_rcv_nl_event`,
//! net/netfilter/nf_tables_api.c). The kernel waits by itself where it is the one that closes: it collects a socket that is
//! on its way through a pair of Unix sockets which nobody holds any more (`unix_gc`, net/unix/garbage.c; unix(7),
//! `SCM_RIGHTS`).

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair,
};

/// Two ends of a pair: on its way to the first are the first itself and a netfilter socket. Closed in this order, when
/// the netfilter socket has been closed already, the kernel finds all of it held by nobody but itself, and collects it.
#[derive(Debug)]
pub(super) struct Parting {
    _inside: OwnedFd,
    _outside: OwnedFd,
}

/// Sends a socket that is about to be closed on its way. Where that cannot be done, closing waits.
pub(super) fn part_with(socket: &impl AsFd) -> Option<Parting> {
    let (inside, outside) = socketpair(
        AddressFamily::Unix,
        SockType::Datagram,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
    .ok()?;
    let passengers = [inside.as_raw_fd(), socket.as_fd().as_raw_fd()];
    sendmsg::<()>(
        outside.as_raw_fd(),
        &[IoSlice::new(&[0])],
        &[ControlMessage::ScmRights(&passengers)],
        MsgFlags::MSG_DONTWAIT,
        None,
    )
    .ok()?;
    Some(Parting {
        _inside: inside,
        _outside: outside,
    })
}
