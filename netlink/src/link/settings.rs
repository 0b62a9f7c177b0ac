//! The settings of a link that are changed while it is in use, so that they can be put back.

use netlink_packet_core::Parseable;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};

use super::{RTM_GETLINK, by_name, set, set_flags, without_statistics};
use crate::error::{Error, Result};
use crate::mac::Mac;
use crate::request::{Request, emit};
use crate::socket::Socket;

/// Settings of one link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkSettings {
    /// The link's number in its namespace.
    pub index: u32,
    /// Its hardware address, where that has six bytes.
    pub mac: Option<Mac>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Whether it was made promiscuous by a setting, not by somebody who listens.
    pub promiscuous: bool,
    /// Whether it takes all multicast by a setting.
    pub all_multicast: bool,
    /// How many packets wait in its queue at most.
    pub tx_queue_length: u32,
}

/// Takes all multicast, or no longer. Equals `ip link set dev NAME allmulticast on|off`.
pub fn set_all_multicast(index: u32, on: bool) -> Request {
    let flags = if on {
        LinkFlags::Allmulti
    } else {
        LinkFlags::empty()
    };
    set_flags(
        index,
        LinkFlags::Allmulti,
        flags,
        "set allmulticast mode of",
    )
}

/// Sets how many packets wait at most. Equals `ip link set dev NAME txqueuelen PACKETS`.
pub fn set_tx_queue_length(index: u32, packets: u32) -> Request {
    set(
        index,
        LinkAttribute::TxQueueLen(packets),
        "set the queue length of",
    )
}

pub(crate) fn get(socket: &mut Socket, name: &str) -> Result<Option<LinkSettings>> {
    let mut message = by_name(name);
    message.attributes.push(without_statistics());
    socket.get(
        RTM_GETLINK,
        &emit(&message),
        || format!("link {name}"),
        parse,
    )
}

fn parse(payload: &[u8]) -> Result<LinkSettings> {
    let message = LinkMessage::parse(payload).map_err(Error::decode("a link"))?;
    let mut settings = LinkSettings {
        index: message.header.index,
        promiscuous: message.header.flags.contains(LinkFlags::Promisc),
        all_multicast: message.header.flags.contains(LinkFlags::Allmulti),
        ..LinkSettings::default()
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::Address(bytes) => {
                settings.mac = <[u8; 6]>::try_from(bytes).ok().map(Mac::from);
            }
            LinkAttribute::Mtu(mtu) => settings.mtu = mtu,
            LinkAttribute::TxQueueLen(packets) => settings.tx_queue_length = packets,
            _ => {}
        }
    }
    Ok(settings)
}
