//! How rules go: elements, then the chains that nothing jumps to any more, and with the last of them the whole part.

use std::collections::HashMap;

use cni::Result;
use netlink::nft::{Element, Handle, Transaction, Value};

use super::{ATTEMPTS, Rules};
use crate::error::kernel;
use crate::shared_table::Part;

impl Rules {
    /// Deletes elements, and in the same transaction what nobody needs without them.
    pub(super) fn delete(
        &self,
        nft: &mut Handle,
        elements: Vec<(&'static str, Element)>,
    ) -> Result<()> {
        if elements.is_empty() {
            return Ok(());
        }
        let mut users = HashMap::new();
        for (_, element) in &elements {
            if let Some(Value::Jump(chain)) = &element.value {
                *users.entry(chain.as_str()).or_default() += 1;
            }
        }
        for _ in 0..ATTEMPTS {
            match self.delete_whole(nft, &elements, &users) {
                Ok(()) => return self.tidy_if_idle(nft, &users),
                Err(error) if error.is_busy() => {}
                // One of them has gone in between, and a transaction is done whole or not at all.
                Err(error) if error.is_not_found() => break,
                Err(error) => return Err(kernel(error)),
            }
        }
        // Others are at work on the table all the time: each element by itself, whatever else there is.
        for element in &elements {
            let mut transaction = Transaction::new(self.table);
            delete(&mut transaction, element);
            match nft.commit(&transaction) {
                Err(error) if error.is_not_found() => {}
                outcome => outcome.map_err(kernel)?,
            }
        }
        self.tidy_if_idle(nft, &users)
    }

    /// Deletes elements and what nobody needs without them in one transaction, or a call that is killed would leave it.
    fn delete_whole(
        &self,
        nft: &mut Handle,
        elements: &[(&'static str, Element)],
        users: &HashMap<&str, u32>,
    ) -> netlink::Result<()> {
        let generation = nft.generation()?;
        let mut transaction = Transaction::new(self.table);
        for element in elements {
            delete(&mut transaction, element);
        }
        if self.any_idle(nft, users)? {
            transaction.if_generation(generation);
            self.tidy_without(nft, users, &mut transaction)?;
        }
        nft.commit(&transaction)
    }

    /// Tidies up when one of these chains has no user left: of two calls that delete at once, each has seen the other's
    /// elements.
    fn tidy_if_idle(&self, nft: &mut Handle, users: &HashMap<&str, u32>) -> Result<()> {
        let users = users.keys().map(|chain| (*chain, 0)).collect();
        match self.any_idle(nft, &users).map_err(kernel)? {
            true => self.tidy(nft),
            false => Ok(()),
        }
    }

    /// Whether one of these chains is needed by nobody once so many users of it are gone.
    fn any_idle(&self, nft: &mut Handle, users: &HashMap<&str, u32>) -> netlink::Result<bool> {
        for (chain, gone) in users {
            let info = nft.chain(self.table, chain)?;
            if info.is_some_and(|info| info.uses <= self.rules_per_chain + gone) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes the chains that nothing jumps to, and with the last of them all that is ours in the table.
    pub(super) fn tidy(&self, nft: &mut Handle) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let generation = nft.generation().map_err(kernel)?;
            let mut transaction = Transaction::new(self.table);
            transaction.if_generation(generation);
            let done = self
                .tidy_without(nft, &HashMap::new(), &mut transaction)
                .and_then(|()| nft.commit(&transaction));
            match done {
                Err(error) if error.is_busy() || error.is_not_found() => {}
                outcome => return outcome.map_err(kernel),
            }
        }
        // Others are at work on the table all the time; the last of them tidies up.
        Ok(())
    }

    /// The same as part of a transaction, in which so many users of each chain go.
    fn tidy_without(
        &self,
        nft: &mut Handle,
        users: &HashMap<&str, u32>,
        transaction: &mut Transaction,
    ) -> netlink::Result<()> {
        let chains = nft.chains(self.table)?;
        let part = Part {
            chains: &[self.base],
            prefix: self.prefix,
            sets: &self.maps.iter().map(|map| map.name).collect::<Vec<_>>(),
            inner_sets: &self.sets.iter().map(|set| set.name).collect::<Vec<_>>(),
        };
        let (idle, used): (Vec<_>, Vec<_>) = chains
            .iter()
            .filter(|chain| !chain.base && part.has(chain))
            .partition(|chain| {
                let gone = users.get(chain.name.as_str()).unwrap_or(&0);
                chain.uses <= self.rules_per_chain + gone
            });
        if used.is_empty() {
            part.delete(transaction, &chains);
        } else {
            idle.iter()
                .for_each(|chain| transaction.delete_chain(&chain.name));
        }
        Ok(())
    }
}

/// Deletes an element by its key.
fn delete(transaction: &mut Transaction, (map, element): &(&'static str, Element)) {
    let by_key = Element {
        key: element.key.clone(),
        value: None,
        comment: None,
    };
    transaction.delete_elements(map, &[by_key]);
}
