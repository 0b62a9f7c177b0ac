//! What the kernel says of a link, taken apart as far as it is used: the packet crate would read every attribute of
//! every kind of link, which is an eighth of the program.

use netlink_packet_core::{DecodeError, NlaBuffer, NlasIterator, Parseable};
use netlink_packet_route::link::{
    InfoBridge, InfoBridgePort, InfoIpVlan, InfoMacVlan, InfoVlan, InfoVrf, InfoVxlan,
};

use super::{BridgeInfo, IpvlanMode, Link, MacvlanMode, PortInfo, VxlanInfo, tagged, vrf};
use crate::error::{Error, Result};
use crate::mac::Mac;

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
        let word = |at: usize| {
            let bytes = payload.get(at..at + 4)?;
            Some(u32::from_ne_bytes(bytes.try_into().ok()?))
        };
        let message = || {
            Some(Self {
                index: word(4)?,
                flags: word(8)?,
                attributes: payload.get(HEADER..)?,
            })
        };
        message().ok_or_else(|| Error::decode("a link")("a message that is cut short".into()))
    }

    /// Hands over type and value of each attribute.
    pub(super) fn each(&self, mut take: impl FnMut(u16, &[u8]) -> Result<()>) -> Result<()> {
        each(self.attributes, &mut take)
    }
}

pub(super) fn link(payload: &[u8]) -> Result<Link> {
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
            IFLA_PROP_LIST => each(value, &mut |kind, value| {
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
    each(nested, &mut |kind, value| {
        match kind {
            IFLA_INFO_KIND => link.kind = Some(text(value)),
            // The kernel says the kind before what is special about it.
            IFLA_INFO_DATA => match link.kind.as_deref() {
                Some("bridge") => link.bridge = Some(BridgeInfo::read(&all::<InfoBridge>(value)?)),
                Some("vxlan") => link.vxlan = Some(VxlanInfo::read(&all::<InfoVxlan>(value)?)),
                Some("macvlan") => link.macvlan = MacvlanMode::read(&all::<InfoMacVlan>(value)?),
                Some("ipvlan") => link.ipvlan = IpvlanMode::read(&all::<InfoIpVlan>(value)?),
                Some("vlan") => link.vlan = tagged::read(&all::<InfoVlan>(value)?),
                Some("vrf") => link.vrf = vrf::read(&all::<InfoVrf>(value)?),
                _ => {}
            },
            IFLA_INFO_SLAVE_KIND => port = text(value),
            IFLA_INFO_SLAVE_DATA if port == "bridge" => {
                link.port = Some(PortInfo::read(&all::<InfoBridgePort>(value)?));
            }
            _ => {}
        }
        Ok(())
    })
}

/// All attributes of a nest, as the packet crate reads them.
pub(super) fn all<T>(nested: &[u8]) -> Result<Vec<T>>
where
    T: for<'a> Parseable<NlaBuffer<&'a [u8]>>,
{
    let parse = |attribute: std::result::Result<NlaBuffer<_>, DecodeError>| T::parse(&attribute?);
    let all: std::result::Result<_, _> = NlasIterator::new(nested).map(parse).collect();
    all.map_err(Error::decode("a link"))
}

fn each(attributes: &[u8], take: &mut dyn FnMut(u16, &[u8]) -> Result<()>) -> Result<()> {
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute.map_err(Error::decode("a link"))?;
        take(attribute.kind(), attribute.value())?;
    }
    Ok(())
}

/// Text that ends with a zero byte, or with the attribute.
pub(super) fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&value[..end.unwrap_or(value.len())]).into_owned()
}

/// A number of four bytes; 0 for anything else.
pub(super) fn number(value: &[u8]) -> u32 {
    value.try_into().map_or(0, u32::from_ne_bytes)
}

/// A hardware address, where it has six bytes.
pub(super) fn mac(value: &[u8]) -> Option<Mac> {
    <[u8; 6]>::try_from(value).ok().map(Mac::from)
}
