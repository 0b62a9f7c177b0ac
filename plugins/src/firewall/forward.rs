//! The way through a FORWARD chain whose policy is to drop, as Docker sets it.
//!
//! A packet has to pass every table that looks at it: an `accept` in ours cannot undo a drop in another. So where
//! `iptables` (its nftables form) has a FORWARD chain, the pod's rules stand in there, in a chain of their own,
//! written as `iptables -S` can read them. Tables of `iptables-legacy`, of firewalld and of anybody else are out of
//! reach, and left alone.

use std::net::IpAddr;

use cni::{Call, Code, Error, Result, identity};
use ipnetwork::IpNetwork;
use netlink::nft::{Chain, Expr, Family, Handle, Table, Transaction};

use crate::error::kernel;
use crate::rules;
use crate::stale;

const TABLES: [Table; 2] = [
    Table {
        family: Family::Ipv4,
        name: "filter",
    },
    Table {
        family: Family::Ipv6,
        name: "filter",
    },
];
const FORWARD: &str = "FORWARD";
const OURS: &str = "HEDDLE-FORWARD";
/// The comment of the rule that leads to [`OURS`].
const MARK: &str = "heddle";
/// How often a transaction is made anew because somebody else's came in between.
const ATTEMPTS: usize = 20;

/// Lets through what the pod sends, and to the pod what belongs to a connection or comes by a host port.
///
/// # Errors
/// What the kernel said.
pub fn add(nft: &mut Handle, call: &Call, addresses: &[IpNetwork]) -> Result<()> {
    remove(nft, call)?;
    let owner = rules::owner(&call.conf.name, &call.attachment);
    for (table, ips) in by_table(addresses) {
        let mut outcome = Ok(());
        for _ in 0..ATTEMPTS {
            if ips.is_empty() || nft.chain(table, FORWARD).map_err(kernel)?.is_none() {
                outcome = Ok(());
                break;
            }
            let generation = nft.generation().map_err(kernel)?;
            let mut transaction = Transaction::new(table);
            if nft.chain(table, OURS).map_err(kernel)?.is_none() {
                transaction.if_generation(generation);
                transaction.add_chain(&Chain {
                    name: OURS,
                    hook: None,
                });
            }
            if !leads_to_ours(nft, table)? {
                transaction.if_generation(generation);
                transaction.insert_rule(FORWARD, Expr::jump(OURS), Some(MARK));
            }
            for ip in &ips {
                let answers = Expr::iptables_destination(*ip).then(Expr::iptables_known_or_dnat());
                for rule in [answers, Expr::iptables_source(*ip)] {
                    transaction.add_rule(OURS, rule.then(Expr::accept()), Some(&owner));
                }
            }
            outcome = nft.commit(&transaction);
            match &outcome {
                Err(error) if error.is_busy() || error.is_not_found() => {}
                _ => break,
            }
        }
        outcome.map_err(kernel)?;
    }
    Ok(())
}

/// Removes the attachment's rules.
///
/// # Errors
/// What the kernel said.
pub fn remove(nft: &mut Handle, call: &Call) -> Result<()> {
    let owner = rules::owner(&call.conf.name, &call.attachment);
    remove_owned(nft, |mark| mark == owner)
}

/// Removes the rules of the network's attachments that are not valid.
///
/// # Errors
/// What the kernel said.
pub fn collect(nft: &mut Handle, call: &Call) -> Result<()> {
    remove_owned(nft, stale::marks(call, identity::COMMENT_MAX))
}

fn remove_owned(nft: &mut Handle, is_ours: impl Fn(&str) -> bool) -> Result<()> {
    for table in TABLES {
        let mut tries = 0..ATTEMPTS;
        // Once more after one that was done: of two calls that remove at once, each has seen the other's.
        while remove_whole(nft, table, &is_ours)? {
            if tries.next().is_none() {
                remove_alone(nft, table, &is_ours)?;
                break;
            }
        }
    }
    Ok(())
}

/// Removes the rules and, with the last of all, their chain, in one transaction. False when there was nothing to remove.
fn remove_whole(nft: &mut Handle, table: Table, is_ours: &impl Fn(&str) -> bool) -> Result<bool> {
    if nft.chain(table, OURS).map_err(kernel)?.is_none() {
        return Ok(false);
    }
    let generation = nft.generation().map_err(kernel)?;
    let all = nft.rule_handles(table, OURS).map_err(kernel)?;
    let (ours, others): (Vec<_>, Vec<_>) = all
        .into_iter()
        .partition(|rule| rule.comment.as_deref().is_some_and(is_ours));
    if ours.is_empty() && !others.is_empty() {
        return Ok(false);
    }
    let mut transaction = Transaction::new(table);
    ours.iter()
        .for_each(|rule| transaction.delete_rule(OURS, rule.handle));
    if others.is_empty() {
        transaction.if_generation(generation);
        for rule in nft.rule_handles(table, FORWARD).map_err(kernel)? {
            if rule.comment.as_deref() == Some(MARK) {
                transaction.delete_rule(FORWARD, rule.handle);
            }
        }
        transaction.delete_chain(OURS);
    }
    match nft.commit(&transaction) {
        Err(error) if !error.is_busy() && !error.is_not_found() => Err(kernel(error)),
        _ => Ok(true),
    }
}

/// Others are at work on the ruleset all the time: each rule by itself, whatever else there is. The last of them tidies up.
fn remove_alone(nft: &mut Handle, table: Table, is_ours: &impl Fn(&str) -> bool) -> Result<()> {
    for rule in nft.rule_handles(table, OURS).map_err(kernel)? {
        if rule.comment.as_deref().is_some_and(is_ours) {
            let mut transaction = Transaction::new(table);
            transaction.delete_rule(OURS, rule.handle);
            match nft.commit(&transaction) {
                Err(error) if error.is_not_found() => {}
                outcome => outcome.map_err(kernel)?,
            }
        }
    }
    Ok(())
}

/// Whether the pod's rules are where a FORWARD chain is.
///
/// # Errors
/// Code 999 when they are not.
pub fn check(nft: &mut Handle, call: &Call, addresses: &[IpNetwork]) -> Result<()> {
    let owner = rules::owner(&call.conf.name, &call.attachment);
    for (table, ips) in by_table(addresses) {
        if ips.is_empty() || nft.chain(table, FORWARD).map_err(kernel)?.is_none() {
            continue;
        }
        let rules = nft.rule_handles(table, OURS).map_err(kernel)?;
        let is_own = |comment: &Option<String>| comment.as_deref() == Some(owner.as_str());
        let count = rules.iter().filter(|rule| is_own(&rule.comment)).count();
        if count < 2 * ips.len() || !leads_to_ours(nft, table)? {
            return Err(Error::new(
                Code::Internal,
                format!(
                    "the pod's rules are missing in the host's FORWARD chain: chain {OURS} has {count} of {}, or nothing jumps to it",
                    2 * ips.len()
                ),
            ));
        }
    }
    Ok(())
}

fn leads_to_ours(nft: &mut Handle, table: Table) -> Result<bool> {
    let rules = nft.rule_handles(table, FORWARD).map_err(kernel)?;
    Ok(rules
        .iter()
        .any(|rule| rule.comment.as_deref() == Some(MARK)))
}

/// The addresses of each table's family.
fn by_table(addresses: &[IpNetwork]) -> [(Table, Vec<IpAddr>); 2] {
    let of = |v6: bool| {
        let family = addresses.iter().filter(|address| address.is_ipv6() == v6);
        family.map(|address| address.ip()).collect()
    };
    [(TABLES[0], of(false)), (TABLES[1], of(true))]
}
