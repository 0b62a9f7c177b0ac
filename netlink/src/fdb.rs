//! The forwarding database of a VXLAN device: which peer has which MAC.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE, Parseable};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};

use crate::error::{Error, Result};
use crate::mac::Mac;
use crate::neighbour::{RTM_DELNEIGH, RTM_GETNEIGH, RTM_NEWNEIGH};
use crate::request::{Request, emit};
use crate::socket::Socket;

/// One row: frames to `mac` go to `dst`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FdbEntry {
    /// Index of the VXLAN device.
    pub dev: u32,
    /// The MAC, one row each.
    pub mac: Mac,
    /// Address of the peer on the underlay.
    pub dst: IpAddr,
}

impl FdbEntry {
    /// Adds the row, or replaces that of the same MAC. Equals
    /// `bridge fdb replace MAC dev NAME dst IP self permanent`.
    pub fn replace(&self) -> Request {
        self.request(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, "replace")
    }

    /// Deletes the row. Equals `bridge fdb delete MAC dev NAME dst IP self`.
    pub fn delete(&self) -> Request {
        self.request(RTM_DELNEIGH, 0, "delete")
    }

    fn request(&self, kind: u16, flags: u16, verb: &'static str) -> Request {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        message.header.ifindex = self.dev;
        message.header.flags = NeighbourFlags::Own;
        message.header.state = NeighbourState::Permanent;
        // The row's destination is an address of either family, whatever the message's family says.
        let dst = match self.dst {
            IpAddr::V4(v4) => NeighbourAddress::Inet(v4),
            IpAddr::V6(v6) => NeighbourAddress::Inet6(v6),
        };
        message.attributes = vec![
            NeighbourAttribute::LinkLayerAddress(self.mac.bytes().to_vec()),
            NeighbourAttribute::Destination(dst),
        ];
        let object = format!("FDB entry {} of link {}", self.mac, self.dev);
        Request::new(kind, flags, &message, verb, object)
    }
}

/// The rows of one VXLAN device that name a peer.
pub(crate) fn list(socket: &mut Socket, dev: u32) -> Result<Vec<FdbEntry>> {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = dev;
    let rows = socket.dump(RTM_GETNEIGH, &emit(&message), "the FDB", |_, payload| {
        let found = parse(payload)?;
        Ok(found.filter(|row| row.dev == dev))
    });
    match rows {
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        rows => rows,
    }
}

pub(crate) fn parse(payload: &[u8]) -> Result<Option<FdbEntry>> {
    let message = NeighbourMessage::parse(payload).map_err(Error::decode("an FDB entry"))?;
    let (mut mac, mut dst) = (None, None);
    for attribute in message.attributes {
        match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                mac = <[u8; 6]>::try_from(bytes).ok().map(Mac::from)
            }
            NeighbourAttribute::Destination(address) => dst = ip(address),
            _ => {}
        }
    }
    Ok(mac.zip(dst).map(|(mac, dst)| FdbEntry {
        dev: message.header.ifindex,
        mac,
        dst,
    }))
}

/// The packet crate gives bytes for a family that is not IP's.
fn ip(address: NeighbourAddress) -> Option<IpAddr> {
    match address {
        NeighbourAddress::Inet(v4) => Some(v4.into()),
        NeighbourAddress::Inet6(v6) => Some(v6.into()),
        NeighbourAddress::Other(bytes) => {
            let v4 = <[u8; 4]>::try_from(bytes.as_slice()).map(IpAddr::from);
            v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
                .ok()
        }
        _ => None,
    }
}
