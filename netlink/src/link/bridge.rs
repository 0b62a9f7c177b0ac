//! Bridges.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::link::{InfoBridge, InfoData, InfoKind, LinkAttribute, LinkMessage};

use super::{RTM_NEWLINK, by_index, info};
use crate::request::Request;

/// A bridge to be made; it is born down.
#[derive(Debug, Default)]
pub struct Bridge<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its MTU in bytes; the kernel's default (1500) where `None`.
    pub mtu: Option<u32>,
    /// Whether it keeps VLANs apart.
    pub vlan_filtering: bool,
}

/// What is special about a bridge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BridgeInfo {
    /// Whether it keeps VLANs apart.
    pub vlan_filtering: bool,
}

impl Bridge<'_> {
    /// Equals `ip link add NAME mtu M type bridge [vlan_filtering 1]`.
    pub fn request(&self) -> Request {
        let mut message = LinkMessage::default();
        message
            .attributes
            .push(LinkAttribute::IfName(self.name.to_owned()));
        message.attributes.extend(self.mtu.map(LinkAttribute::Mtu));
        let data = self
            .vlan_filtering
            .then(|| InfoData::Bridge(vec![InfoBridge::VlanFiltering(true)]));
        message.attributes.push(info(InfoKind::Bridge, data));
        let object = format!("bridge {}", self.name);
        Request::new(
            RTM_NEWLINK,
            NLM_F_CREATE | NLM_F_EXCL,
            &message,
            "create",
            object,
        )
    }
}

impl BridgeInfo {
    pub(super) fn read(settings: &[InfoBridge]) -> Self {
        Self {
            vlan_filtering: settings.contains(&InfoBridge::VlanFiltering(true)),
        }
    }
}

/// Lets a bridge keep VLANs apart, or no longer. Equals
/// `ip link set dev NAME type bridge vlan_filtering 0|1`; the kernel needs `CONFIG_BRIDGE_VLAN_FILTERING`.
pub fn set_vlan_filtering(index: u32, on: bool) -> Request {
    let mut message = by_index(index);
    let data = InfoData::Bridge(vec![InfoBridge::VlanFiltering(on)]);
    message.attributes.push(info(InfoKind::Bridge, Some(data)));
    Request::new(
        RTM_NEWLINK,
        0,
        &message,
        "set VLAN filtering of",
        format!("bridge {index}"),
    )
}
