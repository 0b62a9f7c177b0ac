//! Chains.

use netlink_packet_core::Parseable;
use netlink_packet_netfilter::nftables::{
    self, ChainAttribute, ChainMessage, HookNumber, InetHookNumber,
};

use super::{Attributes, GET_CHAIN, Table, body, message};
use crate::error::{Error, Result};
use crate::socket::Socket;

/// A chain to be made.
#[derive(Debug)]
pub struct Chain<'a> {
    /// Its name.
    pub name: &'a str,
    /// Where packets enter it; `None` for one that is only jumped to.
    pub hook: Option<Hook>,
}

/// Where a base chain hangs; its policy is to accept.
#[derive(Clone, Copy, Debug)]
pub struct Hook {
    number: InetHookNumber,
    /// Lower comes first.
    priority: i32,
    kind: &'static str,
}

/// A chain as the kernel has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChainInfo {
    /// Its name.
    pub name: String,
    /// How many use it: its own rules, and the rules and elements that jump to it.
    pub uses: u32,
    /// Whether packets enter it from a hook.
    pub base: bool,
    /// Whether it drops what none of its rules decides on.
    pub drops: bool,
}

impl Hook {
    /// `type nat hook postrouting priority srcnat`.
    pub const SNAT_POSTROUTING: Self = Self {
        number: InetHookNumber::PostRouting,
        priority: 100,
        kind: "nat",
    };
    /// `type nat hook postrouting priority srcnat - 1`: before other programs' source NAT.
    pub const EARLY_SNAT_POSTROUTING: Self = Self {
        number: InetHookNumber::PostRouting,
        priority: 99,
        kind: "nat",
    };
    /// `type filter hook postrouting priority 300`: behind all translation.
    pub const LAST_POSTROUTING: Self = Self {
        number: InetHookNumber::PostRouting,
        priority: 300,
        kind: "filter",
    };
    /// `type nat hook prerouting priority dstnat`.
    pub const DNAT_PREROUTING: Self = Self {
        number: InetHookNumber::PreRouting,
        priority: -100,
        kind: "nat",
    };
    /// `type nat hook output priority -100`, which is `dstnat`: what the host itself sends.
    pub const DNAT_OUTPUT: Self = Self {
        number: InetHookNumber::LocalOut,
        priority: -100,
        kind: "nat",
    };
    /// `type filter hook forward priority filter`.
    pub const FORWARD: Self = Self {
        number: InetHookNumber::Forward,
        priority: 0,
        kind: "filter",
    };
    /// `type filter hook prerouting priority raw`: before connections are tracked.
    pub const RAW_PREROUTING: Self = Self {
        number: InetHookNumber::PreRouting,
        priority: -300,
        kind: "filter",
    };
    /// `type filter hook output priority raw`: before connections are tracked.
    pub const RAW_OUTPUT: Self = Self {
        number: InetHookNumber::LocalOut,
        priority: -300,
        kind: "filter",
    };
    /// `type filter hook prerouting priority dstnat` of a bridge: before anything else sees a frame.
    pub const BRIDGE_PREROUTING: Self = Self {
        number: InetHookNumber::PreRouting,
        priority: -300,
        kind: "filter",
    };
}

impl Chain<'_> {
    pub(super) fn attributes(&self, table: Table) -> Vec<ChainAttribute> {
        let mut attributes = by_name(table, self.name);
        if let Some(hook) = self.hook {
            attributes.push(ChainAttribute::Hook(vec![
                nftables::Hook::Number(HookNumber::Inet(hook.number)),
                nftables::Hook::Priority(hook.priority.cast_unsigned()),
            ]));
            attributes.push(ChainAttribute::Type(hook.kind.to_owned()));
        }
        attributes
    }
}

pub(super) fn by_name(table: Table, name: &str) -> Vec<ChainAttribute> {
    vec![
        ChainAttribute::Table(table.name.to_owned()),
        ChainAttribute::Name(name.to_owned()),
    ]
}

pub(super) fn get(socket: &mut Socket, table: Table, name: &str) -> Result<Option<ChainInfo>> {
    let query = message(table.family, &Attributes(&by_name(table, name)));
    let found = socket.get(
        GET_CHAIN,
        &query,
        || format!("chain {name}"),
        |payload| parse(table, payload),
    )?;
    Ok(found.flatten())
}

pub(super) fn list(socket: &mut Socket, table: Table) -> Result<Vec<ChainInfo>> {
    let all: &[ChainAttribute] = &[];
    let query = message(table.family, &Attributes(all));
    socket.dump(GET_CHAIN, &query, "chains", |_, payload| {
        parse(table, payload)
    })
}

/// The chain, if it is one of `table`: the kernel lists those of all tables of a family.
pub(crate) fn parse(table: Table, payload: &[u8]) -> Result<Option<ChainInfo>> {
    let message = ChainMessage::parse(body(payload)).map_err(Error::decode("a chain"))?;
    let mut chain = ChainInfo::default();
    let mut in_table = false;
    for attribute in message.attributes {
        match attribute {
            ChainAttribute::Table(name) => in_table = name == table.name,
            ChainAttribute::Name(name) => chain.name = name,
            ChainAttribute::Use(uses) => chain.uses = uses,
            ChainAttribute::Hook(_) => chain.base = true,
            // `NF_DROP`, include/uapi/linux/netfilter.h.
            ChainAttribute::Policy(policy) => chain.drops = policy == 0,
            _ => {}
        }
    }
    Ok(in_table.then_some(chain))
}
