//! The cluster most cases run on: two nodes on one switch, the third behind the router.
use std::fs;
use std::net::IpAddr;

use anyhow::Context;
use lab::overlay::{Member, static_nodes};
use lab::{Fabric, Pod, Result};

/// The nodes, their switches and hosts, as written down.
pub const NODES: [(&str, &[&str], u8); 3] = [
    ("n1", &["192.0.1.11", "fd00:1::11"], 1),
    ("n2", &["192.0.1.12", "fd00:1::12"], 2),
    ("n3", &["192.0.2.13", "fd00:2::13"], 3),
];
const PLACES: [(&str, u8, u8); 3] = [("n1", 1, 11), ("n2", 1, 12), ("n3", 2, 13)];

pub struct Cluster {
    pub fabric: Fabric,
    pub members: Vec<Member>,
}

/// A pod and its addresses.
pub struct Placed {
    pub pod: Pod,
    pub addresses: Vec<IpAddr>,
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
            .map(|member| place(member, "pod"))
            .collect()
    }
}

pub fn place(member: &Member, name: &str) -> Result<Placed> {
    let (pod, addresses) = member
        .add_pod(name)
        .with_context(|| format!("a pod on {}", member.node.name()))?;
    Ok(Placed { pod, addresses })
}
