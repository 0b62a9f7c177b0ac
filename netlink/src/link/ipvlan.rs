//! ipvlan links: addresses of one's own on another link's wire, under that link's MAC.

use netlink_packet_route::link::{InfoData, InfoIpVlan, InfoKind, IpVlanMode};

use super::NewLink;
use crate::request::Request;

/// Where packets are told apart (`IPVLAN_MODE_…`, include/uapi/linux/if_link.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpvlanMode {
    /// On the link: broadcasts and neighbours as usual.
    L2,
    /// By routing only: no broadcasts.
    L3,
    /// As `L3`, and the host's rules and connection tracking see the packets.
    L3s,
}

/// An ipvlan to be made.
#[derive(Clone, Copy, Debug)]
pub struct Ipvlan<'a> {
    /// The link itself; it takes the MAC of the link below.
    pub link: NewLink<'a>,
    /// Where packets are told apart.
    pub mode: IpvlanMode,
}

impl Ipvlan<'_> {
    /// Equals `ip link add link BELOW name NAME netns NS mtu BYTES type ipvlan mode MODE`.
    pub fn request(&self) -> Request {
        let data = vec![InfoIpVlan::Mode(self.mode.into())];
        self.link
            .request("ipvlan", InfoKind::IpVlan, Some(InfoData::IpVlan(data)))
    }
}

impl IpvlanMode {
    pub(super) fn read(settings: &[InfoIpVlan]) -> Option<Self> {
        settings.iter().find_map(|setting| match setting {
            InfoIpVlan::Mode(IpVlanMode::L2) => Some(Self::L2),
            InfoIpVlan::Mode(IpVlanMode::L3) => Some(Self::L3),
            InfoIpVlan::Mode(IpVlanMode::L3S) => Some(Self::L3s),
            _ => None,
        })
    }
}

impl From<IpvlanMode> for IpVlanMode {
    fn from(mode: IpvlanMode) -> Self {
        match mode {
            IpvlanMode::L2 => Self::L2,
            IpvlanMode::L3 => Self::L3,
            IpvlanMode::L3s => Self::L3S,
        }
    }
}
