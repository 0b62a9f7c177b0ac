//! Nexthop objects: where a route leads, by number, so that many routes share one. The packet crate has no type for
//! them (`struct nhmsg`, `NHA_…`: include/uapi/linux/nexthop.h; Linux 5.3).

use std::net::IpAddr;

use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NlasIterator};

use crate::error::{Error, Result};
use crate::request::{Bytes, Request, emit};
use crate::socket::Socket;

const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;
const RTM_GETNEXTHOP: u16 = 106;

const NHA_ID: u16 = 1;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
/// `RTNH_F_ONLINK`, include/uapi/linux/rtnetlink.h.
const ONLINK: u32 = 4;
/// Length of `struct nhmsg`.
const HEADER: usize = 8;
const AF_UNSPEC: u8 = 0;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// A nexthop, to be made or as the kernel has it. Routes of IPv4 may use a gateway of IPv6, not the other way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Nexthop {
    /// Its number, not 0.
    pub id: u32,
    /// The gateway.
    pub gw: IpAddr,
    /// Index of the link by which to leave.
    pub dev: u32,
    /// Who made it (`RTPROT_…`).
    pub protocol: u8,
    /// Take the gateway for a neighbour even if no address of the link says so.
    pub onlink: bool,
}

impl Nexthop {
    /// Adds the nexthop; one of the same number, anybody's, is an error. Equals `ip nexthop add …`.
    pub fn create(&self) -> Request {
        self.request(
            RTM_NEWNEXTHOP,
            NLM_F_CREATE | NLM_F_EXCL,
            self.payload(),
            "create",
        )
    }

    /// Adds the nexthop, or replaces that of the same number under the routes that use it. Equals
    /// `ip nexthop replace id ID via GW dev NAME [onlink] protocol P`.
    pub fn replace(&self) -> Request {
        let flags = NLM_F_CREATE | NLM_F_REPLACE;
        self.request(RTM_NEWNEXTHOP, flags, self.payload(), "replace")
    }

    fn payload(&self) -> Vec<u8> {
        let family = if self.gw.is_ipv4() { AF_INET } else { AF_INET6 };
        let gateway = match self.gw {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        let flags = if self.onlink { ONLINK } else { 0 };
        let attributes = [
            DefaultNla::new(NHA_ID, self.id.to_ne_bytes().to_vec()),
            DefaultNla::new(NHA_OIF, self.dev.to_ne_bytes().to_vec()),
            DefaultNla::new(NHA_GATEWAY, gateway),
        ];
        message(family, self.protocol, flags, &attributes)
    }

    /// Deletes the nexthop, and the routes that use it. Equals `ip nexthop delete id ID`.
    pub fn delete(&self) -> Request {
        let id = [DefaultNla::new(NHA_ID, self.id.to_ne_bytes().to_vec())];
        self.request(RTM_DELNEXTHOP, 0, message(AF_UNSPEC, 0, 0, &id), "delete")
    }

    fn request(&self, kind: u16, flags: u16, payload: Vec<u8>, verb: &'static str) -> Request {
        Request::new(
            kind,
            flags,
            &Bytes(payload),
            verb,
            format!("nexthop {} via {}", self.id, self.gw),
        )
    }
}

fn message(family: u8, protocol: u8, flags: u32, attributes: &[DefaultNla]) -> Vec<u8> {
    let mut bytes = vec![family, 0, protocol, 0];
    bytes.extend(flags.to_ne_bytes());
    for attribute in attributes {
        bytes.extend(emit(attribute));
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

/// The nexthops that `protocol` made.
pub(crate) fn list(socket: &mut Socket, protocol: u8) -> Result<Vec<Nexthop>> {
    let query = message(AF_UNSPEC, 0, 0, &[]);
    socket.dump(RTM_GETNEXTHOP, &query, "nexthops", |_, payload| {
        Ok(parse(payload)?.filter(|nexthop| nexthop.protocol == protocol))
    })
}

/// A nexthop with a gateway; `None` for a group, a blackhole, and one that is only a link.
pub(crate) fn parse(payload: &[u8]) -> Result<Option<Nexthop>> {
    let (Some(header), Some(attributes)) = (payload.get(..HEADER), payload.get(HEADER..)) else {
        return Err(Error::decode("a nexthop")("it is cut short".into()));
    };
    let (mut id, mut dev, mut gw) = (None, None, None);
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute.map_err(Error::decode("a nexthop"))?;
        let value = attribute.value();
        let number = || value.try_into().ok().map(u32::from_ne_bytes);
        match attribute.kind() {
            NHA_ID => id = number(),
            NHA_OIF => dev = number(),
            NHA_GATEWAY => {
                let v4 = <[u8; 4]>::try_from(value).map(IpAddr::from);
                gw = v4
                    .or_else(|_| <[u8; 16]>::try_from(value).map(IpAddr::from))
                    .ok();
            }
            _ => {}
        }
    }
    let flags = header.get(4..8).and_then(|bytes| bytes.try_into().ok());
    let onlink = flags.map(u32::from_ne_bytes).unwrap_or_default() & ONLINK != 0;
    Ok(id.zip(dev).zip(gw).map(|((id, dev), gw)| Nexthop {
        id,
        gw,
        dev,
        protocol: header[2],
        onlink,
    }))
}
