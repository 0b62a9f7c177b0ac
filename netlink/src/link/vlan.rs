//! VLANs of a bridge's port; the kernel needs `CONFIG_BRIDGE_VLAN_FILTERING`.

use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{
    AfSpecBridge, BridgeVlanInfo, BridgeVlanInfoFlags, LinkAttribute, LinkExtentMask, LinkMessage,
};

use super::{IFLA_AF_SPEC, RTM_GETLINK, RTM_SETLINK, by_index, read};
use crate::attributes;
use crate::error::Result;
use crate::request::{Request, emit};
use crate::socket::Socket;

const RTM_DELLINK: u16 = 17;

/// One VLAN that a port carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortVlan {
    /// VLAN id, 1–4094.
    pub id: u16,
    /// Whether untagged frames that come in belong to it (PVID).
    pub native: bool,
    /// Whether its frames go out untagged.
    pub untagged: bool,
}

impl PortVlan {
    /// Adds the port's native VLAN. Equals `bridge vlan add dev NAME vid ID pvid untagged`.
    pub fn add_native(index: u32, id: u16) -> Request {
        let vlan = info(
            id,
            BridgeVlanInfoFlags::Pvid | BridgeVlanInfoFlags::Untagged,
        );
        request(RTM_SETLINK, index, vec![vlan], "add", id)
    }

    /// Adds tagged VLANs. Equals `bridge vlan add dev NAME vid MIN-MAX`.
    pub fn add_tagged(index: u32, min: u16, max: u16) -> Request {
        let vlans = if min == max {
            vec![info(min, BridgeVlanInfoFlags::empty())]
        } else {
            vec![
                info(min, BridgeVlanInfoFlags::RangeBegin),
                info(max, BridgeVlanInfoFlags::RangeEnd),
            ]
        };
        request(RTM_SETLINK, index, vlans, "add", min)
    }

    /// Takes a VLAN from the port. Equals `bridge vlan delete dev NAME vid ID`.
    pub fn delete(index: u32, id: u16) -> Request {
        request(
            RTM_DELLINK,
            index,
            vec![info(id, BridgeVlanInfoFlags::empty())],
            "delete",
            id,
        )
    }
}

fn info(vid: u16, flags: BridgeVlanInfoFlags) -> AfSpecBridge {
    AfSpecBridge::VlanInfo(BridgeVlanInfo { flags, vid })
}

fn request(
    kind: u16,
    index: u32,
    vlans: Vec<AfSpecBridge>,
    verb: &'static str,
    id: u16,
) -> Request {
    let mut message = by_index(index);
    message.header.interface_family = AddressFamily::Bridge;
    message.attributes.push(LinkAttribute::AfSpecBridge(vlans));
    Request::new(
        kind,
        0,
        &message,
        verb,
        format!("VLAN {id} of bridge port {index}"),
    )
}

pub(crate) fn list(socket: &mut Socket, index: u32) -> Result<Vec<PortVlan>> {
    let mut message = LinkMessage::default();
    message.header.interface_family = AddressFamily::Bridge;
    message
        .attributes
        .push(LinkAttribute::ExtMask(vec![LinkExtentMask::Brvlan]));
    let ports = socket.dump(
        RTM_GETLINK,
        &emit(&message),
        "bridge VLANs",
        |_, payload| {
            let port = read::Message::new(payload)?;
            let mut entries = Vec::new();
            port.each(|kind, value| {
                if kind == IFLA_AF_SPEC {
                    entries = attributes::all::<AfSpecBridge>(read::ABOUT, value)?;
                }
                Ok(())
            })?;
            Ok((port.index == index).then_some(entries))
        },
    )?;
    Ok(ports
        .into_iter()
        .flatten()
        .filter_map(|entry| match entry {
            AfSpecBridge::VlanInfo(vlan) => Some(PortVlan {
                id: vlan.vid,
                native: vlan.flags.contains(BridgeVlanInfoFlags::Pvid),
                untagged: vlan.flags.contains(BridgeVlanInfoFlags::Untagged),
            }),
            _ => None,
        })
        .collect())
}
