//! The set of Nodes, and what follows from it: a function of the set alone, whatever the order in which it came about.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use itertools::Itertools;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use netlink::Mac;

use super::api::{CAPABILITIES, CONDITION, Condition, ENDPOINTS, KubeNode, VTEP_MAC};
use crate::config::Config;
use crate::names::vtep_mac;
use crate::node::Node;
use crate::view::Claim;

mod follow;

/// What is kept of a Node.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Record {
    node: Arc<Node>,
    created: Option<Time>,
    is_deleting: bool,
    capabilities: Option<String>,
}

/// The Nodes by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Set(BTreeMap<String, Record>);

/// What follows for one of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Seen {
    /// Its own pod CIDRs; none while it has no Node, or the Node none.
    pub own_cidrs: Option<Vec<IpNetwork>>,
    /// The others.
    pub nodes: Vec<Arc<Node>>,
    /// What a person may want to know about the others.
    pub notes: Vec<String>,
}

impl Record {
    fn new(name: &str, object: &KubeNode) -> Self {
        let annotation = |key: &str| object.metadata.annotations.as_ref()?.get(key).cloned();
        let endpoints = annotation(ENDPOINTS).unwrap_or_default();
        let endpoints: Vec<IpAddr> = endpoints
            .split(',')
            .filter_map(|ip| ip.trim().parse().ok())
            .collect();
        let mac = annotation(VTEP_MAC).and_then(|mac| mac.parse::<Mac>().ok());
        Self {
            node: Arc::new(Node {
                name: name.to_owned(),
                vtep_mac: mac.map_or_else(|| vtep_mac(name), Mac::bytes),
                pod_cidrs: pod_cidrs(object),
                endpoints,
            }),
            created: object.metadata.creation_timestamp.clone(),
            is_deleting: object.metadata.deletion_timestamp.is_some(),
            capabilities: annotation(CAPABILITIES),
        }
    }
}

impl Record {
    /// The node as others can reach it: nobody knows yet where it is, until its daemon runs and says so.
    fn reachable(&self) -> Arc<Node> {
        let mut node = Arc::clone(&self.node);
        if node.endpoints.is_empty() && !node.pod_cidrs.is_empty() {
            Arc::make_mut(&mut node).pod_cidrs.clear();
        }
        node
    }

    /// Whether it and another claim the same.
    fn shares(&self, other: &Self) -> bool {
        claims(&self.node).any(|claim| claims(&other.node).contains(&claim))
    }
}

/// What moves on from one Node to another.
fn claims(node: &Node) -> impl Iterator<Item = Claim<'_>> + Clone {
    let cidrs = node.pod_cidrs.iter().map(|cidr| Claim::PodCidr(*cidr));
    cidrs.chain(node.endpoints.iter().map(|ip| Claim::Endpoint(*ip)))
}

/// The CIDRs that Kubernetes gave to a node, the first of each family.
fn pod_cidrs(object: &KubeNode) -> Vec<IpNetwork> {
    let listed = object.spec.pod_cidrs.iter();
    let all = listed.chain([&object.spec.pod_cidr]);
    let mut cidrs: Vec<IpNetwork> = Vec::new();
    for cidr in all.filter_map(|cidr| cidr.parse::<IpNetwork>().ok()) {
        if !cidrs.iter().any(|other| other.is_ipv4() == cidr.is_ipv4()) {
            cidrs.push(cidr);
        }
    }
    cidrs
}

impl Set {
    /// Puts a Node in, and says whether anything that matters is new.
    pub fn apply(&mut self, object: &KubeNode) -> bool {
        let name = object.metadata.name.clone().unwrap_or_default();
        let record = Record::new(&name, object);
        self.0.insert(name, record.clone()) != Some(record)
    }

    /// Takes a Node out, and says whether it was there.
    pub fn remove(&mut self, object: &KubeNode) -> bool {
        let name = object.metadata.name.as_deref().unwrap_or_default();
        self.0.remove(name).is_some()
    }

    /// What follows for the node `config` is of.
    pub fn seen(&self, config: &Config) -> Seen {
        let mut seen = Seen::default();
        let mut owners: Vec<&Record> = self.0.values().collect();
        // A CIDR or an address moves on: from one that is being deleted, and to the newest.
        owners.sort_by(|a, b| {
            let age = b
                .created
                .as_ref()
                .map(|time| time.0)
                .cmp(&a.created.as_ref().map(|time| time.0));
            (a.is_deleting.cmp(&b.is_deleting))
                .then(age)
                .then(a.node.name.cmp(&b.node.name))
        });
        let mut taken: HashMap<Claim, &str> = HashMap::with_capacity(2 * owners.len());
        for record in owners {
            let node = &record.node;
            let claims = claims(node);
            let mut others = claims.clone();
            let lost = others.find_map(|claim| Some((claim, taken.get(&claim)?)));
            if node.name == config.node_name {
                seen.own_cidrs = Some(node.pod_cidrs.clone());
            } else if let Some((claim, owner)) = lost {
                let why = if record.is_deleting {
                    "is being deleted"
                } else {
                    "is the older Node"
                };
                seen.notes.push(format!(
                    "{} is left out: its {claim} is that of {owner} now, and it {why}",
                    node.name
                ));
                continue;
            } else {
                seen.notes.extend(disagreement(record, config));
                seen.nodes.push(record.reachable());
            }
            taken.extend(claims.map(|claim| (claim, &*node.name)));
        }
        seen.nodes.sort_by(|a, b| a.name.cmp(&b.name));
        seen
    }
}

/// What all nodes have to agree on, as the annotation says it.
pub(super) fn capabilities(config: &Config) -> String {
    format!("vni={},vxlan-port={}", config.vni, config.vxlan_port)
}

fn disagreement(record: &Record, config: &Config) -> Option<String> {
    let own = capabilities(config);
    let theirs = record.capabilities.as_ref()?;
    // A later version may add to them what this one knows nothing of.
    if own
        .split(',')
        .all(|one| theirs.split(',').any(|other| other == one))
    {
        return None;
    }
    Some(format!(
        "{} has {theirs}, this node {own}: no packet passes until they are the same on all nodes",
        record.node.name
    ))
}

/// A node's condition, where it has it.
pub(super) fn condition(object: &KubeNode) -> Option<&Condition> {
    let mut conditions = object.status.conditions.iter();
    conditions.find(|condition| condition.kind == CONDITION)
}

#[cfg(test)]
mod tests;
