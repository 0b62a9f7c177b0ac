//! nftables over netlink: atomic [`Transaction`]s and the questions that go before them.
//!
//! ```no_run
//! use netlink::nft::{Chain, Expr, Family, Handle, Hook, Table, Transaction};
//!
//! let table = Table { family: Family::Inet, name: "example" };
//! let mut batch = Transaction::new(table);
//! batch.add_table();
//! batch.add_chain(&Chain { name: "postrouting", hook: Some(Hook::SNAT_POSTROUTING) });
//! batch.add_rule("postrouting", Expr::source_in("10.0.0.0/24".parse()?).then(Expr::masquerade()), None);
//! Handle::new()?.commit(&batch)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Kernel side: `net/netfilter/nf_tables_api.c`, `include/uapi/linux/netfilter/nf_tables.h`.

pub(crate) mod chain;
pub(crate) mod element;
mod expr;
mod parting;
pub(crate) mod rule;
mod set;
mod transaction;

use netlink_packet_core::{DefaultNla, Emitable, Parseable};
use netlink_packet_netfilter::nftables::{GenAttribute, GenMessage};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterProtoFamily};

pub use self::chain::{Chain, ChainInfo, Hook};
pub use self::element::{Element, Value};
pub use self::expr::{Expr, Service};
use self::parting::Parting;
pub use self::rule::{RuleHandle, RuleInfo};
pub use self::set::{DataMap, Key, Set, Type};
pub use self::transaction::Transaction;
use crate::error::{Error, Result};
use crate::netns::Netns;
use crate::request::emit;
use crate::socket::Socket;

/// `NFNL_SUBSYS_NFTABLES` in the upper byte of a message type.
const SUBSYSTEM: u16 = 10 << 8;
const GET_CHAIN: u16 = SUBSYSTEM | 4;
const GET_RULE: u16 = SUBSYSTEM | 7;
const GET_ELEMENT: u16 = SUBSYSTEM | 13;
const GET_GENERATION: u16 = SUBSYSTEM | 16;
/// Length of `struct nfgenmsg`, which stands before the attributes.
const HEADER: usize = 4;

/// Which packets a table sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet,
    /// IPv4: where `iptables` has its tables.
    Ipv4,
    /// IPv6: where `ip6tables` has its tables.
    Ipv6,
    /// Frames that a bridge carries.
    Bridge,
}

/// A table; everything in it is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its family.
    pub family: Family,
    /// Its name.
    pub name: &'static str,
}

/// One netfilter socket in one network namespace; closed before what closes it without a wait.
#[derive(Debug)]
pub struct Handle(Socket, Option<Parting>);

impl Handle {
    /// Opens a handle on the calling thread's network namespace.
    ///
    /// # Errors
    /// When the kernel has no netfilter netlink.
    pub fn new() -> Result<Self> {
        let socket = Socket::open(netlink_sys::protocols::NETLINK_NETFILTER)?;
        Ok(Self(socket, None))
    }

    /// Opens a handle on another network namespace.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn in_netns(netns: &Netns) -> Result<Self> {
        netns.run(Self::new)?
    }

    /// Carries out all of `transaction` or none of it. Equals `nft -f FILE`.
    ///
    /// # Errors
    /// The refusal of the first message that failed; [`Error::Stale`] when the ruleset is not the
    /// generation that the transaction was made for.
    pub fn commit(&mut self, transaction: &Transaction) -> Result<()> {
        transaction.commit(&mut self.0)
    }

    /// The number of the ruleset as it is now: it changes with each transaction, anybody's.
    ///
    /// # Errors
    /// When the kernel has no nftables (`CONFIG_NF_TABLES`).
    pub fn generation(&mut self) -> Result<u32> {
        let found = self.0.get(
            GET_GENERATION,
            &message(Family::Inet, &Attributes::<DefaultNla>(&[])),
            || "the ruleset's generation".to_owned(),
            |payload| {
                let message =
                    GenMessage::parse(body(payload)).map_err(Error::decode("the ruleset"))?;
                Ok(message
                    .attributes
                    .into_iter()
                    .find_map(|attribute| match attribute {
                        GenAttribute::Id(id) => Some(id),
                        _ => None,
                    }))
            },
        )?;
        Ok(found.flatten().unwrap_or_default())
    }

    /// One chain; `None` when it, or its table, is not there. Equals `nft list chain`.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn chain(&mut self, table: Table, name: &str) -> Result<Option<ChainInfo>> {
        chain::get(&mut self.0, table, name)
    }

    /// The chains of a table; none when there is no such table. Equals `nft list table`.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn chains(&mut self, table: Table) -> Result<Vec<ChainInfo>> {
        chain::list(&mut self.0, table)
    }

    /// The rules of a table; none when there is no such table. Equals `nft list table`.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn rules(&mut self, table: Table) -> Result<Vec<RuleInfo>> {
        rule::list(&mut self.0, table)
    }

    /// The rules of one chain with what to delete them by; none when there is no such chain. Equals
    /// `nft --handle list chain`.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn rule_handles(&mut self, table: Table, chain: &str) -> Result<Vec<RuleHandle>> {
        rule::handles(&mut self.0, table, chain)
    }

    /// One element of a set by its key; `None` when it, its set or its table is not there. Equals
    /// `nft get element`.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn element(&mut self, table: Table, set: &str, key: &Key) -> Result<Option<Element>> {
        element::get(&mut self.0, table, set, key)
    }

    /// All elements of a set; none when there is no such set. Equals `nft list set`.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn elements(&mut self, table: Table, set: &str) -> Result<Vec<Element>> {
        element::list(&mut self.0, table, set)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.1 = parting::part_with(&self.0);
    }
}

impl Family {
    fn protocol(self) -> NetfilterProtoFamily {
        match self {
            Self::Inet => NetfilterProtoFamily::Inet,
            Self::Ipv4 => NetfilterProtoFamily::IPv4,
            Self::Ipv6 => NetfilterProtoFamily::IPv6,
            Self::Bridge => NetfilterProtoFamily::Bridge,
        }
    }
}

/// A list of attributes, so that it can be emitted.
struct Attributes<'a, T>(&'a [T]);

impl<T: netlink_packet_core::Nla> Emitable for Attributes<'_, T> {
    fn buffer_len(&self) -> usize {
        self.0.buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        self.0.emit(buffer);
    }
}

/// `struct nfgenmsg` and the attributes behind it.
fn message(family: Family, attributes: &impl Emitable) -> Vec<u8> {
    let mut bytes = emit(&NetfilterHeader::new(family.protocol(), 0, 0));
    bytes.extend(emit(attributes));
    bytes
}

/// The attributes of a message that came in.
fn body(payload: &[u8]) -> &[u8] {
    payload.get(HEADER..).unwrap_or_default()
}

/// A comment as the `nft` program stores and shows it: user data of type 0, closed by a zero byte
/// (`NFTNL_UDATA_RULE_COMMENT`, `NFTNL_UDATA_SET_ELEM_COMMENT` of libnftnl).
fn comment(text: &str) -> Vec<u8> {
    let mut bytes = vec![0, u8::try_from(text.len() + 1).unwrap_or(u8::MAX)];
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(0);
    bytes
}

/// The comment in user data, if there is one.
fn read_comment(mut user_data: &[u8]) -> Option<String> {
    while let [kind, length, rest @ ..] = user_data {
        let (value, behind) = rest.split_at_checked(usize::from(*length))?;
        if *kind == 0 {
            return Some(
                String::from_utf8_lossy(value)
                    .trim_end_matches('\0')
                    .to_owned(),
            );
        }
        user_data = behind;
    }
    None
}
