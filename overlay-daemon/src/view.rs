//! The set of nodes, as a membership source sees it, with what contradicts itself sorted out.

use std::collections::{BTreeMap, BTreeSet};

use crate::node::Node;

/// All nodes that are to be reached, by name, with this node among them or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    nodes: BTreeMap<String, Node>,
    conflicts: BTreeMap<String, String>,
}

impl View {
    /// Takes the nodes in any order. Of two nodes that claim one name, underlay address, VTEP MAC or CIDR only the first by
    /// name (then by address) is kept; the other becomes a conflict.
    pub fn new(nodes: impl IntoIterator<Item = Node>) -> Self {
        let mut sorted: Vec<Node> = nodes.into_iter().collect();
        sorted.sort_by(|a, b| {
            (&a.name, &a.endpoints, &a.pod_cidrs).cmp(&(&b.name, &b.endpoints, &b.pod_cidrs))
        });
        sorted.dedup();
        let mut view = Self::default();
        let mut taken: BTreeMap<String, String> = BTreeMap::new();
        for node in sorted {
            let claims = claims(&node);
            let clash = claims
                .iter()
                .find_map(|claim| Some((claim, taken.get(claim)?)));
            if let Some((claim, owner)) = clash {
                let what = format!("its {claim} is that of {owner}: give each node its own");
                view.conflicts.insert(node.name, what);
                continue;
            }
            taken.extend(claims.into_iter().map(|claim| (claim, node.name.clone())));
            view.nodes.insert(node.name.clone(), node);
        }
        view
    }

    /// The nodes that contradict nobody.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// One of them.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name)
    }

    /// The nodes that are left out, with the reason.
    pub fn conflicts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.conflicts
            .iter()
            .map(|(name, why)| (name.as_str(), why.as_str()))
    }
}

/// What only one node may have.
fn claims(node: &Node) -> BTreeSet<String> {
    let name = format!("name {}", node.name);
    let mac = format!("VTEP MAC {}", netlink::Mac::from(node.vtep_mac));
    let endpoints = node
        .endpoints
        .iter()
        .map(|ip| format!("underlay address {ip}"));
    let cidrs = node.pod_cidrs.iter().map(|cidr| format!("pod CIDR {cidr}"));
    [name, mac]
        .into_iter()
        .chain(endpoints)
        .chain(cidrs)
        .collect()
}
