//! Settings of a bridge's port.

use netlink_packet_route::link::{
    BridgePortState, InfoBridgePort, InfoPortData, InfoPortKind, LinkAttribute, LinkInfo,
};

use super::{RTM_NEWLINK, alias_attribute, by_name};
use crate::request::Request;

/// Settings to be made on a port; `None` leaves one as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BridgePort<'a> {
    /// Its alias, at most 255 bytes.
    pub alias: Option<&'a str>,
    /// Send frames back where they came from.
    pub hairpin: Option<bool>,
    /// Keep it from talking to other isolated ports.
    pub isolated: Option<bool>,
}

/// A port as the kernel describes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortInfo {
    /// Whether the bridge forwards to and from it.
    pub forwarding: bool,
    /// Whether it sends frames back where they came from.
    pub hairpin: bool,
    /// Whether it cannot talk to other isolated ports.
    pub isolated: bool,
}

impl BridgePort<'_> {
    /// Equals `ip link set dev NAME alias A` and `bridge link set dev NAME [hairpin on|off] [isolated on|off]`.
    pub fn request(&self, port: &str) -> Request {
        let mut settings = Vec::new();
        settings.extend(self.hairpin.map(InfoBridgePort::HairpinMode));
        settings.extend(self.isolated.map(InfoBridgePort::Isolated));
        let mut message = by_name(port);
        message.attributes.extend(self.alias.map(alias_attribute));
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(InfoPortData::BridgePort(settings)),
        ]));
        // Not RTM_SETLINK, which passes port settings over (net/core/rtnetlink.c, rtnl_setlink).
        Request::new(
            RTM_NEWLINK,
            0,
            &message,
            "set up",
            format!("bridge port {port}"),
        )
    }
}

impl PortInfo {
    pub(super) fn read(settings: &[InfoBridgePort]) -> Self {
        Self {
            forwarding: settings.contains(&InfoBridgePort::State(BridgePortState::Forwarding)),
            hairpin: settings.contains(&InfoBridgePort::HairpinMode(true)),
            isolated: settings.contains(&InfoBridgePort::Isolated(true)),
        }
    }
}
