//! Ports that are given up: found by the comment that names their owner, and with the last of them all that is ours.

use std::collections::HashSet;
use std::net::IpAddr;

use cni::{Call, Result, identity};
use netlink::nft::{Element, Handle, Key, Transaction, Value};

use super::localhost;
use super::table::{self, KINDS, Kind, LOOKUPS, PART, TABLE};
use crate::error::kernel;
use crate::netns_lock::NetnsLock;
use crate::rules;
use crate::stale;

/// How often a transaction is made anew because somebody else's came in between.
const ATTEMPTS: usize = 20;

/// A port that was removed: its key, and where it led.
pub type Removed = (Key, (IpAddr, u16));

/// Removes what is this attachment's, and says what it was.
///
/// # Errors
/// What the kernel said; never for what is gone already.
pub fn remove(nft: &mut Handle, call: &Call) -> Result<Vec<Removed>> {
    let owner = rules::owner(&call.conf.name, &call.attachment);
    remove_and_take_down(nft, |mark| mark == owner)
}

/// Removes what belongs to attachments of this network that are not valid, and says what it was.
///
/// # Errors
/// What the kernel said.
pub fn collect(nft: &mut Handle, call: &Call) -> Result<Vec<Removed>> {
    remove_and_take_down(nft, stale::marks(call, identity::COMMENT_MAX))
}

/// Removes what is ours, and the whole part of the table when no other port is left.
fn remove_and_take_down(nft: &mut Handle, is_ours: impl Fn(&str) -> bool) -> Result<Vec<Removed>> {
    let removed = remove_owned(nft, is_ours)?;
    // Only now: of two calls that remove at once, each has seen the other's.
    if nft.chain(TABLE, LOOKUPS).map_err(kernel)?.is_some() && is_empty(nft)? {
        take_down(nft)?;
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

/// An element, and where it stands.
struct Row {
    kind: &'static Kind,
    map: &'static str,
    element: Element,
}

/// Removes what is ours as far as it is there; a port that another network of the same container waits for goes to it.
///
/// # Errors
/// What the kernel said.
pub fn remove_owned(nft: &mut Handle, is_ours: impl Fn(&str) -> bool) -> Result<Vec<Removed>> {
    let mut outcome = Ok(());
    for _ in 0..ATTEMPTS {
        if nft.chain(TABLE, LOOKUPS).map_err(kernel)?.is_none() {
            return Ok(Vec::new());
        }
        let (ours, others): (Vec<Row>, Vec<Row>) = rows(nft)?
            .into_iter()
            .partition(|row| row.element.comment.as_deref().is_some_and(&is_ours));
        let mut transaction = Transaction::new(TABLE);
        for row in &ours {
            transaction.delete_elements(row.map, &[by_key(&row.element)]);
        }
        hand_on(&mut transaction, &ours, &others);
        let (mut removed, mut chains) = (Vec::new(), Vec::new());
        for row in ours {
            match row.element.value {
                Some(Value::Target(address, port)) => {
                    removed.push((row.element.key, (address, port)));
                }
                Some(Value::Jump(chain)) if !chains.contains(&chain) => chains.push(chain),
                _ => {}
            }
        }
        chains
            .iter()
            .for_each(|chain| transaction.delete_chain(chain));
        outcome = nft.commit(&transaction);
        match &outcome {
            Ok(()) => return Ok(removed),
            // Another call was there first.
            Err(error) if error.is_not_found() || error.is_busy() => {}
            Err(_) => break,
        }
    }
    outcome.map(|()| Vec::new()).map_err(kernel)
}

fn rows(nft: &mut Handle) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for kind in &KINDS {
        for map in [kind.targets, kind.policies, kind.returns] {
            let elements = nft.elements(TABLE, map).map_err(kernel)?;
            rows.extend(
                elements
                    .into_iter()
                    .map(|element| Row { kind, map, element }),
            );
        }
    }
    Ok(rows)
}

/// Moves those that wait for a port that becomes free to its key.
fn hand_on(transaction: &mut Transaction, free: &[Row], others: &[Row]) {
    let mut moved = HashSet::new();
    for row in free
        .iter()
        .filter(|row| row.map == row.kind.targets && !row.waits())
    {
        let Some(heir) = others.iter().find(|other| other.waits_for(row)) else {
            continue;
        };
        let parts = others
            .iter()
            .filter(|part| part.kind == heir.kind && part.service() == heir.element.key);
        for part in parts {
            if moved.insert((part.map, &part.element.key)) {
                transaction.delete_elements(part.map, &[by_key(&part.element)]);
            }
            let (to, key) = part.place_of(row);
            let element = Element {
                key,
                ..part.element.clone()
            };
            transaction.add_elements(to, &[element]);
        }
    }
}

impl Row {
    /// The link, in the set that is keyed by one too.
    fn link(&self) -> Option<(Key, String)> {
        let has_link = self.map == self.kind.returns;
        self.element.key.split_link().filter(|_| has_link)
    }

    /// The key without the link.
    fn service(&self) -> Key {
        match self.link() {
            Some((key, _)) => key,
            None => self.element.key.clone(),
        }
    }

    /// Where this goes when it takes the place of a target.
    fn place_of(&self, target: &Self) -> (&'static str, Key) {
        let (to, key) = (target.kind, &target.element.key);
        match self.link() {
            Some((_, link)) => (to.returns, key.by_link(&link)),
            None if self.map == self.kind.targets => (to.targets, key.clone()),
            None => (to.policies, key.clone()),
        }
    }

    /// Whether this is a port that waits for another network's to become free.
    fn waits(&self) -> bool {
        match (&self.element.value, self.element.key.as_service()) {
            (Some(Value::Target(address, _)), Some((_, protocol, port))) => {
                self.element.key == table::waiting(*address, protocol, port).1
            }
            _ => false,
        }
    }

    fn waits_for(&self, other: &Self) -> bool {
        let service = |row: &Self| {
            let (_, protocol, port) = row.element.key.as_service()?;
            Some((row.kind.service.v6, protocol, port))
        };
        let marks = self
            .element
            .comment
            .as_ref()
            .zip(other.element.comment.as_ref());
        self.waits()
            && service(self) == service(other)
            && marks.is_some_and(|(own, others)| identity::same_container(own, others))
    }
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
