//! Dummy links: a place for addresses, with no wire behind it.

use netlink_packet_route::link::InfoKind;

use super::NewLink;
use crate::request::Request;

/// A dummy to be made.
#[derive(Clone, Copy, Debug)]
pub struct Dummy<'a> {
    /// The link itself.
    pub link: NewLink<'a>,
}

impl Dummy<'_> {
    /// Equals `ip link add NAME netns NS address MAC type dummy`.
    pub fn request(&self) -> Request {
        self.link.request("dummy", InfoKind::Dummy, None)
    }
}
