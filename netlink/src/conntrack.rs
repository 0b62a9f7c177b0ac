//! Tracked connections: which ones go to a port, and forgetting them.

use std::net::IpAddr;

use netlink_packet_core::{DefaultNla, NLA_F_NESTED, NlasIterator, Parseable};
use netlink_packet_netfilter::conntrack::{
    ConntrackAttribute, IPTuple, ProtoTuple, Protocol, Tuple,
};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterProtoFamily};

use crate::error::{Error, Result};
use crate::request::{Bytes, Request, emit};
use crate::socket::Socket;

/// `NFNL_SUBSYS_CTNETLINK` in the upper byte of a message type.
const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
/// Length of `struct nfgenmsg`, which stands before the attributes.
const HEADER: usize = 4;

/// One end of a connection and the other, as packets in one direction name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Direction {
    /// Source address.
    pub source: IpAddr,
    /// Source port.
    pub source_port: u16,
    /// Destination address.
    pub destination: IpAddr,
    /// Destination port.
    pub destination_port: u16,
}

/// A connection with ports, as the kernel tracks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Its protocol (`IPPROTO_…`).
    pub protocol: u8,
    /// Packets as they came in, before any translation.
    pub original: Direction,
    /// Packets of the answer, as they come in.
    pub reply: Direction,
}

/// One netfilter socket in one network namespace, for its connections.
#[derive(Debug)]
pub struct Handle(Socket);

impl Handle {
    /// Opens a handle on the calling thread's network namespace.
    ///
    /// # Errors
    /// When the kernel has no netfilter netlink.
    pub fn new() -> Result<Self> {
        Socket::open(netlink_sys::protocols::NETLINK_NETFILTER).map(Self)
    }

    /// The connections of one family and protocol whose first packet asked for `port`, or for any. The kernel does
    /// the choosing (since 5.8, and for one family only; before that it sends all, and they are chosen here), but
    /// looks through the whole table for it, that of all namespaces: 12 ms for the usual 262,144 buckets. Equals
    /// `conntrack -L -f FAMILY -p PROTOCOL --orig-port-dst PORT`.
    ///
    /// # Errors
    /// When the kernel does not track connections, or cannot list them (`CONFIG_NF_CT_NETLINK`).
    pub fn connections(
        &mut self,
        v6: bool,
        protocol: u8,
        port: Option<u16>,
    ) -> Result<Vec<Connection>> {
        let mut parts = vec![ProtoTuple::Protocol(Protocol::from(protocol))];
        parts.extend(port.map(ProtoTuple::DestinationPort));
        let wanted = ConntrackAttribute::CtaTupleOrig(vec![Tuple::Proto(parts)]);
        let mut query = message(family(v6), &wanted);
        query.extend(filter(port.is_some()));
        let found = self
            .0
            .dump(GET, &query, "connections", |_, payload| parse(payload))?;
        let wanted = |connection: &Connection| {
            connection.protocol == protocol
                && port.is_none_or(|port| connection.original.destination_port == port)
        };
        Ok(found.into_iter().filter(wanted).collect())
    }

    /// Forgets connections; one that has ended meanwhile is no error. Equals `conntrack -D`.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn forget(&mut self, connections: &[Connection]) -> Result<()> {
        for connection in connections {
            let request = Request::new(
                DELETE,
                0,
                &Bytes(message(
                    family(connection.original.source.is_ipv6()),
                    &ConntrackAttribute::CtaTupleOrig(tuple(connection)),
                )),
                "delete",
                format!("the connection of {}", connection.original.source),
            );
            match self.0.execute(&[request]) {
                Err(error) if error.is_not_found() => {}
                outcome => outcome?,
            }
        }
        Ok(())
    }
}

/// `CTA_FILTER`: that the protocol, and maybe the destination port, of the original direction must match.
fn filter(by_port: bool) -> Vec<u8> {
    /// `CTA_FILTER`, `CTA_FILTER_ORIG_FLAGS`, `CTA_FILTER_REPLY_FLAGS`, nfnetlink_conntrack.h.
    const FILTER: u16 = 25;
    const ORIGINAL: u16 = 1;
    const REPLY: u16 = 2;
    /// `CTA_FILTER_F_CTA_PROTO_NUM`, `CTA_FILTER_F_CTA_PROTO_DST_PORT`, net/netfilter/nf_conntrack_netlink.c.
    const PROTOCOL: u32 = 1 << 3;
    const DESTINATION_PORT: u32 = 1 << 5;
    let flags = PROTOCOL | if by_port { DESTINATION_PORT } else { 0 };
    let mut data = emit(&DefaultNla::new(ORIGINAL, flags.to_ne_bytes().to_vec()));
    data.extend(emit(&DefaultNla::new(REPLY, 0_u32.to_ne_bytes().to_vec())));
    emit(&DefaultNla::new(FILTER | NLA_F_NESTED, data))
}

fn tuple(connection: &Connection) -> Vec<Tuple> {
    let original = connection.original;
    vec![
        Tuple::Ip(vec![
            IPTuple::SourceAddress(original.source),
            IPTuple::DestinationAddress(original.destination),
        ]),
        Tuple::Proto(vec![
            ProtoTuple::Protocol(Protocol::from(connection.protocol)),
            ProtoTuple::SourcePort(original.source_port),
            ProtoTuple::DestinationPort(original.destination_port),
        ]),
    ]
}

fn family(v6: bool) -> NetfilterProtoFamily {
    if v6 {
        NetfilterProtoFamily::IPv6
    } else {
        NetfilterProtoFamily::IPv4
    }
}

fn message(family: NetfilterProtoFamily, attribute: &ConntrackAttribute) -> Vec<u8> {
    let mut bytes = emit(&NetfilterHeader::new(family, 0, 0));
    bytes.extend(emit(attribute));
    bytes
}

/// The connection; `None` for one without ports.
pub(crate) fn parse(payload: &[u8]) -> Result<Option<Connection>> {
    let body = payload.get(HEADER..).unwrap_or_default();
    let (mut original, mut reply) = (None, None);
    for attribute in NlasIterator::new(body) {
        let attribute = attribute.map_err(Error::decode("a connection"))?;
        match ConntrackAttribute::parse(&attribute).map_err(Error::decode("a connection"))? {
            ConntrackAttribute::CtaTupleOrig(tuple) => original = direction(&tuple),
            ConntrackAttribute::CtaTupleReply(tuple) => reply = direction(&tuple),
            _ => {}
        }
    }
    let Some(((protocol, original), (_, reply))) = original.zip(reply) else {
        return Ok(None);
    };
    Ok(Some(Connection {
        protocol,
        original,
        reply,
    }))
}

fn direction(tuple: &[Tuple]) -> Option<(u8, Direction)> {
    let (mut source, mut destination) = (None, None);
    let (mut protocol, mut source_port, mut destination_port) = (None, None, None);
    for part in tuple {
        match part {
            Tuple::Ip(addresses) => {
                for address in addresses {
                    match address {
                        IPTuple::SourceAddress(address) => source = Some(*address),
                        IPTuple::DestinationAddress(address) => destination = Some(*address),
                        _ => {}
                    }
                }
            }
            Tuple::Proto(fields) => {
                for field in fields {
                    match field {
                        ProtoTuple::Protocol(number) => protocol = Some(u8::from(*number)),
                        ProtoTuple::SourcePort(port) => source_port = Some(*port),
                        ProtoTuple::DestinationPort(port) => destination_port = Some(*port),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    let direction = Direction {
        source: source?,
        source_port: source_port?,
        destination: destination?,
        destination_port: destination_port?,
    };
    Some((protocol?, direction))
}
