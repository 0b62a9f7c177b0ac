//! VLAN links (IEEE 802.1Q): what goes through one carries its number on the link below. The VLANs of a bridge's port
//! are another thing, in [`super::PortVlan`].

use netlink_packet_route::link::{InfoData, InfoKind, InfoVlan};

use super::NewLink;
use crate::request::Request;

/// A VLAN link to be made.
#[derive(Clone, Copy, Debug)]
pub struct Tagged<'a> {
    /// The link itself; it takes the MAC of the link below.
    pub link: NewLink<'a>,
    /// VLAN id, 0–4094.
    pub id: u16,
}

impl Tagged<'_> {
    /// Equals `ip link add link BELOW name NAME netns NS mtu BYTES type vlan id ID`.
    pub fn request(&self) -> Request {
        let data = vec![InfoVlan::Id(self.id)];
        self.link
            .request("vlan", InfoKind::Vlan, Some(InfoData::Vlan(data)))
    }
}

pub(super) fn read(settings: &[InfoVlan]) -> Option<u16> {
    settings.iter().find_map(|setting| match setting {
        InfoVlan::Id(id) => Some(*id),
        _ => None,
    })
}
