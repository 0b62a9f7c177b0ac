//! The ports of attachments in the table: added all at once, found again by the comment that names their owner.

use std::net::IpAddr;

use cni::{Call, Code, Error, Result, identity};
use netlink::nft::{Chain, Element, Expr, Handle, Key, Transaction, Value};

use super::conf::invalid;
use super::localhost;
use super::plan::Plan;
use super::table::{self, KINDS, LOOKUPS, MASQUERADE, PART, TABLE};
use crate::error::kernel;
use crate::netns_lock::NetnsLock;
use crate::rules;

/// How often a transaction is made anew because somebody else's came in between.
const ATTEMPTS: usize = 20;

/// A port that was removed: its key, and where it led.
pub type Removed = (Key, (IpAddr, u16));

/// Adds the plan, with whatever of the table is not there yet. What an earlier ADD of the same attachment has
/// left is replaced.
///
/// # Errors
/// Code 7 when a port is another attachment's, whose id the message says.
pub fn add(call: &Call, plan: &Plan) -> Result<()> {
    let mut nft = Handle::new().map_err(kernel)?;
    let mut outcome = Ok(());
    for _ in 0..ATTEMPTS {
        let Some(transaction) = prepare(&mut nft, plan)? else {
            remove_owned(&mut nft, |mark| mark == plan.owner)?;
            continue;
        };
        outcome = nft.commit(&transaction);
        match &outcome {
            Ok(()) => return Ok(()),
            Err(error) if error.is_exists() => {
                refuse_if_taken(&mut nft, plan)?;
                remove_owned(&mut nft, |mark| mark == plan.owner)?;
            }
            Err(error) if error.is_not_found() || error.is_busy() => {}
            Err(_) => break,
        }
    }
    outcome.map_err(kernel).and_then(|()| {
        Err(Error::new(
            Code::TryAgainLater,
            format!(
                "the ports of {} are being changed by another call",
                call.attachment.container_id
            ),
        ))
    })
}

/// The transaction; `None` when something of an earlier ADD is in its way.
fn prepare(nft: &mut Handle, plan: &Plan) -> Result<Option<Transaction>> {
    let mut transaction = Transaction::new(TABLE);
    let generation = nft.generation().map_err(kernel)?;
    let has = |nft: &mut Handle, chain: &str| {
        let found = nft.chain(TABLE, chain).map_err(kernel)?;
        Ok::<_, Error>(found.is_some())
    };
    let built = has(nft, LOOKUPS)?;
    if !built {
        transaction.if_generation(generation);
        table::build(&mut transaction);
    }
    if let Some(bit) = plan.mark_bit {
        let name = table::masquerade_chain(bit);
        if !built || !has(nft, &name)? {
            transaction.if_generation(generation);
            add_chain(&mut transaction, &name, table::masquerade_rules(bit));
            transaction.add_rule(MASQUERADE, Expr::jump(&name), None);
        }
    }
    for policy in &plan.policies {
        if built && has(nft, &policy.chain)? {
            return Ok(None);
        }
        add_chain(&mut transaction, &policy.chain, policy.rules.clone());
    }
    localhost::guard(nft, plan, &mut transaction)?;
    for kind in &KINDS {
        let entries = || plan.entries.iter().filter(|entry| entry.kind == kind);
        let elements = |value: &dyn Fn(&super::plan::Entry) -> Value| -> Vec<Element> {
            entries()
                .map(|entry| Element {
                    key: entry.key.clone(),
                    value: Some(value(entry)),
                    comment: Some(plan.owner.clone()),
                })
                .collect()
        };
        let targets = elements(&|entry| Value::Target(entry.target.0, entry.target.1));
        transaction.add_elements(kind.targets, &targets);
        let mut policies = plan.policies.iter();
        if let Some(policy) = policies.find(|policy| policy.v6 == kind.service.v6) {
            let jumps = elements(&|_| Value::Jump(policy.chain.clone()));
            transaction.add_elements(kind.policies, &jumps);
        }
    }
    Ok(Some(transaction))
}

fn add_chain(transaction: &mut Transaction, name: &str, rules: Vec<Expr>) {
    transaction.add_chain(&Chain { name, hook: None });
    for rule in rules {
        transaction.add_rule(name, rule, None);
    }
}

fn refuse_if_taken(nft: &mut Handle, plan: &Plan) -> Result<()> {
    for entry in &plan.entries {
        let held = nft
            .element(TABLE, entry.kind.targets, &entry.key)
            .map_err(kernel)?;
        let Some(holder) = held.and_then(|element| element.comment) else {
            continue;
        };
        if holder != plan.owner {
            let whose = match identity::parse_mark(&holder) {
                Some((network, attachment)) => {
                    format!("container {} on network {network}", attachment.container_id)
                }
                None => holder,
            };
            return Err(invalid(format!(
                "host port {} is taken by {whose}: give this pod another hostPort, or delete that container",
                entry.name
            )));
        }
    }
    Ok(())
}

/// Removes what is this attachment's, and says what it was.
///
/// # Errors
/// What the kernel said; never for what is gone already.
pub fn remove(call: &Call) -> Result<Vec<Removed>> {
    let owner = rules::owner(&call.conf.name, &call.attachment);
    remove_and_take_down(|mark| mark == owner)
}

/// Removes what belongs to attachments of this network that are not valid, and says what it was.
///
/// # Errors
/// What the kernel said.
pub fn collect(call: &Call) -> Result<Vec<Removed>> {
    let network = &call.conf.name;
    let valid = call.conf.valid_attachments.as_deref().unwrap_or_default();
    let keep: Vec<_> = valid
        .iter()
        .map(|attachment| rules::owner(network, attachment))
        .collect();
    remove_and_take_down(|mark| {
        identity::belongs_to(mark, network) && !keep.iter().any(|valid| valid == mark)
    })
}

/// Removes what is ours, and the whole part of the table when no other port is left.
fn remove_and_take_down(is_ours: impl Fn(&str) -> bool) -> Result<Vec<Removed>> {
    let mut nft = Handle::new().map_err(kernel)?;
    let removed = remove_owned(&mut nft, is_ours)?;
    // Only now: of two calls that remove at once, each has seen the other's.
    if nft.chain(TABLE, LOOKUPS).map_err(kernel)?.is_some() && is_empty(&mut nft)? {
        take_down(&mut nft)?;
    }
    Ok(removed)
}

fn is_empty(nft: &mut Handle) -> Result<bool> {
    for kind in &KINDS {
        if !nft
            .elements(TABLE, kind.targets)
            .map_err(kernel)?
            .is_empty()
        {
            return Ok(false);
        }
    }
    Ok(true)
}

fn remove_owned(nft: &mut Handle, is_ours: impl Fn(&str) -> bool) -> Result<Vec<Removed>> {
    for _ in 0..ATTEMPTS {
        if nft.chain(TABLE, LOOKUPS).map_err(kernel)?.is_none() {
            break;
        }
        let mut transaction = Transaction::new(TABLE);
        let (mut removed, mut chains) = (Vec::new(), Vec::new());
        let mut mine = |nft: &mut Handle, map: &str| -> Result<Vec<Element>> {
            let mut mine = nft.elements(TABLE, map).map_err(kernel)?;
            mine.retain(|element| element.comment.as_deref().is_some_and(&is_ours));
            let keys: Vec<_> = mine.iter().map(by_key).collect();
            transaction.delete_elements(map, &keys);
            Ok(mine)
        };
        for kind in &KINDS {
            for element in mine(nft, kind.targets)? {
                if let Some(Value::Target(address, port)) = element.value {
                    removed.push((element.key, (address, port)));
                }
            }
            for element in mine(nft, kind.policies)? {
                match element.value {
                    Some(Value::Jump(chain)) if !chains.contains(&chain) => chains.push(chain),
                    _ => {}
                }
            }
        }
        chains
            .iter()
            .for_each(|chain| transaction.delete_chain(chain));
        match nft.commit(&transaction) {
            Ok(()) => return Ok(removed),
            // Another call was there first.
            Err(error) if error.is_not_found() || error.is_busy() => {}
            Err(error) => return Err(kernel(error)),
        }
    }
    Ok(Vec::new())
}

fn by_key(element: &Element) -> Element {
    Element {
        key: element.key.clone(),
        value: None,
        comment: None,
    }
}

/// Removes the whole part once no port is left, and closes what was opened for 127.0.0.1.
fn take_down(nft: &mut Handle) -> Result<()> {
    let _lock = NetnsLock::exclusive()?;
    for _ in 0..ATTEMPTS {
        let generation = nft.generation().map_err(kernel)?;
        if !is_empty(nft)? {
            return Ok(());
        }
        localhost::close(nft)?;
        let chains = nft.chains(TABLE).map_err(kernel)?;
        let mut transaction = Transaction::new(TABLE);
        transaction.if_generation(generation);
        PART.delete(&mut transaction, &chains);
        match nft.commit(&transaction) {
            Err(error) if error.is_busy() || error.is_not_found() => {}
            outcome => return outcome.map_err(kernel),
        }
    }
    Ok(())
}

/// Whether the plan is in the table as ADD put it there.
///
/// # Errors
/// Code 999 for a port, a policy or a rule that is missing or another.
pub fn check(plan: &Plan) -> Result<()> {
    let mut nft = Handle::new().map_err(kernel)?;
    let gone = |what: String, where_: &str| {
        Error::new(
            Code::Internal,
            format!("{what}: look at `nft list {where_}`"),
        )
    };
    for entry in &plan.entries {
        let map = entry.kind.targets;
        let found = nft.element(TABLE, map, &entry.key).map_err(kernel)?;
        let target = Some(Value::Target(entry.target.0, entry.target.1));
        let is_ours = |element: &Element| {
            element.value == target && element.comment.as_deref() == Some(&plan.owner)
        };
        if !found.as_ref().is_some_and(is_ours) {
            return Err(gone(
                format!("host port {} does not lead to the pod any more", entry.name),
                &format!("map inet heddle_cni {map}"),
            ));
        }
        let mut policies = plan.policies.iter();
        if let Some(policy) = policies.find(|policy| policy.v6 == entry.kind.service.v6) {
            let map = entry.kind.policies;
            let found = nft.element(TABLE, map, &entry.key).map_err(kernel)?;
            if found.and_then(|element| element.value) != Some(Value::Jump(policy.chain.clone())) {
                return Err(gone(
                    format!("the policy of host port {} is missing", entry.name),
                    &format!("map inet heddle_cni {map}"),
                ));
            }
        }
    }
    let rules = nft.rules(TABLE).map_err(kernel)?;
    let count = |chain: &str| rules.iter().filter(|rule| rule.chain == chain).count();
    let fixed = table::fixed_chains().map(|(name, _, rules)| (name.to_owned(), rules.len()));
    let own = plan
        .policies
        .iter()
        .map(|policy| (policy.chain.clone(), policy.rules.len()));
    let marks = plan.mark_bit.map(|bit| {
        (
            table::masquerade_chain(bit),
            table::masquerade_rules(bit).len(),
        )
    });
    let base = plan.mark_bit.map(|_| (MASQUERADE.to_owned(), 1));
    for (chain, expected) in fixed.into_iter().chain(own).chain(marks).chain(base) {
        if count(&chain) < expected {
            return Err(gone(
                format!(
                    "a rule of the host ports is missing: chain {chain} has {} of {expected}",
                    count(&chain)
                ),
                &format!("chain inet heddle_cni {chain}"),
            ));
        }
    }
    Ok(())
}
