//! The settings of a link that are changed while it is in use, so that they can be put back.

use netlink_packet_route::link::{LinkAttribute, LinkFlags};

use super::{RTM_GETLINK, by_name, read, set, set_flags, without_statistics};
use crate::attributes;
use crate::error::Result;
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

pub(crate) fn parse(payload: &[u8]) -> Result<LinkSettings> {
    let message = read::Message::new(payload)?;
    let mut settings = LinkSettings {
        index: message.index,
        promiscuous: message.flags & read::IFF_PROMISC != 0,
        all_multicast: message.flags & read::IFF_ALLMULTI != 0,
        ..LinkSettings::default()
    };
    message.each(|kind, value| {
        match kind {
            read::IFLA_ADDRESS => settings.mac = attributes::mac(value),
            read::IFLA_MTU => settings.mtu = attributes::number(value),
            read::IFLA_TXQLEN => settings.tx_queue_length = attributes::number(value),
            _ => {}
        }
        Ok(())
    })?;
    Ok(settings)
}
