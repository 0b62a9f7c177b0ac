//! The part of a packet's way that is on the other node, as its daemon tells it: to nodes, and to nobody else.
use std::net::UdpSocket;
use std::time::Duration;

use anyhow::{Context, ensure};
use lab::inspect::sh;
use lab::overlay::{Cluster, Member};
use lab::{Result, wait};
use serde_json::Value;

use super::{PATIENCE, trace};

/// A fault on the third node that its daemon does not put right itself: what is done, at which object of its the packet is lost, why, and what mends it.
const FAULTS: [(&str, &str, &str, &str); 4] = [
    (
        "nft 'table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }'",
        "iptables's chain FORWARD",
        "its policy is DROP on n3",
        "nft delete table ip filter",
    ),
    (
        "ip route add blackhole 10.32.3.0/25",
        "route to",
        "route of n3 drops it",
        "ip route delete blackhole 10.32.3.0/25",
    ),
    (
        "ip netns exec pod ip link set eth0 down",
        "port of",
        "no carrier",
        "ip netns exec pod ip link set eth0 up; ip netns exec pod ip route add default via 10.32.3.1",
    ),
    (
        "bridge link set dev $(ls /sys/class/net/cbr0/brif) state 0",
        "port of",
        "does not forward as a port",
        "bridge link set dev $(ls /sys/class/net/cbr0/brif) state 3",
    ),
];

fn last(trace: &Value) -> Result<&Value> {
    let hops = trace["hops"].as_array().context("hops")?;
    hops.last().context("no hop")
}

/// The trace ends on `place` for this reason, and at nothing before.
fn ends_at(place: &str, member: &Member, ends: [&str; 2], object: &str, reason: &str) -> Result {
    wait::until(PATIENCE, reason, || {
        ends_now(place, member, ends, object, reason)
    })
}

fn ends_now(place: &str, member: &Member, ends: [&str; 2], object: &str, reason: &str) -> Result {
    let (good, trace) = trace(member, ends[0], ends[1])?;
    let has = |value: &Value, wanted: &str| value.as_str().is_some_and(|t| t.contains(wanted));
    let last = last(&trace)?;
    let marks = trace["hops"].as_array().into_iter().flatten();
    let marked = marks.filter(|hop| !hop["problem"].is_null()).count();
    ensure!(
        !good
            && marked == 1
            && last["place"] == place
            && has(&last["object"], object)
            && has(&last["problem"]["reason"], reason)
            && last["problem"]["remedy"].is_string(),
        "{trace:#}"
    );
    Ok(())
}

pub fn every_fault() -> Result {
    let mut cluster = Cluster::fixed("")?;
    let pods = cluster.pods()?;
    let (from, to) = (
        pods[0].addresses[0].to_string(),
        pods[2].addresses[0].to_string(),
    );
    let healthy = |member: &Member| -> Result {
        let (good, trace) = trace(member, &from, &to)?;
        ensure!(good && last(&trace)?["what"] == "arrives", "{trace:#}");
        Ok(())
    };
    let [near, _, there] = &cluster.members[..] else {
        anyhow::bail!("three nodes")
    };
    wait::until(PATIENCE, "health", || healthy(near))?;
    for (inject, object, reason, mend) in FAULTS {
        sh(there.node.space(), inject).context(inject)?;
        ends_at("n3", near, [&from, &to], object, reason).context(inject)?;
        sh(there.node.space(), mend).context(mend)?;
        wait::until(Duration::from_secs(20), mend, || healthy(near))?;
    }

    // An address that nobody has, and one whose pod has gone without a DEL.
    ends_at("n3", near, [&from, "10.32.3.99"], "pod", "it is not leased")?;
    sh(
        there.node.space(),
        "ip link delete $(ls /sys/class/net/cbr0/brif)",
    )?;
    ends_at(
        "n3",
        near,
        [&from, &to],
        "pod",
        "left from one that has gone",
    )?;

    // On the underlay: a strict filter, and a way back that is not the way in.
    let space = cluster.members[1].node.space();
    sh(
        space,
        "sysctl -qw net.ipv4.conf.all.rp_filter=1; ip route add 10.32.1.0/25 dev cbr0",
    )?;
    let beside = pods[1].addresses[0].to_string();
    let reason = "n2 drops packets that come another way";
    ends_at("n2", near, [&from, &beside], "sysctl rp_filter", reason)?;

    // Pods are told nothing: the question of one is not answered, that of its node is.
    let asked = |bind: &str| -> Result<bool> {
        let socket = UdpSocket::bind((bind, 0))?;
        socket.set_read_timeout(Some(Duration::from_millis(500)))?;
        let mut question = b"hdl:12345678".to_vec();
        // Postcard of the question: both addresses are IPv4, and it comes by VXLAN.
        question.extend([0, 10, 32, 1, 2, 0, 10, 32, 3, 2, 1]);
        question.resize(128, 0);
        socket.send_to(&question, "10.32.3.0:7947")?;
        Ok(socket.recv(&mut [0; 128]).is_ok())
    };
    ensure!(!pods[0].pod.run(|| asked(&from))?, "a pod was told");
    ensure!(near.node.run(|| asked("10.32.1.0"))?, "a node was not told");

    // What carries is told apart from who answers: VXLAN is blocked; then no daemon runs, and the data path stays.
    let block = "nft 'table ip block { chain in { type filter hook prerouting priority -500; udp dport 8472 drop; }; }'";
    sh(there.node.space(), block)?;
    near.wait_for("an unreachable peer", |status| {
        status["peers"]["n3"]["state"] == "unreachable"
    })?;
    let reason = "n3 answers on the underlay, but not through the overlay";
    ends_at("n3", near, [&from, &to], "pod", reason)?;
    sh(there.node.space(), "nft delete table ip block")?;
    near.wait_ready(2)?;
    cluster.members[2].stop(true)?;
    wait::until(PATIENCE, "a refusal", || {
        let (good, trace) = trace(&cluster.members[0], &from, &to)?;
        let what = last(&trace)?["what"].as_str().unwrap_or_default();
        ensure!(good && what.contains("no daemon runs there"), "{trace:#}");
        Ok(())
    })
}
