//! The set of nodes, as a membership source sees it, with what contradicts itself and what no node can be sorted out.

mod credible;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::config::Config;
use crate::node::Node;

/// All nodes that are to be reached, by name, with this node among them or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    nodes: BTreeMap<String, Node>,
    conflicts: BTreeMap<String, String>,
}

/// This node's own pod CIDRs as they can be used.
///
/// # Errors
/// Why pods cannot have one of them, as the rest of a sentence that begins with the node's name.
pub fn own_cidrs(cidrs: &[IpNetwork], config: &Config) -> Result<Vec<IpNetwork>, String> {
    let each = cidrs.iter().map(|cidr| credible::pod_cidr(*cidr, config));
    each.collect()
}

impl View {
    /// Takes the nodes in any order. Of two nodes that claim one name, underlay address or VTEP MAC, or whose CIDRs overlap,
    /// only the first by name (then by address) is kept; the other becomes a conflict, as does what no node can be.
    pub fn new(nodes: impl IntoIterator<Item = Node>, config: &Config) -> Self {
        let mut sorted: Vec<Node> = nodes.into_iter().collect();
        sorted.sort_by(|a, b| {
            (&a.name, &a.endpoints, &a.pod_cidrs).cmp(&(&b.name, &b.endpoints, &b.pod_cidrs))
        });
        sorted.dedup();
        let mut view = Self::default();
        let mut taken: BTreeMap<String, String> = BTreeMap::new();
        let mut ranges = Ranges::default();
        for node in sorted {
            let name = node.name.clone();
            if !credible::is_name(&name) {
                let shown: String = name.escape_default().take(64).collect();
                view.conflicts
                    .insert(shown, "this is not a node's name".into());
                continue;
            }
            let node = match credible::credible(node, config) {
                Ok(node) => node,
                Err(why) => {
                    view.conflicts.insert(name, why);
                    continue;
                }
            };
            let claims = claims(&node);
            let clash = claims
                .iter()
                .find_map(|claim| Some((claim, taken.get(claim)?)));
            let clash = clash.map(|(claim, owner)| format!("its {claim} is that of {owner}"));
            if let Some(what) = clash.or_else(|| ranges.clash(&node)) {
                let what = format!("{what}: give each node its own");
                view.conflicts.insert(name, what);
                continue;
            }
            taken.extend(claims.into_iter().map(|claim| (claim, name.clone())));
            ranges.take(&node);
            view.nodes.insert(name, node);
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
    [name, mac].into_iter().chain(endpoints).collect()
}

/// Who has which addresses for pods; no two entries overlap.
#[derive(Default)]
struct Ranges(BTreeMap<IpAddr, (IpNetwork, String)>);

impl Ranges {
    /// The first of a node's CIDRs that overlaps somebody else's. All that could is the entry that begins last before its
    /// end.
    fn clash(&self, node: &Node) -> Option<String> {
        let mut others = node.pod_cidrs.iter().filter_map(|cidr| {
            let (_, (other, owner)) = self.0.range(..=cidr.broadcast()).next_back()?;
            let clash = crate::plan::overlap(*cidr, *other);
            clash.then(|| match cidr == other {
                true => format!("its pod CIDR {cidr} is that of {owner}"),
                false => format!("its pod CIDR {cidr} overlaps {other} of {owner}"),
            })
        });
        others.next()
    }

    fn take(&mut self, node: &Node) {
        let entries = node.pod_cidrs.iter();
        self.0
            .extend(entries.map(|cidr| (cidr.network(), (*cidr, node.name.clone()))));
    }
}
