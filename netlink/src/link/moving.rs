//! Links that change their place or their name.

use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_route::link::{LinkAttribute, Prop};

use super::{RTM_SETLINK, alias_attribute, by_index, set};
use crate::netns::Netns;
use crate::request::Request;

const RTM_NEWLINKPROP: u16 = 108;
const RTM_DELLINKPROP: u16 = 109;

/// Moves a link to another namespace, where it is down, has the name `name` and the alias `alias`; its index may be
/// another there. Equals `ip link set dev NAME netns NS name NEW alias TEXT`.
pub fn move_to(index: u32, netns: &Netns, name: &str, alias: &str) -> Request {
    let mut message = by_index(index);
    message.attributes = vec![
        LinkAttribute::NetNsFd(netns.as_fd().as_raw_fd()),
        LinkAttribute::IfName(name.to_owned()),
        alias_attribute(alias),
    ];
    let object = format!("link {index} to another namespace as {name}");
    Request::new(RTM_SETLINK, 0, &message, "move", object)
}

/// Gives a link that is down another name. Equals `ip link set dev NAME name NEW`.
pub fn rename(index: u32, name: &str) -> Request {
    set(index, LinkAttribute::IfName(name.to_owned()), "rename")
}

/// Adds another name, up to 127 bytes, which goes with the link wherever it is moved (5.5). Equals
/// `ip link property add dev NAME altname OTHER`.
pub fn add_alternative_name(index: u32, other: &str) -> Request {
    alternative_name(RTM_NEWLINKPROP, index, other, "add")
}

/// Takes it away. Equals `ip link property del dev NAME altname OTHER`.
pub fn delete_alternative_name(index: u32, other: &str) -> Request {
    alternative_name(RTM_DELLINKPROP, index, other, "delete")
}

fn alternative_name(kind: u16, index: u32, other: &str, verb: &'static str) -> Request {
    let mut message = by_index(index);
    let property = Prop::AltIfName(other.to_owned());
    message
        .attributes
        .push(LinkAttribute::PropList(vec![property]));
    let object = format!("alternative name {other} of link {index}");
    Request::new(kind, 0, &message, verb, object)
}
