//! Heddle's nftables tables for pods: a base chain that looks each packet up in verdict maps, an element
//! for each attachment, and chains that the elements jump to.
//!
//! The rules of a node do not grow with its pods: an attachment is one element of a map, found by its
//! key, and owned by whoever its comment names. What nobody needs any more is removed with the last
//! that needed it, chain by chain and at last the table.

mod removal;

use cni::{Attachment, Call, Code, Error, Result, identity};
use netlink::nft::{Chain, Element, Expr, Handle, Hook, Key, Set, Table, Transaction, Type, Value};

use crate::error::kernel;
use crate::stale;

/// How often a transaction is made anew because somebody else's came in between.
const ATTEMPTS: usize = 20;

/// One of our tables.
#[derive(Debug)]
pub struct Rules {
    /// The table.
    pub table: Table,
    /// Its base chain.
    pub base: &'static str,
    /// Where the base chain hangs.
    pub hook: Hook,
    /// The rules of the base chain before the lookups.
    pub prelude: &'static [fn() -> Expr],
    /// Sets beside the maps.
    pub sets: &'static [Set<'static>],
    /// The maps that the base chain looks packets up in, in that order.
    pub maps: &'static [Map],
    /// How the names of the chains begin that elements jump to.
    pub prefix: &'static str,
    /// How many rules each chain has that elements jump to; one with no more uses than these is idle.
    pub rules_per_chain: u32,
}

/// A verdict map and the rule that uses it.
#[derive(Debug)]
pub struct Map {
    /// Its name.
    pub name: &'static str,
    /// What its keys are.
    pub key: Type,
    /// The rule of the base chain that looks a packet up in it.
    pub rule: fn(&str) -> Expr,
}

/// An element to be added, and the chain that it jumps to.
#[derive(Debug)]
pub struct Entry {
    /// Name of the map.
    pub map: &'static str,
    /// Key in the map.
    pub key: Key,
    /// Name of the chain.
    pub chain: String,
    /// Rules of the chain, in order.
    pub rules: Vec<Expr>,
}

/// A netfilter socket. One is enough for a call: the kernel closes it under the lock that all changes take, and holds that
/// until whatever anybody has deleted is freed, which is milliseconds later.
///
/// # Errors
/// When the kernel has no netfilter netlink.
pub fn open() -> Result<Handle> {
    Handle::new().map_err(kernel)
}

/// The comment that makes an element this attachment's.
pub fn owner(network: &str, attachment: &Attachment) -> String {
    identity::mark(network, attachment, identity::COMMENT_MAX)
}

impl Rules {
    /// Adds the entries of one attachment, with whatever of table, maps and chains is not there yet.
    ///
    /// # Errors
    /// Code 4 when a key is held by another attachment that is still there.
    pub fn add(&self, nft: &mut Handle, call: &Call, entries: &[Entry]) -> Result<()> {
        let owner = owner(&call.conf.name, &call.attachment);
        let mut outcome = Ok(());
        for _ in 0..ATTEMPTS {
            let transaction = self.prepare(nft, entries, &owner).map_err(kernel)?;
            outcome = nft.commit(&transaction);
            match &outcome {
                Ok(()) => return Ok(()),
                Err(error) if error.is_exists() => self.evict(nft, entries, &owner)?,
                // A chain went with its last user, or somebody else changed the ruleset: look again.
                Err(error) if error.is_not_found() || error.is_busy() => {}
                Err(_) => break,
            }
        }
        outcome.map_err(kernel)
    }

    /// Removes the elements of this attachment; `keys` says which they can be, `None` that all are to
    /// be looked through.
    ///
    /// # Errors
    /// What the kernel said; never for an element that is already gone.
    pub fn remove(
        &self,
        nft: &mut Handle,
        call: &Call,
        keys: Option<&[(&'static str, Key)]>,
    ) -> Result<()> {
        let owner = owner(&call.conf.name, &call.attachment);
        let found = match keys {
            Some(keys) => self.look_up(nft, keys),
            None => self.look_through(nft),
        };
        let ours = found
            .map_err(kernel)?
            .into_iter()
            .filter(|(_, element)| is_of(element, &owner))
            .collect();
        self.delete(nft, ours)
    }

    /// Removes the elements of this network whose attachment is not among the valid ones.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn collect(&self, nft: &mut Handle, call: &Call) -> Result<()> {
        let is_stale = stale::marks(call, identity::COMMENT_MAX);
        let found = self.look_through(nft).map_err(kernel)?;
        let stale = found
            .into_iter()
            .filter(|(_, element)| element.comment.as_deref().is_some_and(&is_stale));
        self.delete(nft, stale.collect())?;
        self.tidy(nft)
    }

    /// Whether an element with this key is there and is this attachment's.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn has(&self, nft: &mut Handle, call: &Call, map: &'static str, key: Key) -> Result<bool> {
        let owner = owner(&call.conf.name, &call.attachment);
        let found = nft.element(self.table, map, &key).map_err(kernel)?;
        Ok(found.is_some_and(|element| is_of(&element, &owner)))
    }

    /// The transaction that adds `entries`. One that builds a table or a chain is good only for the
    /// ruleset that was looked at, or two calls would build it twice.
    fn prepare(
        &self,
        nft: &mut Handle,
        entries: &[Entry],
        owner: &str,
    ) -> netlink::Result<Transaction> {
        let mut transaction = Transaction::new(self.table);
        let generation = nft.generation()?;
        let mut missing = Vec::new();
        for entry in entries {
            if !missing.contains(&entry.chain) && nft.chain(self.table, &entry.chain)?.is_none() {
                missing.push(entry.chain.clone());
            }
        }
        if !missing.is_empty() {
            transaction.if_generation(generation);
            if nft.chain(self.table, self.base)?.is_none() {
                self.build(&mut transaction);
            }
        }
        for chain in missing {
            transaction.add_chain(&Chain {
                name: &chain,
                hook: None,
            });
            let rules = entries
                .iter()
                .find(|entry| entry.chain == chain)
                .map(|entry| &entry.rules);
            for rule in rules.into_iter().flatten() {
                transaction.add_rule(&chain, rule.clone(), None);
            }
        }
        for entry in entries {
            let element = Element {
                key: entry.key.clone(),
                value: Some(Value::Jump(entry.chain.clone())),
                comment: Some(owner.to_owned()),
            };
            transaction.add_elements(entry.map, &[element]);
        }
        Ok(transaction)
    }

    fn build(&self, transaction: &mut Transaction) {
        transaction.add_table();
        transaction.add_chain(&Chain {
            name: self.base,
            hook: Some(self.hook),
        });
        for rule in self.prelude {
            transaction.add_rule(self.base, rule(), None);
        }
        self.sets.iter().for_each(|set| transaction.add_set(set));
        for map in self.maps {
            transaction.add_set(&Set {
                name: map.name,
                key: map.key,
                verdicts: true,
            });
            transaction.add_rule(self.base, (map.rule)(map.name), None);
        }
    }

    /// Makes room for `entries`: removes elements with their keys that an attachment has left behind.
    fn evict(&self, nft: &mut Handle, entries: &[Entry], owner: &str) -> Result<()> {
        let keys: Vec<_> = entries
            .iter()
            .map(|entry| (entry.map, entry.key.clone()))
            .collect();
        let held = self.look_up(nft, &keys).map_err(kernel)?;
        for (_, element) in &held {
            let holder = element.comment.as_deref().unwrap_or("nobody we know");
            if holder != owner && is_alive(holder)? {
                return Err(Error::new(
                    Code::InvalidEnvironment,
                    format!(
                        "the pod's address is held by attachment {holder}: give this pod another one, or delete that pod"
                    ),
                ));
            }
        }
        self.delete(nft, held)
    }

    fn look_up(
        &self,
        nft: &mut Handle,
        keys: &[(&'static str, Key)],
    ) -> netlink::Result<Vec<(&'static str, Element)>> {
        let mut found = Vec::new();
        for (map, key) in keys {
            found.extend(
                nft.element(self.table, map, key)?
                    .map(|element| (*map, element)),
            );
        }
        Ok(found)
    }

    fn look_through(&self, nft: &mut Handle) -> netlink::Result<Vec<(&'static str, Element)>> {
        let mut found = Vec::new();
        for map in self.maps {
            let elements = nft.elements(self.table, map.name)?;
            found.extend(elements.into_iter().map(|element| (map.name, element)));
        }
        Ok(found)
    }
}

fn is_of(element: &Element, owner: &str) -> bool {
    element.comment.as_deref() == Some(owner)
}

/// Whether the attachment that a comment names still has its link. One whose name had to be shortened
/// cannot be told, and counts as alive.
fn is_alive(mark: &str) -> Result<bool> {
    let Some((network, attachment)) = identity::parse_mark(mark) else {
        return Ok(true);
    };
    let name = identity::host_link_name(&attachment);
    let link = netlink::Handle::new()
        .and_then(|mut host| host.link(&name))
        .map_err(kernel)?;
    let alias = identity::mark(&network, &attachment, identity::ALIAS_MAX);
    Ok(link.is_some_and(|link| link.alias == Some(alias)))
}
