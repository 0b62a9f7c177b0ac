//! A table that several features live in: each deletes its own part, and whoever is the last the table.

use netlink::nft::{ChainInfo, Transaction};

/// What one feature has in the table.
#[derive(Debug)]
pub struct Part<'a> {
    /// Its chains by name, those with a hook first.
    pub chains: &'a [&'a str],
    /// How the names of its other chains begin.
    pub prefix: &'a str,
    /// Its sets and maps, whose elements may jump to the other chains.
    pub sets: &'a [&'a str],
    /// Sets that rules of the other chains use.
    pub inner_sets: &'a [&'a str],
}

impl Part<'_> {
    /// Whether a chain of the table is this feature's.
    pub fn has(&self, chain: &ChainInfo) -> bool {
        self.chains.contains(&chain.name.as_str()) || chain.name.starts_with(self.prefix)
    }

    /// Deletes the part, or the table if nothing else is in it; `chains` are those that the table has.
    pub fn delete(&self, transaction: &mut Transaction, chains: &[ChainInfo]) {
        let ours: Vec<_> = chains.iter().filter(|chain| self.has(chain)).collect();
        if ours.is_empty() {
            return;
        }
        if ours.len() == chains.len() {
            transaction.delete_table();
            return;
        }
        // First the rules that use sets, then the sets, whose elements jump to chains, then these, then what they use:
        // the kernel deletes nothing that is in use.
        for name in self.chains {
            if ours.iter().any(|chain| chain.name == *name) {
                transaction.delete_chain(name);
            }
        }
        self.sets
            .iter()
            .for_each(|name| transaction.delete_set(name));
        for chain in ours {
            if !self.chains.contains(&chain.name.as_str()) {
                transaction.delete_chain(&chain.name);
            }
        }
        self.inner_sets
            .iter()
            .for_each(|name| transaction.delete_set(name));
    }
}
