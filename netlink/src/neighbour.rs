//! Permanent neighbours: the MAC behind an address, told instead of asked for.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE, Parseable};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::RouteProtocol;

use crate::error::{Error, Result};
use crate::mac::Mac;
use crate::request::{Request, emit};
use crate::socket::Socket;

pub(crate) const RTM_NEWNEIGH: u16 = 28;
pub(crate) const RTM_DELNEIGH: u16 = 29;
pub(crate) const RTM_GETNEIGH: u16 = 30;

/// A permanent neighbour, to be made or as the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Neighbour {
    /// Index of the link that it is behind.
    pub dev: u32,
    /// Its address.
    pub ip: IpAddr,
    /// Its MAC.
    pub mac: Mac,
    /// Who made it (`RTPROT_…`, as for routes); nobody in particular where `None`.
    pub protocol: Option<u8>,
}

impl Neighbour {
    /// Adds the neighbour, or replaces that with the same address. Equals
    /// `ip neighbour replace IP lladdr MAC dev NAME nud permanent [protocol P]`.
    pub fn replace(&self) -> Request {
        let mut message = self.message();
        message
            .attributes
            .push(NeighbourAttribute::LinkLayerAddress(
                self.mac.bytes().to_vec(),
            ));
        message.attributes.extend(
            self.protocol
                .map(|protocol| NeighbourAttribute::Protocol(RouteProtocol::from(protocol))),
        );
        self.request(
            RTM_NEWNEIGH,
            NLM_F_CREATE | NLM_F_REPLACE,
            &message,
            "replace",
        )
    }

    /// Deletes the neighbour. Equals `ip neighbour delete IP dev NAME`.
    pub fn delete(&self) -> Request {
        self.request(RTM_DELNEIGH, 0, &self.message(), "delete")
    }

    fn request(
        &self,
        kind: u16,
        flags: u16,
        message: &NeighbourMessage,
        verb: &'static str,
    ) -> Request {
        Request::new(
            kind,
            flags,
            message,
            verb,
            format!("neighbour {} on link {}", self.ip, self.dev),
        )
    }

    fn message(&self) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.ifindex = self.dev;
        message.header.state = NeighbourState::Permanent;
        let (family, address) = match self.ip {
            IpAddr::V4(v4) => (AddressFamily::Inet, NeighbourAddress::Inet(v4)),
            IpAddr::V6(v6) => (AddressFamily::Inet6, NeighbourAddress::Inet6(v6)),
        };
        message.header.family = family;
        message.attributes = vec![NeighbourAttribute::Destination(address)];
        message
    }
}

/// The permanent neighbours behind `dev`, of both families.
pub(crate) fn list(socket: &mut Socket, dev: u32) -> Result<Vec<Neighbour>> {
    let mut message = NeighbourMessage::default();
    message.attributes.push(NeighbourAttribute::IfIndex(dev));
    socket.dump(RTM_GETNEIGH, &emit(&message), "neighbours", |_, payload| {
        let found = parse(payload)?;
        Ok(found.filter(|neighbour| neighbour.dev == dev))
    })
}

pub(crate) fn parse(payload: &[u8]) -> Result<Option<Neighbour>> {
    let message = NeighbourMessage::parse(payload).map_err(Error::decode("a neighbour"))?;
    let (mut ip, mut mac, mut protocol) = (None, None, None);
    for attribute in message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => ip = Some(v4.into()),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => ip = Some(v6.into()),
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                mac = <[u8; 6]>::try_from(bytes).ok().map(Mac::from)
            }
            NeighbourAttribute::Protocol(by) => protocol = Some(u8::from(by)),
            _ => {}
        }
    }
    let permanent = message.header.state == NeighbourState::Permanent;
    let known = ip.zip(mac).filter(|_| permanent);
    Ok(known.map(|(ip, mac)| Neighbour {
        dev: message.header.ifindex,
        ip,
        mac,
        protocol,
    }))
}
