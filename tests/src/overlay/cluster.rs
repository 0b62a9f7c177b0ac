//! The cluster that most tests and the demo run on: two nodes on one switch, the third behind the router.
use std::fs;

use super::{Member, Placed};
use crate::inspect::sh;
use crate::{Fabric, Result};

/// The nodes, their switches and hosts, as written down.
pub const NODES: [(&str, &[&str], u8); 3] = [
    ("n1", &["192.0.1.11", "fd00:1::11"], 1),
    ("n2", &["192.0.1.12", "fd00:1::12"], 2),
    ("n3", &["192.0.2.13", "fd00:2::13"], 3),
];
const PLACES: [(&str, u8, u8); 3] = [("n1", 1, 11), ("n2", 1, 12), ("n3", 2, 13)];

/// The fabric and the nodes on it.
#[derive(Debug)]
pub struct Cluster {
    /// The fabric.
    pub fabric: Fabric,
    /// The nodes, n1 to n3.
    pub members: Vec<Member>,
}

impl Cluster {
    /// Three nodes with these keys, not started.
    pub fn new(config: &str) -> Result<Cluster> {
        let fabric = Fabric::new()?;
        fabric.switch(1)?;
        fabric.switch(2)?;
        let members = PLACES
            .iter()
            .map(|(name, switch, host)| Member::new(&fabric, name, *switch, *host, config));
        Ok(Cluster {
            members: members.collect::<Result<_>>()?,
            fabric,
        })
    }

    /// Three nodes that stand in each other's file, with more keys, ready.
    pub fn fixed(config: &str) -> Result<Cluster> {
        let mut cluster = Cluster::new(&format!("membership = \"static\"\n{config}"))?;
        cluster.write_nodes(&NODES)?;
        cluster.start()?;
        cluster.ready()?;
        Ok(cluster)
    }

    /// Three nodes whose underlay has no IPv4, ready.
    pub fn on_ipv6() -> Result<Cluster> {
        let mut cluster = Cluster::new("membership = \"static\"")?;
        for member in &cluster.members {
            sh(member.node.space(), "ip -4 address flush dev eth0")?;
        }
        cluster
            .write_nodes(&NODES.map(|(name, endpoints, share)| (name, &endpoints[1..], share)))?;
        cluster.start()?;
        cluster.ready()?;
        Ok(cluster)
    }

    /// Writes every node's file of all nodes.
    pub fn write_nodes(&self, nodes: &[(&str, &[&str], u8)]) -> Result {
        let text = static_nodes(nodes);
        for member in &self.members {
            member.node.run(|| -> Result {
                fs::write("/etc/heddle/nodes.new", &text)?;
                Ok(fs::rename(
                    "/etc/heddle/nodes.new",
                    "/etc/heddle/nodes.toml",
                )?)
            })?;
        }
        Ok(())
    }

    /// Starts every daemon.
    pub fn start(&mut self) -> Result {
        self.members.iter_mut().try_for_each(Member::start)
    }

    /// Waits until all are ready and have probed each other.
    pub fn ready(&self) -> Result {
        self.members
            .iter()
            .try_for_each(|member| member.wait_ready(self.members.len() - 1).map(drop))
    }

    /// A pod on each node.
    pub fn pods(&self) -> Result<Vec<Placed>> {
        self.members
            .iter()
            .map(|member| member.add_pod("pod"))
            .collect()
    }
}

/// A `nodes_file` for static membership: each node's name, underlay addresses and share.
fn static_nodes(nodes: &[(&str, &[&str], u8)]) -> String {
    let rows = nodes.iter().map(|(name, endpoints, share)| {
        format!(
            "[[node]]\nname = \"{name}\"\nendpoints = {endpoints:?}\n\
             pod_cidrs = [\"10.32.{share}.0/24\", \"fd32:0:0:{share:x}::/64\"]\n"
        )
    });
    rows.collect()
}
