//! What portmap's part of the table `inet heddle_cni` looks like, the same on every node.
//!
//! A packet for an address of the host goes to the chain `hostports`. There its protocol and port, first with
//! the address and then without, are looked up: with the link that it came by in a set of those that go back there and
//! are therefore to be masqueraded; in the map of targets, which says where the packet is sent instead; and before
//! both, for a pod with wishes of its own, in a map of policies, whose chain may mark the packet for masquerading or
//! let it go as it is. So the cost of a packet does not grow with the ports of the node. Nor does that of an ADD: the
//! kernel looks through all jumps of a table when one is added, so only policies have such, and most pods have none.

use std::net::IpAddr;

use netlink::nft::{
    Chain, DataMap, Expr, Family, Hook, Key, Service, Set, Table, Transaction, Type,
};

use super::conf::DEFAULT_MARK_BIT;
use crate::shared_table::Part;
use crate::subnet::LOOPBACK_V4;

/// The table, which others have parts of.
pub const TABLE: Table = Table {
    family: Family::Inet,
    name: "heddle_cni",
};
/// Where the lookups are; its being there says that the whole part is.
pub const LOOKUPS: &str = "hostports";
/// Masquerades what is marked: a jump to a chain for each bit in use.
pub const MASQUERADE: &str = "hostports_masquerade";
/// The links whose `route_localnet` we have set.
pub const DEVICES: &str = "hostport_devices";

const INCOMING: &str = "hostports_prerouting";
const OUTGOING: &str = "hostports_output";
const GUARD: &str = "hostports_guard";
const PREFIX: &str = "portmap-";

/// A family's ports, for all addresses of the host or for one.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// How its maps are keyed.
    pub service: Service,
    /// The map of targets.
    pub targets: &'static str,
    /// The map of policies.
    pub policies: &'static str,
    /// The set of ports with the links whose packets come back to them.
    pub returns: &'static str,
}

/// All kinds, in the order in which a packet meets them: what is for one address goes before what is for all.
pub const KINDS: [Kind; 4] = [
    Kind {
        service: Service {
            v6: false,
            by_address: true,
        },
        targets: "hostip_ports4",
        policies: "hostip_policies4",
        returns: "hostip_returns4",
    },
    Kind {
        service: Service {
            v6: false,
            by_address: false,
        },
        targets: "hostports4",
        policies: "hostport_policies4",
        returns: "hostport_returns4",
    },
    Kind {
        service: Service {
            v6: true,
            by_address: true,
        },
        targets: "hostip_ports6",
        policies: "hostip_policies6",
        returns: "hostip_returns6",
    },
    Kind {
        service: Service {
            v6: true,
            by_address: false,
        },
        targets: "hostports6",
        policies: "hostport_policies6",
        returns: "hostport_returns6",
    },
];

/// The part, as far as it can be deleted by name.
pub const PART: Part = Part {
    chains: &[INCOMING, OUTGOING, MASQUERADE, GUARD, LOOKUPS],
    prefix: PREFIX,
    sets: &[
        "hostip_ports4",
        "hostip_policies4",
        "hostip_returns4",
        "hostports4",
        "hostport_policies4",
        "hostport_returns4",
        "hostip_ports6",
        "hostip_policies6",
        "hostip_returns6",
        "hostports6",
        "hostport_policies6",
        "hostport_returns6",
        DEVICES,
    ],
    inner_sets: &[],
};

/// The kind for a family, with or without the host's address.
pub fn kind(v6: bool, by_address: bool) -> &'static Kind {
    const ALL: &[Kind; 4] = &KINDS;
    &ALL[usize::from(v6) * 2 + usize::from(!by_address)]
}

/// Where a port stands that another network of the same container has: under the pod's own address, which no packet
/// for the host carries. When that network goes, the port moves to the key that it left.
pub fn waiting(target: IpAddr, protocol: u8, port: u16) -> (&'static Kind, Key) {
    let kind = kind(target.is_ipv6(), true);
    (kind, Key::service_at(target, protocol, port))
}

/// The name of an attachment's chain.
pub fn policy_chain(digest: &str, v6: bool) -> String {
    format!("{PREFIX}{digest}-{}", if v6 { 6 } else { 4 })
}

/// The name of the chain that masquerades what has a bit set in its mark.
pub fn masquerade_chain(bit: u8) -> String {
    format!("{PREFIX}masquerade-{bit}")
}

/// The rules of [`masquerade_chain`].
pub fn masquerade_rules(bit: u8) -> Vec<Expr> {
    vec![
        Expr::has_mark(1 << bit)
            .then(Expr::connection_has_dnat())
            .then(Expr::masquerade()),
    ]
}

/// The chains that are always there, where they hang, and their rules.
pub fn fixed_chains() -> [(&'static str, Option<Hook>, Vec<Expr>); 5] {
    let to_host = || vec![Expr::for_this_host().then(Expr::jump(LOOKUPS))];
    let lookups = KINDS.iter().flat_map(|kind| {
        [
            Expr::service_verdict(kind.service, kind.policies),
            Expr::service_by_link(kind.service, kind.returns)
                .then(Expr::add_mark(1 << DEFAULT_MARK_BIT)),
            Expr::service_dnat(kind.service, kind.targets),
        ]
    });
    let guard = [Expr::source_in, Expr::destination_in].map(|side| {
        Expr::input_interface_in_set(DEVICES)
            .then(side(LOOPBACK_V4))
            .then(Expr::drop_())
    });
    // No answer would find back to such an address.
    let from_localhost = Expr::source_in(LOOPBACK_V4)
        .then(Expr::output_interface_not("lo"))
        .then(Expr::connection_has_dnat())
        .then(Expr::masquerade());
    [
        (LOOKUPS, None, lookups.collect()),
        (INCOMING, Some(Hook::DNAT_PREROUTING), to_host()),
        (OUTGOING, Some(Hook::DNAT_OUTPUT), to_host()),
        (
            MASQUERADE,
            Some(Hook::EARLY_SNAT_POSTROUTING),
            vec![from_localhost],
        ),
        (GUARD, Some(Hook::RAW_PREROUTING), guard.into()),
    ]
}

/// Builds all of it.
pub fn build(transaction: &mut Transaction) {
    transaction.add_table();
    for kind in &KINDS {
        let Service { v6, by_address } = kind.service;
        let (key, by_link) = match (v6, by_address) {
            (_, false) => (Type::Service, Type::ServiceByLink),
            (false, true) => (Type::Ipv4Service, Type::Ipv4ServiceByLink),
            (true, true) => (Type::Ipv6Service, Type::Ipv6ServiceByLink),
        };
        transaction.add_map(&DataMap {
            name: kind.targets,
            key,
            value: if v6 {
                Type::Ipv6Target
            } else {
                Type::Ipv4Target
            },
        });
        transaction.add_set(&Set {
            name: kind.policies,
            key,
            verdicts: true,
        });
        transaction.add_set(&Set {
            name: kind.returns,
            key: by_link,
            verdicts: false,
        });
    }
    transaction.add_set(&Set {
        name: DEVICES,
        key: Type::InterfaceName,
        verdicts: false,
    });
    for (name, hook, rules) in fixed_chains() {
        transaction.add_chain(&Chain { name, hook });
        for rule in rules {
            transaction.add_rule(name, rule, None);
        }
    }
}
