//! Routing policy rules: which table a packet is routed by, by its source.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};

use crate::attributes::{each, ip, number, split};
use crate::error::Result;
use crate::request::{Request, emit};
use crate::socket::Socket;

const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
const RTM_GETRULE: u16 = 34;

const ABOUT: &str = "a rule";
/// Length of `struct fib_rule_hdr`.
const HEADER: usize = 12;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

// include/uapi/linux/fib_rules.h
const FR_ACT_TO_TBL: u8 = 1;
const FRA_SRC: u16 = 2;
const FRA_PRIORITY: u16 = 6;
const FRA_TABLE: u16 = 15;
const FRA_PROTOCOL: u16 = 21;

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

pub(crate) fn parse(payload: &[u8]) -> Result<Option<Rule>> {
    let (header, attributes) = split::<HEADER>(ABOUT, payload)?;
    let [family, _, length, _, table, _, _, action, ..] = *header;
    let mut source: IpAddr = match family {
        AF_INET => [0, 0, 0, 0].into(),
        AF_INET6 => [0_u16; 8].into(),
        _ => return Ok(None),
    };
    let (mut table, mut priority, mut protocol) = (u32::from(table), None, None);
    each(ABOUT, attributes, &mut |kind, value| {
        match kind {
            FRA_SRC => source = ip(value).unwrap_or(source),
            FRA_TABLE => table = number(value),
            FRA_PRIORITY => priority = Some(number(value)),
            FRA_PROTOCOL => protocol = value.first().copied(),
            _ => {}
        }
        Ok(())
    })?;
    let source = IpNetwork::new(source, length).ok();
    Ok(source
        .filter(|_| action == FR_ACT_TO_TBL)
        .map(|source| Rule {
            source,
            table,
            priority,
            protocol,
        }))
}
