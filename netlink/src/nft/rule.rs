//! Rules as the kernel has them: in which chain, and what their comments say.

use netlink_packet_core::{NlasIterator, Parseable};
use netlink_packet_netfilter::nftables::{RuleAttribute, RuleMessage};

use super::{Attributes, GET_RULE, Table, body, message, read_comment};
use crate::error::{Error, Result};
use crate::socket::Socket;

/// A rule, as far as its owner needs to know it again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleInfo {
    /// The chain that it is in.
    pub chain: String,
    /// Its comment.
    pub comment: Option<String>,
}

/// A rule, as far as its owner needs to know it to delete it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleHandle {
    /// Its number in its table.
    pub handle: u64,
    /// Its comment.
    pub comment: Option<String>,
}

/// The rules of one chain, in their order.
pub(super) fn handles(socket: &mut Socket, table: Table, chain: &str) -> Result<Vec<RuleHandle>> {
    let of_chain = [
        RuleAttribute::Table(table.name.to_owned()),
        RuleAttribute::Chain(chain.to_owned()),
    ];
    let query = message(table.family, &Attributes(&of_chain));
    let rules = socket.dump(GET_RULE, &query, "rules", |_, payload| {
        parse_handle(payload).map(Some)
    });
    match rules {
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        rules => rules,
    }
}

/// Reads nothing but what is needed: other programs' rules have expressions that are unknown here.
fn parse_handle(payload: &[u8]) -> Result<RuleHandle> {
    /// `NFTA_RULE_HANDLE`, `NFTA_RULE_USERDATA`.
    const HANDLE: u16 = 3;
    const USER_DATA: u16 = 7;
    let mut rule = RuleHandle::default();
    for attribute in NlasIterator::new(body(payload)) {
        let attribute = attribute.map_err(Error::decode("a rule"))?;
        match attribute.kind() {
            HANDLE => {
                let bytes = attribute.value().try_into().unwrap_or_default();
                rule.handle = u64::from_be_bytes(bytes);
            }
            USER_DATA => rule.comment = read_comment(attribute.value()),
            _ => {}
        }
    }
    Ok(rule)
}

/// The rules of a table, chain by chain, in their order.
pub(super) fn list(socket: &mut Socket, table: Table) -> Result<Vec<RuleInfo>> {
    let of_table = [RuleAttribute::Table(table.name.to_owned())];
    let query = message(table.family, &Attributes(&of_table));
    let rules = socket.dump(GET_RULE, &query, "rules", |_, payload| {
        parse(payload).map(Some)
    });
    match rules {
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        rules => rules,
    }
}

fn parse(payload: &[u8]) -> Result<RuleInfo> {
    let message = RuleMessage::parse(body(payload)).map_err(Error::decode("a rule"))?;
    let mut rule = RuleInfo::default();
    for attribute in message.attributes {
        match attribute {
            RuleAttribute::Chain(chain) => rule.chain = chain,
            RuleAttribute::UserData(bytes) => rule.comment = read_comment(&bytes),
            _ => {}
        }
    }
    Ok(rule)
}
