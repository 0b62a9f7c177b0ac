//! Routing policy rules: which table a packet is routed by, by its source.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, Parseable};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};

use crate::error::{Error, Result};
use crate::request::{Request, emit};
use crate::socket::Socket;

const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
const RTM_GETRULE: u16 = 34;

/// A rule that sends packets to a table, to be made or as the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Where packets come from; all addresses of the family for `0.0.0.0/0` and `::/0`.
    pub source: IpNetwork,
    /// Number of the table.
    pub table: u32,
    /// Its place, lower ones first; where `None` before all others but that for local addresses.
    pub priority: Option<u32>,
    /// Who made it (`RTPROT_…`, as for routes; 4.17); nobody in particular where `None`.
    pub protocol: Option<u8>,
}

impl Rule {
    /// Adds the rule; the very same one is an error. Equals `ip rule add from SOURCE table TABLE [priority N]
    /// [protocol P]`.
    pub fn create(&self) -> Request {
        self.request(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, "create")
    }

    /// Deletes the rule. Equals `ip rule delete from SOURCE table TABLE …`.
    pub fn delete(&self) -> Request {
        self.request(RTM_DELRULE, 0, "delete")
    }

    fn request(&self, kind: u16, flags: u16, verb: &'static str) -> Request {
        let mut message = RuleMessage::default();
        message.header.family = match self.source {
            IpNetwork::V4(_) => AddressFamily::Inet,
            IpNetwork::V6(_) => AddressFamily::Inet6,
        };
        message.header.src_len = self.source.prefix();
        message.header.action = RuleAction::ToTable;
        let attributes = &mut message.attributes;
        if self.source.prefix() > 0 {
            attributes.push(RuleAttribute::Source(self.source.network()));
        }
        // The real table stands in its attribute: the header's field has only eight bits.
        attributes.push(RuleAttribute::Table(self.table));
        attributes.extend(self.priority.map(RuleAttribute::Priority));
        attributes.extend(
            self.protocol
                .map(|protocol| RuleAttribute::Protocol(RouteProtocol::from(protocol))),
        );
        let object = format!("rule from {} to table {}", self.source, self.table);
        Request::new(kind, flags, &message, verb, object)
    }
}

/// The rules of both families that send packets to a table. Those that look at more than the source are told as if they
/// did not.
pub(crate) fn list(socket: &mut Socket) -> Result<Vec<Rule>> {
    let message = RuleMessage::default();
    socket.dump(RTM_GETRULE, &emit(&message), "rules", |_, payload| {
        parse(payload)
    })
}

fn parse(payload: &[u8]) -> Result<Option<Rule>> {
    let message = RuleMessage::parse(payload).map_err(Error::decode("a rule"))?;
    let header = message.header;
    let mut source: IpAddr = match header.family {
        AddressFamily::Inet => [0, 0, 0, 0].into(),
        AddressFamily::Inet6 => [0_u16; 8].into(),
        _ => return Ok(None),
    };
    let (mut table, mut priority, mut protocol) = (u32::from(header.table), None, None);
    for attribute in message.attributes {
        match attribute {
            RuleAttribute::Source(address) => source = address,
            RuleAttribute::Table(number) => table = number,
            RuleAttribute::Priority(number) => priority = Some(number),
            RuleAttribute::Protocol(by) => protocol = Some(u8::from(by)),
            _ => {}
        }
    }
    let source = IpNetwork::new(source, header.src_len).ok();
    let to_table = header.action == RuleAction::ToTable;
    Ok(source.filter(|_| to_table).map(|source| Rule {
        source,
        table,
        priority,
        protocol,
    }))
}
