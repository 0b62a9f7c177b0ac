//! veth pairs across two network namespaces.

use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkMessage,
};

use super::{RTM_NEWLINK, info};
use crate::mac::Mac;
use crate::netns::Netns;
use crate::request::Request;

/// A veth pair to be made: one end here, its peer born in another namespace, all in one message.
/// The peer cannot be born up: the kernel refuses with `ENOTCONN` (drivers/net/veth.c, `veth_open`).
///
/// Either end is made with the one queue that it uses. Without that the kernel makes one for each CPU that the machine may
/// have, and then turns off all but one: two waits for RCU under the lock that all links share (`veth_init_queues`).
#[derive(Debug)]
pub struct Veth<'a> {
    /// Name of the end in the handle's namespace.
    pub name: &'a str,
    /// Name of the peer.
    pub peer_name: &'a str,
    /// Namespace of the peer.
    pub peer_netns: &'a Netns,
    /// MTU of both ends in bytes; the kernel's default (1500) where `None`.
    pub mtu: Option<u32>,
    /// MAC of this end.
    pub mac: Mac,
    /// MAC of the peer.
    pub peer_mac: Mac,
    /// Index of the bridge that this end becomes a port of.
    pub master: Option<u32>,
    /// Whether this end is born up.
    pub up: bool,
}

const ONE_QUEUE: [LinkAttribute; 2] =
    [LinkAttribute::NumTxQueues(1), LinkAttribute::NumRxQueues(1)];

impl Veth<'_> {
    /// Equals `ip link add NAME address MAC mtu M master BR up type veth peer name PEER netns NS
    /// address PEERMAC mtu M`.
    pub fn request(&self) -> Request {
        let mut peer = LinkMessage::default();
        peer.attributes = vec![
            LinkAttribute::IfName(self.peer_name.to_owned()),
            LinkAttribute::NetNsFd(self.peer_netns.as_fd().as_raw_fd()),
            LinkAttribute::Address(self.peer_mac.bytes().to_vec()),
        ];
        peer.attributes.extend(ONE_QUEUE);
        peer.attributes.extend(self.mtu.map(LinkAttribute::Mtu));

        let mut message = LinkMessage::default();
        if self.up {
            message.header.flags = LinkFlags::Up;
            message.header.change_mask = LinkFlags::Up;
        }
        message.attributes = vec![
            LinkAttribute::IfName(self.name.to_owned()),
            LinkAttribute::Address(self.mac.bytes().to_vec()),
        ];
        message.attributes.extend(ONE_QUEUE);
        message.attributes.extend(self.mtu.map(LinkAttribute::Mtu));
        message
            .attributes
            .extend(self.master.map(LinkAttribute::Controller));
        message.attributes.push(info(
            InfoKind::Veth,
            Some(InfoData::Veth(InfoVeth::Peer(peer))),
        ));
        let object = format!("veth {} with peer {}", self.name, self.peer_name);
        Request::new(
            RTM_NEWLINK,
            NLM_F_CREATE | NLM_F_EXCL,
            &message,
            "create",
            object,
        )
    }
}
