//! A transaction: messages that the kernel carries out all together or not at all.

use netlink_packet_core::{
    DefaultNla, NLA_F_NESTED, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, Nla,
};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, RuleAttribute, SetAttribute, TableAttribute,
};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterProtoFamily};
use nix::errno::Errno;

use super::{
    Attributes, Chain, DataMap, Element, Expr, SUBSYSTEM, Set, Table, chain, comment, element,
    message,
};
use crate::error::{Error, Result};
use crate::request::emit;
use crate::socket::{Socket, push, refusal};

const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
/// `NFNL_BATCH_GENID`, include/uapi/linux/netfilter/nfnetlink.h.
const BATCH_GENERATION: u16 = 1;

const NEW_TABLE: u16 = SUBSYSTEM;
const DELETE_TABLE: u16 = SUBSYSTEM | 2;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const DELETE_CHAIN: u16 = SUBSYSTEM | 5;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const DELETE_RULE: u16 = SUBSYSTEM | 8;
const NEW_SET: u16 = SUBSYSTEM | 9;
const DELETE_SET: u16 = SUBSYSTEM | 11;
const NEW_ELEMENT: u16 = SUBSYSTEM | 12;
const DELETE_ELEMENT: u16 = SUBSYSTEM | 14;

/// `NFTA_RULE_EXPRESSIONS`.
const EXPRESSIONS: u16 = 4;

/// Elements in one message: an attribute holds at most 64 KiB.
const ELEMENTS: usize = 200;

/// Changes to one table, to be committed together.
#[derive(Debug)]
pub struct Transaction {
    table: Table,
    generation: Option<u32>,
    messages: Vec<Message>,
    sets: u32,
}

#[derive(Debug)]
struct Message {
    kind: u16,
    flags: u16,
    payload: Vec<u8>,
    verb: &'static str,
    object: String,
}

impl Transaction {
    /// An empty transaction on `table`.
    pub fn new(table: Table) -> Self {
        Self {
            table,
            generation: None,
            messages: Vec::new(),
            sets: 0,
        }
    }

    /// Lets the commit fail with [`Error::Stale`] if the ruleset is no longer that of `generation`.
    pub fn if_generation(&mut self, generation: u32) {
        self.generation = Some(generation);
    }

    /// Adds the table if it is not there. Equals `nft add table`.
    pub fn add_table(&mut self) {
        let name = [TableAttribute::Name(self.table.name.to_owned())];
        self.push(
            NEW_TABLE,
            NLM_F_CREATE,
            &name,
            "create",
            format!("nftables table {}", self.table.name),
        );
    }

    /// Deletes the table and all that is in it. Equals `nft delete table`.
    pub fn delete_table(&mut self) {
        let name = [TableAttribute::Name(self.table.name.to_owned())];
        self.push(
            DELETE_TABLE,
            0,
            &name,
            "delete",
            format!("nftables table {}", self.table.name),
        );
    }

    /// Adds a chain if it is not there. Equals `nft add chain`.
    pub fn add_chain(&mut self, chain: &Chain) {
        let attributes = chain.attributes(self.table);
        self.push(
            NEW_CHAIN,
            NLM_F_CREATE,
            &attributes,
            "create",
            format!("nftables chain {}", chain.name),
        );
    }

    /// Deletes a chain with its rules; refused (`EBUSY`) while others jump to it. Equals
    /// `nft delete chain`, after `nft flush chain`.
    pub fn delete_chain(&mut self, name: &str) {
        let attributes: Vec<ChainAttribute> = chain::by_name(self.table, name);
        self.push(
            DELETE_CHAIN,
            0,
            &attributes,
            "delete",
            format!("nftables chain {name}"),
        );
    }

    /// Adds a rule at the end of a chain; a comment is at most 127 bytes long. Equals `nft add rule`.
    pub fn add_rule(&mut self, chain: &str, rule: Expr, note: Option<&str>) {
        self.push_rule(chain, rule, note, NLM_F_APPEND);
    }

    /// Puts a rule before all others of a chain. Equals `nft insert rule`.
    pub fn insert_rule(&mut self, chain: &str, rule: Expr, note: Option<&str>) {
        self.push_rule(chain, rule, note, 0);
    }

    /// Deletes a rule by its number. Equals `nft delete rule … handle NUMBER`.
    pub fn delete_rule(&mut self, chain: &str, handle: u64) {
        let attributes = [
            RuleAttribute::Table(self.table.name.to_owned()),
            RuleAttribute::Chain(chain.to_owned()),
            RuleAttribute::Handle(handle),
        ];
        let object = format!("a rule in nftables chain {chain}");
        self.push(DELETE_RULE, 0, &attributes, "delete", object);
    }

    fn push_rule(&mut self, chain: &str, rule: Expr, note: Option<&str>, place: u16) {
        let mut attributes = vec![
            RuleAttribute::Table(self.table.name.to_owned()),
            RuleAttribute::Chain(chain.to_owned()),
            RuleAttribute::Other(DefaultNla::new(
                EXPRESSIONS | NLA_F_NESTED,
                rule.into_bytes(),
            )),
        ];
        attributes.extend(note.map(comment).map(RuleAttribute::UserData));
        self.push(
            NEW_RULE,
            NLM_F_CREATE | place,
            &attributes,
            "create",
            format!("a rule in nftables chain {chain}"),
        );
    }

    /// Adds a set or verdict map if it is not there. Equals `nft add set`, `nft add map`.
    pub fn add_set(&mut self, set: &Set) {
        self.sets += 1;
        let attributes = set.attributes(self.table, self.sets);
        self.push_set(NEW_SET, &attributes, "create", set.name);
    }

    /// Adds a map of data if it is not there. Equals `nft add map`.
    pub fn add_map(&mut self, map: &DataMap) {
        self.sets += 1;
        let attributes = map.attributes(self.table, self.sets);
        self.push_set(NEW_SET, &attributes, "create", map.name);
    }

    /// Deletes a set or map with its elements; refused (`EBUSY`) while a rule uses it. Equals
    /// `nft delete set`, `nft delete map`.
    pub fn delete_set(&mut self, name: &str) {
        let attributes = [
            SetAttribute::Table(self.table.name.to_owned()),
            SetAttribute::Name(name.to_owned()),
        ];
        self.push_set(DELETE_SET, &attributes, "delete", name);
    }

    /// Adds elements to a set or map; refused (`EEXIST`) when one is there. Equals `nft create element`.
    pub fn add_elements(&mut self, set: &str, elements: &[Element]) {
        for some in elements.chunks(ELEMENTS) {
            let attributes = element::attributes(self.table, set, some);
            self.push(
                NEW_ELEMENT,
                NLM_F_CREATE | NLM_F_EXCL,
                &attributes,
                "create",
                format!("elements in nftables set {set}"),
            );
        }
    }

    /// Deletes elements by their keys; refused (`ENOENT`) when one is not there. Equals
    /// `nft delete element`.
    pub fn delete_elements(&mut self, set: &str, elements: &[Element]) {
        for some in elements.chunks(ELEMENTS) {
            let attributes = element::attributes(self.table, set, some);
            self.push(
                DELETE_ELEMENT,
                0,
                &attributes,
                "delete",
                format!("elements in nftables set {set}"),
            );
        }
    }

    fn push_set(&mut self, kind: u16, attributes: &[impl Nla], verb: &'static str, name: &str) {
        let flags = if kind == NEW_SET { NLM_F_CREATE } else { 0 };
        let object = format!("nftables set {name}");
        self.push(kind, flags, attributes, verb, object);
    }

    fn push(
        &mut self,
        kind: u16,
        flags: u16,
        attributes: &[impl Nla],
        verb: &'static str,
        object: String,
    ) {
        let payload = message(self.table.family, &Attributes(attributes));
        self.messages.push(Message {
            kind,
            flags: flags | NLM_F_REQUEST,
            payload,
            verb,
            object,
        });
    }

    pub(super) fn commit(&self, socket: &mut Socket) -> Result<()> {
        if self.messages.is_empty() {
            return Ok(());
        }
        let count = u32::try_from(self.messages.len()).unwrap_or(u32::MAX);
        let begin = socket.reserve(count + 2);
        let last = begin.wrapping_add(count);
        socket.send(&self.encode(begin))?;
        // The kernel looks at each message, also behind one that it refuses, and answers the refused
        // ones and the last. What concerns the batch as a whole it answers under the first's number.
        let mut failure: Option<(u32, Errno, Option<String>)> = None;
        let mut done = false;
        while !done {
            socket.receive(|answer| {
                let index = answer.sequence.wrapping_sub(begin);
                if index > count {
                    return Ok(());
                }
                done |= answer.sequence == last || answer.sequence == begin;
                if let Some((errno, text)) = refusal(&answer)
                    && failure
                        .as_ref()
                        .is_none_or(|(earlier, ..)| index < *earlier)
                {
                    failure = Some((index, errno, text));
                }
                Ok(())
            })?;
        }
        match failure {
            None => Ok(()),
            Some((0, Errno::ERESTART, _)) if self.generation.is_some() => Err(Error::Stale),
            Some((index, errno, text)) => Err(self.refused(index, errno, text)),
        }
    }

    fn encode(&self, begin: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        // The batch is for the nftables subsystem: its number, in the header's resource id.
        let mut header = emit(&NetfilterHeader::new(
            NetfilterProtoFamily::Unspec,
            0,
            SUBSYSTEM >> 8,
        ));
        let end = header.clone();
        if let Some(generation) = self.generation {
            header.extend(emit(&DefaultNla::new(
                BATCH_GENERATION,
                generation.to_be_bytes().to_vec(),
            )));
        }
        push(&mut bytes, BATCH_BEGIN, NLM_F_REQUEST, begin, &header);
        let mut sequence = begin;
        for (index, message) in self.messages.iter().enumerate() {
            sequence = sequence.wrapping_add(1);
            let ack = if index + 1 == self.messages.len() {
                NLM_F_ACK
            } else {
                0
            };
            push(
                &mut bytes,
                message.kind,
                message.flags | ack,
                sequence,
                &message.payload,
            );
        }
        push(
            &mut bytes,
            BATCH_END,
            NLM_F_REQUEST,
            sequence.wrapping_add(1),
            &end,
        );
        bytes
    }

    fn refused(&self, index: u32, errno: Errno, text: Option<String>) -> Error {
        let culprit = (index as usize)
            .checked_sub(1)
            .and_then(|index| self.messages.get(index));
        match culprit {
            Some(Message { verb, object, .. }) => Error::Kernel {
                verb,
                object: object.clone(),
                errno,
                text,
            },
            None => Error::Kernel {
                verb: "change",
                object: format!("nftables table {}", self.table.name),
                errno,
                text,
            },
        }
    }
}
