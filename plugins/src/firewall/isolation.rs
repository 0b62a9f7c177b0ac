//! `ingressPolicy`: a new connection to a guarded pod is dropped if it comes by way of a bridge that has guarded
//! pods too, another one or also its own. What comes from outside is not our matter.
//!
//! The chain `firewall` of `inet heddle_cni` looks the destination up in a map; a guarded pod's element jumps to
//! the chain of its bridge and policy. `firewall_bridges` holds the bridges that have such a chain.

use cni::{AddResult, Call, Code, Error, Result};
use ipnetwork::IpNetwork;
use netlink::Handle;
use netlink::nft::{self, Element, Expr, Family, Hook, Key, Set, Table, Transaction, Type};

use super::conf::Policy;
use crate::error::kernel;
use crate::rules::{Entry, Map, Rules};

const IPV4: &str = "firewall4";
const IPV6: &str = "firewall6";
const BRIDGES: &str = "firewall_bridges";
/// How often a transaction is made anew because somebody else's came in between.
const ATTEMPTS: usize = 20;
const PREFIX: &str = "firewall-";

const RULES: Rules = Rules {
    table: Table {
        family: Family::Inet,
        name: "heddle_cni",
    },
    base: "firewall",
    hook: Hook::FORWARD,
    prelude: &[|| Expr::connection_is_known().then(Expr::accept())],
    sets: &[Set {
        name: BRIDGES,
        key: Type::InterfaceName,
        verdicts: false,
    }],
    maps: &[
        Map {
            name: IPV4,
            key: Type::Ipv4Address,
            rule: Expr::destination_v4_verdict,
        },
        Map {
            name: IPV6,
            key: Type::Ipv6Address,
            rule: Expr::destination_v6_verdict,
        },
    ],
    prefix: PREFIX,
    rules_per_chain: 2,
};

/// The bridge that the pod hangs on.
///
/// # Errors
/// Code 7 when `prevResult` names none.
pub fn bridge(previous: &AddResult) -> Result<String> {
    let mut host = Handle::new().map_err(kernel)?;
    for interface in previous
        .interfaces
        .iter()
        .filter(|interface| interface.sandbox.is_none())
    {
        let link = host.link(&interface.name).map_err(kernel)?;
        if link.is_some_and(|link| link.kind.as_deref() == Some("bridge")) {
            return Ok(interface.name.clone());
        }
    }
    Err(Error::new(
        Code::InvalidConfig,
        "\"ingressPolicy\" is for pods on a bridge, and prevResult names none: use \"open\", or put firewall behind bridge",
    ))
}

/// Guards the pod's addresses.
///
/// # Errors
/// Code 4 when an address is held by another pod that is still there; otherwise what the kernel said.
pub fn add(
    nft: &mut nft::Handle,
    call: &Call,
    policy: Policy,
    bridge: &str,
    addresses: &[IpNetwork],
) -> Result<()> {
    let entries: Vec<_> = addresses
        .iter()
        .map(|address| {
            let (map, key) = key(*address);
            Entry {
                map,
                key,
                chain: chain(policy, bridge),
                rules: rules(policy, bridge),
            }
        })
        .collect();
    if entries.is_empty() {
        return Ok(());
    }
    RULES.add(nft, call, &entries)?;
    let mut transaction = Transaction::new(RULES.table);
    transaction.add_elements(BRIDGES, &[element(Key::interface(bridge))]);
    match nft.commit(&transaction) {
        Err(error) if !error.is_exists() => Err(kernel(error)),
        _ => Ok(()),
    }
}

/// Stops guarding the attachment.
///
/// # Errors
/// What the kernel said.
pub fn remove(nft: &mut nft::Handle, call: &Call) -> Result<()> {
    RULES.remove(nft, call, None)?;
    forget_bridges(nft)
}

/// Stops guarding the network's attachments that are not valid.
///
/// # Errors
/// What the kernel said.
pub fn collect(nft: &mut nft::Handle, call: &Call) -> Result<()> {
    RULES.collect(nft, call)?;
    forget_bridges(nft)
}

/// Whether all addresses are guarded as the policy says.
///
/// # Errors
/// Code 999 when they are not.
pub fn check(
    nft: &mut nft::Handle,
    call: &Call,
    policy: Policy,
    previous: &AddResult,
    addresses: &[IpNetwork],
) -> Result<()> {
    let bridge = bridge(previous)?;
    let gone = |what: String| Err(Error::new(Code::Internal, what));
    for address in addresses {
        let (map, key) = key(*address);
        if !RULES.has(nft, call, map, key)? {
            return gone(format!(
                "{} is not guarded any more: it is missing in `nft list map inet heddle_cni {map}`",
                address.ip()
            ));
        }
    }
    let member = nft
        .element(RULES.table, BRIDGES, &Key::interface(&bridge))
        .map_err(kernel)?;
    if !addresses.is_empty() && member.is_none() {
        return gone(format!(
            "{bridge} is missing in `nft list set inet heddle_cni {BRIDGES}`"
        ));
    }
    let found = nft.rules(RULES.table).map_err(kernel)?;
    let own = chain(policy, &bridge);
    let base = RULES.prelude.len() + RULES.maps.len();
    for (chain, expected) in [
        (RULES.base, base),
        (own.as_str(), rules(policy, &bridge).len()),
    ] {
        let count = found.iter().filter(|rule| rule.chain == chain).count();
        if !addresses.is_empty() && count < expected {
            return gone(format!(
                "a rule is missing: chain inet heddle_cni {chain} has {count} of {expected}"
            ));
        }
    }
    Ok(())
}

/// Takes out of the set what no chain is left for.
fn forget_bridges(nft: &mut nft::Handle) -> Result<()> {
    for _ in 0..ATTEMPTS {
        let generation = nft.generation().map_err(kernel)?;
        let mut idle = Vec::new();
        for member in nft.elements(RULES.table, BRIDGES).map_err(kernel)? {
            let bridge = member.key.as_interface().unwrap_or_default();
            let mut used = false;
            for policy in [Policy::SameBridge, Policy::Isolated] {
                let chain = nft
                    .chain(RULES.table, &chain(policy, &bridge))
                    .map_err(kernel)?;
                used |= chain.is_some();
            }
            if !used {
                idle.push(element(member.key));
            }
        }
        let mut transaction = Transaction::new(RULES.table);
        transaction.if_generation(generation);
        transaction.delete_elements(BRIDGES, &idle);
        match nft.commit(&transaction) {
            Err(error) if error.is_busy() || error.is_not_found() => {}
            outcome => return outcome.map_err(kernel),
        }
    }
    // Others are at work on the table all the time; the last of them tidies up.
    Ok(())
}

fn chain(policy: Policy, bridge: &str) -> String {
    match policy {
        Policy::SameBridge => format!("{PREFIX}same-bridge-{bridge}"),
        Policy::Isolated => format!("{PREFIX}isolated-{bridge}"),
    }
}

/// Two for each policy, as `rules_per_chain` says.
fn rules(policy: Policy, bridge: &str) -> Vec<Expr> {
    let drop = Expr::input_interface_in_set(BRIDGES).then(Expr::drop_());
    match policy {
        Policy::SameBridge => vec![
            Expr::input_interface(bridge, true).then(Expr::return_()),
            drop,
        ],
        Policy::Isolated => vec![drop, Expr::return_()],
    }
}

fn key(address: IpNetwork) -> (&'static str, Key) {
    let map = if address.is_ipv4() { IPV4 } else { IPV6 };
    (map, Key::from(address.ip()))
}

fn element(key: Key) -> Element {
    Element {
        key,
        value: None,
        comment: None,
    }
}
