//! The set of nodes, as a membership source sees it, with what contradicts itself and what no node can be sorted out.

mod credible;
mod follow;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use itertools::EitherOrBoth::Both;
use itertools::Itertools;
use netlink::Mac;

use crate::config::Config;
use crate::networks::overlap;
use crate::node::Node;

/// All nodes that are to be reached, by name, with this node among them or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// By name.
    nodes: Vec<Arc<Node>>,
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
    pub fn new(nodes: impl IntoIterator<Item = impl Into<Arc<Node>>>, config: &Config) -> Self {
        let mut sorted: Vec<Arc<Node>> = nodes.into_iter().map(Into::into).collect();
        sorted.sort_by(|a, b| {
            (&a.name, &a.endpoints, &a.pod_cidrs).cmp(&(&b.name, &b.endpoints, &b.pod_cidrs))
        });
        sorted.dedup();
        let mut view = Self::default();
        let mut believed = Vec::with_capacity(sorted.len());
        for node in sorted {
            if !credible::is_name(&node.name) {
                let shown: String = node.name.escape_default().take(64).collect();
                view.conflicts
                    .insert(shown, "this is not a node's name".into());
                continue;
            }
            let name = node.name.clone();
            match credible::credible(node, config) {
                Ok(node) => believed.push(node),
                Err(why) => drop(view.conflicts.insert(name, why)),
            }
        }
        let mut taken: HashMap<Claim, &str> = HashMap::with_capacity(3 * believed.len());
        let mut ranges = Ranges::default();
        for node in &believed {
            let clash = claims(node).find_map(|claim| Some((claim, taken.get(&claim)?)));
            let clash = clash.map(|(claim, owner)| format!("its {claim} is that of {owner}"));
            if let Some(what) = clash.or_else(|| ranges.clash(node)) {
                let what = format!("{what}: give each node its own");
                view.conflicts.insert(node.name.clone(), what);
                continue;
            }
            taken.extend(claims(node).map(|claim| (claim, &*node.name)));
            ranges.take(node);
            view.nodes.push(Arc::clone(node));
        }
        view
    }

    /// The nodes that contradict nobody.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().map(|node| &**node)
    }

    /// One of them.
    pub fn node(&self, name: &str) -> Option<&Node> {
        let place = self.nodes.binary_search_by(|node| (*node.name).cmp(name));
        place.ok().map(|place| &*self.nodes[place])
    }

    /// The nodes of this view that are no more in `later`, or not the same, and those of `later` that are not in this one, or
    /// not the same.
    pub fn differences<'a>(&'a self, later: &'a Self) -> (Vec<&'a Node>, Vec<&'a Node>) {
        let (mut gone, mut new) = (Vec::new(), Vec::new());
        let pairs = self
            .nodes
            .iter()
            .merge_join_by(&later.nodes, |a, b| a.name.cmp(&b.name));
        for pair in pairs {
            match pair {
                Both(old, now) if Arc::ptr_eq(old, now) || old == now => {}
                pair => {
                    gone.extend(pair.as_ref().left().map(|node| &***node));
                    new.extend(pair.right().map(|node| &**node));
                }
            }
        }
        (gone, new)
    }

    /// Why a node of this name is left out, where one is.
    pub fn conflict(&self, name: &str) -> Option<&str> {
        self.conflicts.get(name).map(String::as_str)
    }

    /// The nodes that are left out, with the reason.
    pub fn conflicts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.conflicts
            .iter()
            .map(|(name, why)| (name.as_str(), why.as_str()))
    }
}

/// What only one node may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Claim<'a> {
    Name(&'a str),
    VtepMac(Mac),
    Endpoint(IpAddr),
    PodCidr(IpNetwork),
}

impl fmt::Display for Claim<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Claim::Name(name) => write!(f, "name {name}"),
            Claim::VtepMac(mac) => write!(f, "VTEP MAC {mac}"),
            Claim::Endpoint(ip) => write!(f, "underlay address {ip}"),
            Claim::PodCidr(cidr) => write!(f, "pod CIDR {cidr}"),
        }
    }
}

/// All but the CIDRs, of which parts may be somebody else's.
fn claims(node: &Node) -> impl Iterator<Item = Claim<'_>> {
    let endpoints = node.endpoints.iter().map(|ip| Claim::Endpoint(*ip));
    [
        Claim::Name(&node.name),
        Claim::VtepMac(Mac::from(node.vtep_mac)),
    ]
    .into_iter()
    .chain(endpoints)
}

/// Who has which addresses for pods; no two entries overlap.
#[derive(Default)]
struct Ranges<'a>(BTreeMap<IpAddr, (IpNetwork, &'a str)>);

impl<'a> Ranges<'a> {
    /// The first of a node's CIDRs that overlaps somebody else's. All that could is the entry that begins last before its
    /// end.
    fn clash(&self, node: &Node) -> Option<String> {
        let mut others = node.pod_cidrs.iter().filter_map(|cidr| {
            let (_, (other, owner)) = self.0.range(..=cidr.broadcast()).next_back()?;
            let clash = overlap(*cidr, *other);
            clash.then(|| match cidr == other {
                true => format!("its pod CIDR {cidr} is that of {owner}"),
                false => format!("its pod CIDR {cidr} overlaps {other} of {owner}"),
            })
        });
        others.next()
    }

    fn take(&mut self, node: &'a Node) {
        let entries = node.pod_cidrs.iter();
        self.0
            .extend(entries.map(|cidr| (cidr.network(), (*cidr, &*node.name))));
    }
}
