//! Intermediate functional blocks: links that packets are sent through only to be queued.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkMessage};

use super::{RTM_NEWLINK, info};
use crate::request::Request;

/// A link of kind `ifb` to be made, down: to give it a queue once it is up the kernel waits for RCU.
#[derive(Debug)]
pub struct Ifb<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its MTU in bytes.
    pub mtu: u32,
}

impl Ifb<'_> {
    /// Equals `ip link add NAME mtu BYTES type ifb`.
    pub fn request(&self) -> Request {
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(self.name.to_owned()),
            LinkAttribute::Mtu(self.mtu),
            info(InfoKind::Ifb, None),
        ];
        Request::new(
            RTM_NEWLINK,
            NLM_F_CREATE | NLM_F_EXCL,
            &message,
            "create",
            format!("ifb {}", self.name),
        )
    }
}
