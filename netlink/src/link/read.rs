//! What the kernel says of a link.

use netlink_packet_route::link::{
    InfoBridge, InfoBridgePort, InfoIpVlan, InfoMacVlan, InfoVlan, InfoVrf, InfoVxlan,
};

use super::{BridgeInfo, IpvlanMode, Link, MacvlanMode, PortInfo, VxlanInfo, tagged, vrf};
use crate::attributes::{all, each, mac, number, split, text};
use crate::error::Result;

pub(super) const ABOUT: &str = "a link";
/// Length of `struct ifinfomsg`.
const HEADER: usize = 16;
pub(super) const IFF_UP: u32 = 1;
pub(super) const IFF_PROMISC: u32 = 1 << 8;
pub(super) const IFF_ALLMULTI: u32 = 1 << 9;
const IFF_LOWER_UP: u32 = 1 << 16;

// include/uapi/linux/if_link.h
pub(super) const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
pub(super) const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
pub(super) const IFLA_TXQLEN: u16 = 13;
const IFLA_LINKINFO: u16 = 18;
const IFLA_PROMISCUITY: u16 = 30;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_PROP_LIST: u16 = 52;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;

/// The message about one link: its fixed part, and its attributes.
pub(super) struct Message<'a> {
    /// Its number.
    pub index: u32,
    /// Its flags (`IFF_…`).
    pub flags: u32,
    attributes: &'a [u8],
}

impl<'a> Message<'a> {
    pub(super) fn new(payload: &'a [u8]) -> Result<Self> {
        let (header, attributes) = split::<HEADER>(ABOUT, payload)?;
        Ok(Self {
            index: number(&header[4..8]),
            flags: number(&header[8..12]),
            attributes,
        })
    }

    /// Hands over type and value of each attribute.
    pub(super) fn each(&self, mut take: impl FnMut(u16, &[u8]) -> Result<()>) -> Result<()> {
        each(ABOUT, self.attributes, &mut take)
    }
}

pub(crate) fn link(payload: &[u8]) -> Result<Link> {
    let message = Message::new(payload)?;
    let mut link = Link {
        index: message.index,
        up: message.flags & IFF_UP != 0,
        carrier: message.flags & IFF_LOWER_UP != 0,
        ..Link::default()
    };
    message.each(|kind, value| {
        match kind {
            IFLA_IFNAME => link.name = text(value),
            IFLA_ADDRESS => link.mac = mac(value),
            IFLA_MTU => link.mtu = number(value),
            IFLA_PROMISCUITY => link.promiscuity = number(value),
            IFLA_MASTER => link.master = Some(number(value)),
            IFLA_LINK => link.peer_index = Some(number(value)),
            IFLA_LINK_NETNSID => link.peer_netns_id = Some(number(value).cast_signed()),
            super::IFLA_IFALIAS => link.alias = Some(text(value)),
            IFLA_PROP_LIST => each(ABOUT, value, &mut |kind, value| {
                if kind == super::IFLA_ALT_IFNAME {
                    link.alternative_names.push(text(value));
                }
                Ok(())
            })?,
            IFLA_LINKINFO => info(&mut link, value)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(link)
}

fn info(link: &mut Link, nested: &[u8]) -> Result<()> {
    let mut port = String::new();
    each(ABOUT, nested, &mut |kind, value| {
        match kind {
            IFLA_INFO_KIND => link.kind = Some(text(value)),
            // The kernel says the kind before what is special about it.
            IFLA_INFO_DATA => match link.kind.as_deref() {
                Some("bridge") => {
                    link.bridge = Some(BridgeInfo::read(&all::<InfoBridge>(ABOUT, value)?))
                }
                Some("vxlan") => {
                    link.vxlan = Some(VxlanInfo::read(&all::<InfoVxlan>(ABOUT, value)?))
                }
                Some("macvlan") => {
                    link.macvlan = MacvlanMode::read(&all::<InfoMacVlan>(ABOUT, value)?)
                }
                Some("ipvlan") => link.ipvlan = IpvlanMode::read(&all::<InfoIpVlan>(ABOUT, value)?),
                Some("vlan") => link.vlan = tagged::read(&all::<InfoVlan>(ABOUT, value)?),
                Some("vrf") => link.vrf = vrf::read(&all::<InfoVrf>(ABOUT, value)?),
                _ => {}
            },
            IFLA_INFO_SLAVE_KIND => port = text(value),
            IFLA_INFO_SLAVE_DATA if port == "bridge" => {
                link.port = Some(PortInfo::read(&all::<InfoBridgePort>(ABOUT, value)?));
            }
            _ => {}
        }
        Ok(())
    })
}
