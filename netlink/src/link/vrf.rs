//! VRF links: what is enslaved to one routes by its table alone.

use netlink_packet_route::link::{InfoData, InfoKind, InfoVrf, LinkAttribute};

use super::{NewLink, set};
use crate::request::Request;

/// A VRF to be made.
#[derive(Clone, Copy, Debug)]
pub struct Vrf<'a> {
    /// The link itself.
    pub link: NewLink<'a>,
    /// Number of its routing table.
    pub table: u32,
}

impl Vrf<'_> {
    /// Equals `ip link add NAME type vrf table TABLE`.
    pub fn request(&self) -> Request {
        let data = vec![InfoVrf::TableId(self.table)];
        self.link
            .request("vrf", InfoKind::Vrf, Some(InfoData::Vrf(data)))
    }
}

/// Puts a link under another, a VRF or a bridge, or takes it out. Equals `ip link set dev NAME master MASTER` or
/// `ip link set dev NAME nomaster`.
pub fn set_master(index: u32, master: Option<u32>) -> Request {
    let master = LinkAttribute::Controller(master.unwrap_or_default());
    set(index, master, "set the master of")
}

pub(super) fn read(settings: &[InfoVrf]) -> Option<u32> {
    settings.iter().find_map(|setting| match setting {
        InfoVrf::TableId(table) => Some(*table),
        _ => None,
    })
}
