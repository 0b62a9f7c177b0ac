//! The ports of attachments in the table: added all at once, with the comment that names their owner, and compared.

use std::collections::HashSet;

use cni::{Call, Code, Error, Result, identity};
use netlink::nft::{Chain, Element, Expr, Handle, Key, Transaction, Value};

use super::conf::invalid;
use super::localhost;
use super::plan::{Entry, Plan};
use super::release::remove_owned;
use super::table::{self, KINDS, Kind, LOOKUPS, MASQUERADE, TABLE};
use crate::error::kernel;

/// How often a transaction is made anew because somebody else's came in between.
const ATTEMPTS: usize = 20;

/// Adds the plan, with whatever of the table is not there yet. What an earlier ADD of the same attachment has
/// left is replaced; what another network of the same container has is waited for.
///
/// # Errors
/// Code 7 when a port is another attachment's, whose id the message says.
pub fn add(call: &Call, plan: &Plan) -> Result<()> {
    let mut nft = Handle::new().map_err(kernel)?;
    let mut outcome = Ok(());
    let mut waiting = Vec::new();
    for _ in 0..ATTEMPTS {
        let Some(transaction) = prepare(&mut nft, plan, &waiting)? else {
            remove_owned(&mut nft, |mark| mark == plan.owner)?;
            continue;
        };
        outcome = nft.commit(&transaction);
        match &outcome {
            Ok(()) => return Ok(()),
            Err(error) if error.is_exists() => {
                waiting = taken(&mut nft, plan)?;
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
fn prepare(nft: &mut Handle, plan: &Plan, waiting: &[&Entry]) -> Result<Option<Transaction>> {
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
    let mut places: Vec<_> = plan
        .entries
        .iter()
        .map(|entry| (place(entry, waiting), entry))
        .collect();
    // One port of several host addresses waits in one place.
    let mut seen = HashSet::new();
    places.retain(|(place, _)| seen.insert((place.0.targets, place.1)));
    for kind in &KINDS {
        let elements = |value: &dyn Fn(&Entry) -> Value| -> Vec<Element> {
            let of_kind = places.iter().filter(|((of, _), _)| *of == kind);
            of_kind
                .map(|((_, key), entry)| Element {
                    key: (*key).clone(),
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
        let of_kind = places.iter().filter(|((of, _), _)| *of == kind);
        let returns: Vec<_> = of_kind
            .filter_map(|((_, key), entry)| {
                Some(Element {
                    key: key.by_link(entry.returns.as_ref()?),
                    value: None,
                    comment: Some(plan.owner.clone()),
                })
            })
            .collect();
        transaction.add_elements(kind.returns, &returns);
    }
    Ok(Some(transaction))
}

fn add_chain(transaction: &mut Transaction, name: &str, rules: Vec<Expr>) {
    transaction.add_chain(&Chain { name, hook: None });
    for rule in rules {
        transaction.add_rule(name, rule, None);
    }
}

/// Where an entry stands.
fn place<'a>(entry: &'a Entry, waiting: &[&Entry]) -> (&'static Kind, &'a Key) {
    match waiting.iter().any(|one| std::ptr::eq(*one, entry)) {
        true => (entry.waiting.0, &entry.waiting.1),
        false => (entry.kind, &entry.key),
    }
}

/// The entries whose ports another network of the same container has.
///
/// # Errors
/// Code 7 when another container has one.
fn taken<'a>(nft: &mut Handle, plan: &'a Plan) -> Result<Vec<&'a Entry>> {
    let mut taken = Vec::new();
    for entry in &plan.entries {
        let held = nft
            .element(TABLE, entry.kind.targets, &entry.key)
            .map_err(kernel)?;
        let Some(holder) = held.and_then(|element| element.comment) else {
            continue;
        };
        if holder == plan.owner {
            continue;
        }
        if !identity::same_container(&holder, &plan.owner) {
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
        taken.push(entry);
    }
    Ok(taken)
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
    let waiting = taken(&mut nft, plan)?;
    for entry in &plan.entries {
        let (kind, key) = place(entry, &waiting);
        let map = kind.targets;
        let found = nft.element(TABLE, map, key).map_err(kernel)?;
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
        if let Some(policy) = policies.find(|policy| policy.v6 == kind.service.v6) {
            let map = kind.policies;
            let found = nft.element(TABLE, map, key).map_err(kernel)?;
            if found.and_then(|element| element.value) != Some(Value::Jump(policy.chain.clone())) {
                return Err(gone(
                    format!("the policy of host port {} is missing", entry.name),
                    &format!("map inet heddle_cni {map}"),
                ));
            }
        }
    }
    for entry in &plan.entries {
        let (kind, key) = place(entry, &waiting);
        let Some(link) = &entry.returns else { continue };
        let found = nft
            .element(TABLE, kind.returns, &key.by_link(link))
            .map_err(kernel)?;
        if found.is_none() {
            return Err(gone(
                format!(
                    "pods on {link} do not reach host port {} any more",
                    entry.name
                ),
                &format!("set inet heddle_cni {}", kind.returns),
            ));
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
    let base = plan.mark_bit.map(|_| (MASQUERADE.to_owned(), 2));
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
