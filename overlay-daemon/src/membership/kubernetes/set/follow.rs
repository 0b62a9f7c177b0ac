//! What follows from a set of which a few Nodes have changed: among thousands the quicker way to the same.

use super::{Seen, Set, disagreement};
use crate::config::Config;

/// More changed Nodes than this are not held against all one by one.
const FEW: usize = 16;

impl Set {
    /// What [`Set::seen`] gives, made from what followed before the Nodes named in `changed` became what they are.
    pub fn follow(&self, before: Option<Seen>, changed: &[String], config: &Config) -> Seen {
        before
            .and_then(|before| self.change(before, changed, config))
            .unwrap_or_else(|| self.seen(config))
    }

    /// `None` where Nodes have to do with each other, or something is to be said of one.
    fn change(&self, mut seen: Seen, changed: &[String], config: &Config) -> Option<Seen> {
        if !seen.notes.is_empty() || changed.len() > FEW || changed.contains(&config.node_name) {
            return None;
        }
        for name in changed {
            let place = seen.nodes.binary_search_by(|node| node.name.cmp(name));
            let record = self.0.get(name);
            if let Some(record) = record {
                let mut others = self.0.values().filter(|other| other.node.name != *name);
                if others.any(|other| record.shares(other))
                    || disagreement(record, config).is_some()
                {
                    return None;
                }
            }
            match (place, record.map(|record| record.reachable())) {
                (Ok(place), Some(node)) => seen.nodes[place] = node,
                (Err(place), Some(node)) => seen.nodes.insert(place, node),
                (Ok(place), None) => drop(seen.nodes.remove(place)),
                (Err(_), None) => {}
            }
        }
        Some(seen)
    }
}
