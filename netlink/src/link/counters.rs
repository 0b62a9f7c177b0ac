//! What a link has carried.

use netlink_packet_route::link::LinkMessage;

use super::read::Message;
use super::{RTM_GETLINK, by_index};
use crate::error::Result;
use crate::request::emit;
use crate::socket::Socket;

// include/uapi/linux/if_link.h
const IFLA_STATS64: u16 = 23;

/// Counters of a link since it was made (the beginning of `struct rtnl_link_stats64`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets received with an error.
    pub rx_errors: u64,
    /// Packets that an error kept from being sent.
    pub tx_errors: u64,
    /// Packets received and dropped.
    pub rx_dropped: u64,
    /// Packets dropped instead of being sent.
    pub tx_dropped: u64,
}

pub(crate) fn get(socket: &mut Socket, index: u32) -> Result<Option<Counters>> {
    let message: LinkMessage = by_index(index);
    let object = || format!("link {index}");
    let found = socket.get(RTM_GETLINK, &emit(&message), object, |payload| {
        let mut counters = Counters::default();
        Message::new(payload)?.each(|kind, value| {
            if kind == IFLA_STATS64 {
                counters = read(value);
            }
            Ok(())
        })?;
        Ok(counters)
    })?;
    Ok(found)
}

fn read(value: &[u8]) -> Counters {
    let (fields, _) = value.as_chunks::<8>();
    let field = |at: usize| fields.get(at).map_or(0, |bytes| u64::from_ne_bytes(*bytes));
    Counters {
        rx_packets: field(0),
        tx_packets: field(1),
        rx_bytes: field(2),
        tx_bytes: field(3),
        rx_errors: field(4),
        tx_errors: field(5),
        rx_dropped: field(6),
        tx_dropped: field(7),
    }
}
