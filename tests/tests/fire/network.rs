//! Datagrams get lost, all or in one direction.
use std::time::{Duration, Instant};

use anyhow::ensure;
use lab::Result;
use lab::inspect::sh;
use lab::overlay::{Cluster, Member};
use lab::probe::ping;

use crate::resources::gossip;

/// Drops at a node's door; its own rule, so that what it sends passes.
fn wall(member: &Member, rule: &str) -> Result {
    sh(
        member.node.space(),
        &format!("nft 'table inet wall {{ chain c {{ type filter hook prerouting priority -500; {rule}; }}; }}'"),
    )
    .map(drop)
}

fn open(member: &Member) -> Result {
    sh(member.node.space(), "nft delete table inet wall").map(drop)
}

fn shares(cluster: &Cluster) -> Result<Vec<String>> {
    let each = cluster.members.iter();
    each.map(|member| Ok(member.status()?["pod_cidrs"].to_string()))
        .collect()
}

/// Four of ten datagrams of gossip and of VXLAN get lost at every node for a while: nobody is taken out, nobody loses its
/// share.
pub fn lossy() -> Result {
    let mut cluster = Cluster::new(&gossip(""))?;
    cluster.start()?;
    cluster.ready()?;
    let pods = cluster.pods()?;
    let before = shares(&cluster)?;
    let rule = "udp dport { 7946, 8472 } numgen random mod 10 < 4 drop";
    cluster
        .members
        .iter()
        .try_for_each(|member| wall(member, rule))?;
    let seconds = crate::seconds(8);
    for _ in 0..seconds {
        std::thread::sleep(Duration::from_secs(1));
        for member in &cluster.members {
            let status = member.status()?;
            let peers = status["peers"].as_object().map_or(0, serde_json::Map::len);
            ensure!(peers == 2, "{status:#}");
            let routes = sh(member.node.space(), "ip route show protocol 176")?;
            ensure!(routes.lines().count() == 2, "{routes}");
        }
    }
    cluster.members.iter().try_for_each(open)?;
    let start = Instant::now();
    cluster.ready()?;
    println!(
        "40 % loss for {seconds} s: all established {:.1} s after it",
        start.elapsed().as_secs_f64()
    );
    ensure!(shares(&cluster)? == before, "a share changed hands");
    ping(pods[0].pod.space(), pods[2].addresses[0]).map(drop)
}

/// The elector hears nothing of the third node, which hears everything; then the other way round.
pub fn one_way() -> Result {
    let mut cluster = Cluster::new(&gossip(""))?;
    cluster.start()?;
    cluster.ready()?;
    let pods = cluster.pods()?;
    let before = shares(&cluster)?;
    for (deaf, silent) in [(0, "192.0.2.13"), (2, "192.0.1.11")] {
        let rule = format!("ip saddr {silent} udp dport 7946 drop");
        wall(&cluster.members[deaf], &rule)?;
        std::thread::sleep(Duration::from_secs(6));
        // The data path is another matter, and stays.
        ping(pods[0].pod.space(), pods[2].addresses[0])?;
        ping(pods[2].pod.space(), pods[0].addresses[1])?;
        open(&cluster.members[deaf])?;
        let start = Instant::now();
        cluster.ready()?;
        println!(
            "n{} deaf to {silent} for 6 s: all established {:.1} s after it",
            deaf + 1,
            start.elapsed().as_secs_f64()
        );
    }
    ensure!(shares(&cluster)? == before, "a share changed hands");
    Ok(())
}
