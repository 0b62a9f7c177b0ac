//! Rules as the kernel has them: in which chain, and what their comments say.

use netlink_packet_core::NlasIterator;
use netlink_packet_netfilter::nftables::RuleAttribute;

use super::{Attributes, GET_RULE, Table, body, message, read_comment};
use crate::attributes;
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

/// A rule, as far as one needs to know it to delete it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleHandle {
    /// Its number in its table.
    pub handle: u64,
    /// Its comment, as `nft` or as `iptables` writes it.
    pub comment: Option<String>,
    /// The chain that it jumps to.
    pub jump: Option<String>,
    /// What it compares packets with or sets in them, such as an address in the network's byte order.
    pub values: Vec<Vec<u8>>,
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
pub(crate) fn parse_handle(payload: &[u8]) -> Result<RuleHandle> {
    /// `NFTA_RULE_HANDLE`, `NFTA_RULE_EXPRESSIONS`, `NFTA_RULE_USERDATA`.
    const HANDLE: u16 = 3;
    const EXPRESSIONS: u16 = 4;
    const USER_DATA: u16 = 7;
    let mut rule = RuleHandle::default();
    for attribute in NlasIterator::new(body(payload)) {
        let attribute = attribute.map_err(Error::decode("a rule"))?;
        match attribute.kind() {
            HANDLE => {
                let bytes = attribute.value().try_into().unwrap_or_default();
                rule.handle = u64::from_be_bytes(bytes);
            }
            EXPRESSIONS => {
                for expression in NlasIterator::new(attribute.value()) {
                    let expression = expression.map_err(Error::decode("a rule"))?;
                    rule.note(expression.value());
                }
            }
            USER_DATA => rule.comment = read_comment(attribute.value()),
            _ => {}
        }
    }
    Ok(rule)
}

impl RuleHandle {
    /// Notes what one expression says: `immediate` (a verdict or a value), `cmp`, and `iptables`' match `comment`.
    fn note(&mut self, expression: &[u8]) {
        /// `NFTA_EXPR_NAME`, `NFTA_EXPR_DATA`.
        const NAME: u16 = 1;
        const DATA: u16 = 2;
        /// `NFTA_IMMEDIATE_DATA`, `NFTA_CMP_DATA`; in them `NFTA_DATA_VALUE`, `NFTA_DATA_VERDICT`.
        const IMMEDIATE: u16 = 2;
        const COMPARED: u16 = 3;
        const VALUE: u16 = 1;
        const VERDICT: u16 = 2;
        /// `NFTA_VERDICT_CHAIN`.
        const CHAIN: u16 = 2;
        /// `NFTA_MATCH_NAME`, `NFTA_MATCH_INFO`.
        const MATCH: u16 = 1;
        const INFO: u16 = 3;
        let data = find(expression, DATA);
        match text(&find(expression, NAME)).as_str() {
            "immediate" => {
                let set = find(&data, IMMEDIATE);
                let chain = text(&find(&find(&set, VERDICT), CHAIN));
                self.jump = self
                    .jump
                    .take()
                    .or(Some(chain).filter(|chain| !chain.is_empty()));
                self.values.push(find(&set, VALUE));
            }
            "cmp" => self.values.push(find(&find(&data, COMPARED), VALUE)),
            "match" if text(&find(&data, MATCH)) == "comment" => {
                self.comment = Some(text(&find(&data, INFO)));
            }
            _ => {}
        }
    }
}

/// The value of the first attribute of a kind; nothing where there is none.
fn find(attributes: &[u8], kind: u16) -> Vec<u8> {
    let mut attributes = NlasIterator::new(attributes).filter_map(std::result::Result::ok);
    let found = attributes.find(|attribute| attribute.kind() == kind);
    found
        .map(|attribute| attribute.value().to_vec())
        .unwrap_or_default()
}

/// Text up to the first zero byte.
fn text(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
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

/// Reads nothing but what is needed: the expressions of a rule are most of it.
pub(crate) fn parse(payload: &[u8]) -> Result<RuleInfo> {
    /// `NFTA_RULE_CHAIN`, `NFTA_RULE_USERDATA`.
    const CHAIN: u16 = 2;
    const USER_DATA: u16 = 7;
    let mut rule = RuleInfo::default();
    attributes::each("a rule", body(payload), &mut |kind, value| {
        match kind {
            CHAIN => rule.chain = text(value),
            USER_DATA => rule.comment = read_comment(value),
            _ => {}
        }
        Ok(())
    })?;
    Ok(rule)
}
