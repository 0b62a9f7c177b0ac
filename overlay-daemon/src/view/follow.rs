//! A view that follows the set of nodes: among thousands, one that is another is held against all, and not all against all.

use std::collections::BTreeMap;
use std::sync::Arc;

use itertools::EitherOrBoth::{Both, Left, Right};
use itertools::Itertools;

use super::{View, credible};
use crate::config::Config;
use crate::networks::overlap;
use crate::node::Node;

/// More new nodes than this are not held against all one by one.
const FEW: usize = 16;

impl View {
    /// What [`View::new`] gives, made from `before` where that is quicker: the nodes come sorted by name, and neither were
    /// there conflicts nor are there any now.
    pub fn follow(before: Option<&Self>, nodes: &[Arc<Node>], config: &Config) -> Self {
        let followed = before.and_then(|before| before.change(nodes, config));
        followed.unwrap_or_else(|| Self::new(nodes.iter().cloned(), config))
    }

    fn change(&self, nodes: &[Arc<Node>], config: &Config) -> Option<Self> {
        if !self.conflicts.is_empty() || !nodes.is_sorted_by(|a, b| a.name < b.name) {
            return None;
        }
        let (mut all, mut new) = (Vec::with_capacity(nodes.len()), Vec::new());
        let pairs = self
            .nodes
            .iter()
            .merge_join_by(nodes, |a, b| a.name.cmp(&b.name));
        for pair in pairs {
            match pair {
                Left(_) => {}
                Both(old, now) if Arc::ptr_eq(old, now) || old == now => all.push(Arc::clone(old)),
                Both(_, now) | Right(now) => {
                    if new.len() == FEW || !credible::is_name(&now.name) {
                        return None;
                    }
                    let now = credible::credible(Arc::clone(now), config).ok()?;
                    new.push(Arc::clone(&now));
                    all.push(now);
                }
            }
        }
        let clashes = |node: &Arc<Node>| all.iter().any(|other| contradict(node, other));
        (!new.iter().any(clashes)).then_some(Self {
            nodes: all,
            conflicts: BTreeMap::new(),
        })
    }
}

/// Whether two nodes of different names claim the same.
fn contradict(a: &Node, b: &Node) -> bool {
    let cidrs = |cidr| b.pod_cidrs.iter().any(|other| overlap(cidr, *other));
    let same = a.vtep_mac == b.vtep_mac
        || a.endpoints.iter().any(|ip| b.endpoints.contains(ip))
        || a.pod_cidrs.iter().any(|cidr| cidrs(*cidr));
    same && a.name != b.name
}
