//! Nodes that know nothing but the electors' addresses and a secret.
use std::net::IpAddr;
use std::time::Duration;

use anyhow::ensure;
use lab::probe::ping;
use lab::{Result, wait};
use serde_json::Value;

use lab::overlay::Cluster;

const KEY: &str = "keys = [\"the secret of this laboratory\"]";

pub fn config(electors: &[&str], more: &str) -> String {
    format!("peers = {electors:?}\nquarantine_seconds = 60\n{KEY}\n{more}")
}

pub const THREE: [&str; 3] = ["192.0.1.11", "192.0.1.12", "192.0.2.13"];

pub fn three_nodes() -> Result {
    let mut cluster = Cluster::new(&config(&THREE, ""))?;
    cluster.start()?;
    cluster.ready()?;
    let mut shares: Vec<Value> = cluster
        .members
        .iter()
        .map(|member| Ok(member.status()?["pod_cidrs"].clone()))
        .collect::<Result<_>>()?;
    shares.sort_by_key(Value::to_string);
    shares.dedup();
    ensure!(shares.len() == 3, "a share was given twice: {shares:?}");
    let pods = cluster.pods()?;
    for from in &pods {
        for address in pods
            .iter()
            .filter(|to| to.addresses != from.addresses)
            .flat_map(|to| &to.addresses)
        {
            ping(from.pod.space(), *address)?;
        }
    }
    // A node that comes back at another address is found there.
    let third = &cluster.members[2];
    lab::inspect::sh(third.node.space(), "ip address flush dev eth0 scope global")?;
    cluster.fabric.address(&third.node, 2, 77)?;
    wait::until(Duration::from_secs(15), "the moved node", || {
        ping(pods[0].pod.space(), pods[2].addresses[0])?;
        ping(pods[1].pod.space(), pods[2].addresses[1])
    })?;
    Ok(())
}

pub fn wrong_key() -> Result {
    let mut cluster = Cluster::new(&config(&THREE, ""))?;
    let stranger = cluster.members.pop();
    cluster.start()?;
    for member in &cluster.members {
        member.wait_ready(1)?;
    }
    drop(stranger);
    let mut stranger = lab::overlay::Member::new(
        &cluster.fabric,
        "n4",
        2,
        14,
        &config(&THREE, "").replace("the secret of this laboratory", "another secret altogether"),
    )?;
    stranger.start()?;
    stranger.wait_for("a reason for having no CIDR", |status| {
        let problems = status["problems"].to_string();
        status["ready"] == false && problems.contains("no pod CIDR")
    })?;
    let status = cluster.members[0].status()?;
    ensure!(
        status["peers"]
            .as_object()
            .is_some_and(|peers| peers.len() == 1),
        "{status:#}"
    );
    // Garbage and noise do not hurt either.
    cluster.fabric.space().run(|| -> Result {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
        for length in 0..200 {
            socket.send_to(
                &vec![0xa5; length * 7],
                ("192.0.1.11".parse::<IpAddr>()?, 7946),
            )?;
        }
        Ok(())
    })?;
    cluster.members[0].wait_ready(1)?;
    Ok(())
}

pub fn claims() -> Result {
    // Only the first two exist as electors; the third node is none.
    let mut cluster = Cluster::new(&config(&["192.0.1.11"], ""))?;
    cluster.start()?;
    cluster.ready()?;
    let third = cluster.members[2].status()?["pod_cidrs"].clone();
    // The elector is away: the claim holds over a restart, and pods can be added.
    cluster.members[0].stop(true)?;
    cluster.members[2].stop(true)?;
    cluster.members[2].start()?;
    let status = cluster.members[2].wait_for("readiness without the elector", |status| {
        status["ready"] == true
    })?;
    ensure!(status["pod_cidrs"] == third, "{status:#}");
    cluster.members[2].add_pod("alone")?;
    // After half the quarantine the node fences itself, and says so; with the elector back it goes on.
    let status = wait::until(Duration::from_secs(50), "the fence", || {
        let status = cluster.members[2].status()?;
        ensure!(
            status["ready"] == false
                && status["problems"]
                    .to_string()
                    .contains("gives no addresses"),
            "{status:#}"
        );
        Ok(status)
    })?;
    ensure!(status["pod_cidrs"] == third, "{status:#}");
    let refused = cluster.members[2].add_pod("refused");
    ensure!(refused.is_err(), "a fenced node took a pod");
    cluster.members[0].start()?;
    cluster.members[2].wait_for("the claim confirmed", |status| {
        status["ready"] == true && status["pod_cidrs"] == third
    })?;
    cluster.members[2].add_pod("after")?;
    Ok(())
}

pub fn gone() -> Result {
    let mut cluster = Cluster::new(&config(&["192.0.1.11"], "grace_seconds = 1"))?;
    cluster.start()?;
    cluster.ready()?;
    let lost = cluster.members[2].status()?["pod_cidrs"].clone();
    cluster.fabric.plugged(&cluster.members[2].node, false)?;
    cluster.members[2].stop(true)?;
    let first = &cluster.members[0];
    wait::until(
        Duration::from_secs(40),
        "the removal of a node that is gone",
        || {
            let status = first.status()?;
            ensure!(status["peers"]["n3"].is_null(), "{status:#}");
            let routes = lab::inspect::sh(
                first.node.space(),
                "ip route show protocol 176; bridge fdb show dev vxlan.heddle",
            )?;
            ensure!(
                !routes.contains("192.0.2.13") && routes.lines().count() == 1,
                "{routes}"
            );
            Ok(())
        },
    )?;
    // A new node gets another share: the lost one's is in quarantine, until someone says that it is gone for good.
    let mut fourth =
        lab::overlay::Member::new(&cluster.fabric, "n4", 2, 14, &config(&["192.0.1.11"], ""))?;
    fourth.start()?;
    let status = fourth.wait_ready(2)?;
    ensure!(status["pod_cidrs"] != lost, "{status:#}");
    first.heddle("forget n3").ok()?;
    Ok(())
}

pub fn exhausted() -> Result {
    // Two shares for three nodes.
    let small = "node_prefix_v4 = 17\nnode_prefix_v6 = 49";
    let mut cluster = Cluster::new(&config(&["192.0.1.11"], small))?;
    cluster.start()?;
    let without = wait::until(Duration::from_secs(20), "a node without a share", || {
        let all: Vec<Value> = cluster
            .members
            .iter()
            .map(lab::overlay::Member::status)
            .collect::<Result<_>>()?;
        let without: Vec<_> = all
            .iter()
            .filter(|status| status["problems"].to_string().contains("are owned"))
            .collect();
        let with = all.iter().filter(|status| status["ready"] == true).count();
        ensure!(without.len() == 1 && with == 2, "{all:#?}");
        Ok(without[0].clone())
    })?;
    ensure!(
        without["problems"]
            .to_string()
            .contains("all 2 shares are owned: widen the range"),
        "{without:#}"
    );
    Ok(())
}

pub fn names() -> Result {
    // A name that nobody resolves is said, and tried again; a second node of one name is refused by name.
    let mut cluster = Cluster::new(&config(&["nowhere.invalid"], ""))?;
    cluster.members[0].start()?;
    cluster.members[0].wait_for("the name", |status| {
        status["problems"]
            .to_string()
            .contains("nowhere.invalid\\\" does not resolve")
    })?;
    cluster.members[0].stop(false)?;
    let mut cluster = Cluster::new(&config(&["192.0.1.11"], ""))?;
    cluster.start()?;
    cluster.ready()?;
    let mut twin =
        lab::overlay::Member::new(&cluster.fabric, "twin", 2, 22, &config(&["192.0.1.11"], ""))?;
    twin.node.run(|| -> Result {
        let file = "/etc/heddle/heddle.toml";
        let text = std::fs::read_to_string(file)?.replace("\"twin\"", "\"n3\"");
        Ok(std::fs::write(file, text)?)
    })?;
    twin.start()?;
    cluster.members[2].wait_for("the twin by its address", |status| {
        status["problems"]
            .to_string()
            .contains("another node calls itself n3 as well, at 192.0.2.22")
    })?;
    cluster.members[0].wait_ready(2)?;
    Ok(())
}
