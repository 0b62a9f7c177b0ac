//! Links: what the kernel says of one, and the changes that go for all kinds. Each kind that is made
//! here has a file in `link/`.

mod bridge;
pub(crate) mod counters;
mod dummy;
mod ifb;
mod ipvlan;
mod macvlan;
mod moving;
mod new;
mod port;
pub(crate) mod read;
pub(crate) mod settings;
mod tagged;
mod veth;
pub(crate) mod vlan;
mod vrf;
mod vxlan;
pub(crate) mod wait;

use netlink_packet_core::{DefaultNla, NLA_F_NESTED, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::link::{
    InfoData, InfoKind, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage,
};

pub use self::bridge::{Bridge, BridgeInfo, set_vlan_filtering};
pub use self::counters::Counters;
pub use self::dummy::Dummy;
pub use self::ifb::Ifb;
pub use self::ipvlan::{Ipvlan, IpvlanMode};
pub use self::macvlan::{Macvlan, MacvlanMode};
pub use self::moving::{add_alternative_name, delete_alternative_name, move_to, rename};
pub use self::new::NewLink;
pub use self::port::{BridgePort, PortInfo};
pub use self::settings::{LinkSettings, set_all_multicast, set_tx_queue_length};
pub use self::tagged::Tagged;
pub use self::veth::Veth;
pub use self::vlan::PortVlan;
pub use self::vrf::{Vrf, set_master};
pub use self::vxlan::{Vxlan, VxlanInfo};
use crate::error::{Error, Result};
use crate::mac::Mac;
use crate::request::{Request, emit};
use crate::socket::Socket;

pub(crate) const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
pub(crate) const RTM_GETLINK: u16 = 18;
pub(crate) const RTM_SETLINK: u16 = 19;

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const IFLA_IFALIAS: u16 = 20;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_ALT_IFNAME: u16 = 53;
/// `IFLA_INET_CONF`, include/uapi/linux/if_link.h.
const IFLA_INET_CONF: u16 = 1;
/// `IFLA_INET6_ADDR_GEN_MODE` and `IN6_ADDR_GEN_MODE_NONE`, include/uapi/linux/if_link.h.
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const ADDR_GEN_MODE_NONE: u8 = 1;
/// `IPV4_DEVCONF_ARP_NOTIFY`, include/uapi/linux/ip.h.
const DEVCONF_ARP_NOTIFY: u16 = 22;

/// A link as the kernel describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// `bridge`, `veth`, `vxlan` …; `None` for a physical device and for `lo`.
    pub kind: Option<String>,
    /// Its hardware address, where that has six bytes.
    pub mac: Option<Mac>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Whether it is set up (`IFF_UP`).
    pub up: bool,
    /// How many asked for promiscuous mode.
    pub promiscuity: u32,
    /// Index of the bridge or other device that it is a port of.
    pub master: Option<u32>,
    /// Index of the other end of a veth pair, in that end's namespace, or of the device below.
    pub peer_index: Option<u32>,
    /// What its namespace calls the namespace of the other end; `None` when both are in the same.
    pub peer_netns_id: Option<i32>,
    /// Its alias.
    pub alias: Option<String>,
    /// What is special about a bridge.
    pub bridge: Option<BridgeInfo>,
    /// What is special about a port of a bridge.
    pub port: Option<PortInfo>,
    /// What is special about a VXLAN device.
    pub vxlan: Option<VxlanInfo>,
    /// Whom a macvlan can talk to.
    pub macvlan: Option<MacvlanMode>,
    /// Where an ipvlan tells packets apart.
    pub ipvlan: Option<IpvlanMode>,
    /// Number of a VLAN link.
    pub vlan: Option<u16>,
    /// Number of a VRF's routing table.
    pub vrf: Option<u32>,
    /// Its alternative names.
    pub alternative_names: Vec<String>,
    /// Whether there is a carrier (`IFF_LOWER_UP`).
    pub carrier: bool,
}

/// Sets a link up. Equals `ip link set dev NAME up`.
pub fn set_up(index: u32) -> Request {
    set_flags(index, LinkFlags::Up, LinkFlags::Up, "set up")
}

/// Sets a link down. Equals `ip link set dev NAME down`.
pub fn set_down(index: u32) -> Request {
    set_flags(index, LinkFlags::Up, LinkFlags::empty(), "set down")
}

/// Makes a link promiscuous, or no longer. Equals `ip link set dev NAME promisc on|off`.
pub fn set_promisc(index: u32, on: bool) -> Request {
    let flags = if on {
        LinkFlags::Promisc
    } else {
        LinkFlags::empty()
    };
    set_flags(index, LinkFlags::Promisc, flags, "set promiscuous mode of")
}

/// Sets the MTU, in bytes. Equals `ip link set dev NAME mtu BYTES`.
pub fn set_mtu(index: u32, mtu: u32) -> Request {
    set(index, LinkAttribute::Mtu(mtu), "set the MTU of")
}

/// Sets the MAC. Equals `ip link set dev NAME address MAC`.
pub fn set_mac(index: u32, mac: Mac) -> Request {
    set(
        index,
        LinkAttribute::Address(mac.bytes().to_vec()),
        "set the MAC of",
    )
}

/// Sets the alias, at most 255 bytes; the kernel passes one over in the message that makes a link. Equals
/// `ip link set dev NAME alias TEXT`.
pub fn set_alias(index: u32, alias: &str) -> Request {
    set(index, alias_attribute(alias), "set the alias of")
}

/// The same for a link whose index is not known yet, as in the batch that makes it. Equals
/// `ip link set dev NAME alias TEXT`.
pub fn set_alias_by_name(name: &str, alias: &str) -> Request {
    let mut message = by_name(name);
    message.attributes.push(alias_attribute(alias));
    let object = format!("link {name}");
    Request::new(RTM_SETLINK, 0, &message, "set the alias of", object)
}

/// Without the zero byte that the packet crate would put behind it: the kernel counts that one, so that 255 bytes
/// would be one too many.
fn alias_attribute(alias: &str) -> LinkAttribute {
    LinkAttribute::Other(DefaultNla::new(IFLA_IFALIAS, alias.as_bytes().to_vec()))
}

/// Lets a link announce its IPv4 addresses by gratuitous ARP when it comes up. Equals
/// `sysctl -w net.ipv4.conf.NAME.arp_notify=1`, without leaving netlink.
pub fn arp_notify(index: u32) -> Request {
    let setting = emit(&DefaultNla::new(
        DEVCONF_ARP_NOTIFY,
        1_u32.to_ne_bytes().to_vec(),
    ));
    let settings = emit(&DefaultNla::new(IFLA_INET_CONF | NLA_F_NESTED, setting));
    let family = emit(&DefaultNla::new(AF_INET | NLA_F_NESTED, settings));
    set(
        index,
        LinkAttribute::Other(DefaultNla::new(IFLA_AF_SPEC | NLA_F_NESTED, family)),
        "set arp_notify of",
    )
}

/// Keeps the kernel from giving a link an IPv6 address of its own, which it announces and has probed: nobody speaks to a
/// link that only queues. Refused where a link cannot have any, see [`Error::is_without_ipv6`]. Equals
/// `ip link set dev NAME addrgenmode none`.
pub fn no_link_local(name: &str) -> Request {
    let mode = emit(&DefaultNla::new(
        IFLA_INET6_ADDR_GEN_MODE,
        vec![ADDR_GEN_MODE_NONE],
    ));
    let family = emit(&DefaultNla::new(AF_INET6 | NLA_F_NESTED, mode));
    let mut message = by_name(name);
    message
        .attributes
        .push(LinkAttribute::Other(DefaultNla::new(
            IFLA_AF_SPEC | NLA_F_NESTED,
            family,
        )));
    let object = format!("link {name}");
    Request::new(RTM_SETLINK, 0, &message, "set addrgenmode of", object)
}

/// Deletes a link; the other end of a veth pair goes with it. Equals `ip link delete dev NAME`.
pub fn delete(index: u32) -> Request {
    Request::new(
        RTM_DELLINK,
        0,
        &by_index(index),
        "delete",
        format!("link {index}"),
    )
}

fn set(index: u32, attribute: LinkAttribute, verb: &'static str) -> Request {
    let mut message = by_index(index);
    message.attributes.push(attribute);
    Request::new(RTM_SETLINK, 0, &message, verb, format!("link {index}"))
}

fn set_flags(index: u32, mask: LinkFlags, flags: LinkFlags, verb: &'static str) -> Request {
    let mut message = by_index(index);
    message.header.flags = flags;
    message.header.change_mask = mask;
    Request::new(RTM_SETLINK, 0, &message, verb, format!("link {index}"))
}

pub(crate) fn by_index(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message
}

pub(crate) fn by_name(name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message
        .attributes
        .push(LinkAttribute::IfName(name.to_owned()));
    message
}

pub(crate) fn get_by_name(socket: &mut Socket, name: &str) -> Result<Option<Link>> {
    get(socket, by_name(name), || format!("link {name}"))
}

pub(crate) fn get_by_alternative_name(socket: &mut Socket, name: &str) -> Result<Option<Link>> {
    let mut message = LinkMessage::default();
    let attribute = DefaultNla::new(IFLA_ALT_IFNAME, [name.as_bytes(), &[0]].concat());
    message.attributes.push(LinkAttribute::Other(attribute));
    get(socket, message, || format!("link {name}"))
}

pub(crate) fn get_by_index(socket: &mut Socket, index: u32) -> Result<Option<Link>> {
    get(socket, by_index(index), || format!("link {index}"))
}

fn get(
    socket: &mut Socket,
    mut message: LinkMessage,
    object: impl Fn() -> String,
) -> Result<Option<Link>> {
    message.attributes.push(without_statistics());
    socket.get(RTM_GETLINK, &emit(&message), object, read::link)
}

pub(crate) fn list(socket: &mut Socket) -> Result<Vec<Link>> {
    let mut message = LinkMessage::default();
    message.attributes.push(without_statistics());
    socket.dump(RTM_GETLINK, &emit(&message), "links", |_, payload| {
        read::link(payload).map(Some)
    })
}

/// Whether the kernel can make links of a kind: it is asked for one with a name that no link can have, so that it
/// refuses in any case, and says why.
pub(crate) fn knows_kind(socket: &mut Socket, kind: &str) -> Result<bool> {
    let mut message = by_name(".");
    message
        .attributes
        .push(info(InfoKind::Other(kind.to_owned()), None));
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    let probe = Request::new(RTM_NEWLINK, flags, &message, "create", format!("a {kind}"));
    match socket.execute(&[probe]) {
        Err(error) if error.is_unknown_kind() => Ok(false),
        Err(error @ Error::Io { .. }) => Err(error),
        _ => Ok(true),
    }
}

/// Counters are two thirds of what the kernel says about a link.
fn without_statistics() -> LinkAttribute {
    LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])
}

/// `IFLA_LINKINFO` of a link that is to be made.
pub(crate) fn info(kind: InfoKind, data: Option<InfoData>) -> LinkAttribute {
    let mut infos = vec![LinkInfo::Kind(kind)];
    infos.extend(data.map(LinkInfo::Data));
    LinkAttribute::LinkInfo(infos)
}
