//! Nodes that know nothing but the electors' addresses and a secret.
use std::net::IpAddr;
use std::time::Duration;

use anyhow::ensure;
use lab::probe::ping;
use lab::{Result, wait};
use serde_json::Value;

use crate::cluster::{Cluster, place};

const KEY: &str = "keys = [\"the secret of this laboratory\"]";

fn config(electors: &[&str], more: &str) -> String {
    format!("peers = {electors:?}\nquarantine_seconds = 60\n{KEY}\n{more}")
}

const THREE: [&str; 3] = ["192.0.1.11", "192.0.1.12", "192.0.2.13"];

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
    place(&cluster.members[2], "alone")?;
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
    place(&cluster.members[2], "after")?;
    Ok(())
}
