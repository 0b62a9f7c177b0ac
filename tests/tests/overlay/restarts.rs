//! The daemon may die at any time: packets do not notice, the kernel is not written, and cleaning up is another matter.
use anyhow::ensure;
use lab::inspect::sh;
use lab::probe::{LossMeter, UdpEcho, ping};
use lab::{Result, Snapshot};

use lab::overlay::{Cluster, NODES};

/// Daemons that are killed one after the other.
const ROUNDS: usize = 20;

pub fn killed() -> Result {
    let mut cluster = Cluster::fixed("")?;
    let pods = cluster.pods()?;
    let echoes = [0, 1]
        .map(|family| UdpEcho::start(pods[2].pod.space(), (pods[2].addresses[family], 7).into()));
    let mut meters = Vec::new();
    for echo in echoes.iter().flatten() {
        for pod in &pods[..2] {
            // A new pod may not be found over IPv6 at the first try: the kernel joins its multicast group a moment later.
            ping(pod.pod.space(), echo.address().ip())?;
            meters.push(LossMeter::start(pod.pod.space(), echo.address())?);
        }
    }
    ensure!(meters.len() == 4, "an echo is missing");
    for round in 0..ROUNDS {
        let index = round % 3;
        cluster.members[index].stop(true)?;
        // Something changes meanwhile: a node comes or goes in everyone's file.
        let extra = ("n9", &["192.0.1.99"][..], 9);
        let nodes = [&NODES[..], &[extra]].concat();
        cluster.write_nodes(if round % 2 == 0 { &nodes } else { &NODES })?;
        cluster.members[index].start()?;
        cluster.members[index].wait_for("the daemon back", |status| status["ready"] == true)?;
    }
    for meter in meters {
        let loss = meter.stop()?;
        ensure!(
            loss.sent > 10 * ROUNDS,
            "only {} packets in the whole time",
            loss.sent
        );
        ensure!(
            loss.lost.is_empty(),
            "{} of {} packets lost from the {}th on, {:?} without any",
            loss.lost.len(),
            loss.sent,
            loss.lost[0],
            loss.longest_gap
        );
    }
    Ok(())
}

/// The same where a node has to hear of the others before it knows them.
pub fn killed_gossip() -> Result {
    let mut cluster = Cluster::new(&crate::gossip::config(&crate::gossip::THREE, ""))?;
    cluster.start()?;
    cluster.ready()?;
    let pods = cluster.pods()?;
    let echo = UdpEcho::start(pods[2].pod.space(), (pods[2].addresses[0], 7).into())?;
    let meters = [0, 1].map(|from| LossMeter::start(pods[from].pod.space(), echo.address()));
    for index in 0..3 {
        cluster.members[index].stop(true)?;
        cluster.members[index].start()?;
        let status = cluster.members[index].wait_ready(2)?;
        ensure!(
            status["writes"] == 0,
            "{status:#}\n{}",
            cluster.members[index].log()
        );
    }
    for meter in meters {
        let loss = meter?.stop()?;
        ensure!(
            loss.lost.is_empty(),
            "{} of {} packets lost",
            loss.lost.len(),
            loss.sent
        );
    }
    Ok(())
}

pub fn writes_nothing() -> Result {
    let mut cluster = Cluster::fixed("")?;
    cluster.pods()?;
    for member in &mut cluster.members {
        let before = Snapshot::of(member.node.space())?.without(&["/run/heddle"]);
        let conflist = "stat -c '%Y %i' /etc/cni/net.d/10-heddle.conflist";
        let written = sh(member.node.space(), conflist)?;
        member.stop(false)?;
        Snapshot::of(member.node.space())?
            .without(&["/run/heddle"])
            .same_as(&before)?;
        // iproute2 hears every change that anyone makes.
        let events = lab::Daemon::start(
            member.node.space(),
            &[
                "ip", "monitor", "link", "address", "route", "neigh", "nexthop",
            ],
        )?;
        let rules = lab::Daemon::start(member.node.space(), &["nft", "monitor"])?;
        member.start()?;
        let status = member.wait_ready(2)?;
        ensure!(status["writes"] == 0, "{status:#}\n{}", member.log());
        let heard: Vec<String> = events
            .log()?
            .lines()
            .filter(|line| line.contains("heddle") || line.contains("176"))
            .map(str::to_owned)
            .collect();
        // Neighbours are asked for by packets, the probes' too; ours are permanent.
        let written_rows: Vec<_> = heard
            .iter()
            .filter(|line| {
                !line.contains("REACHABLE")
                    && !line.contains("STALE")
                    && !line.contains("DELAY")
                    && !line.contains("PROBE")
            })
            .collect();
        ensure!(
            written_rows.is_empty(),
            "the kernel told of {written_rows:#?}"
        );
        ensure!(
            rules.log()?.is_empty(),
            "nft monitor told of {}",
            rules.log()?
        );
        ensure!(
            sh(member.node.space(), conflist)? == written,
            "the conflist was written anew"
        );
    }
    Ok(())
}

pub fn cleanup() -> Result {
    let mut cluster = Cluster::new("membership = \"static\"")?;
    cluster.write_nodes(&NODES)?;
    // What is about pods of the past, not about the node.
    let ignored = ["/var/lib/cni/", "/run/netns/"];
    let before = Snapshot::of(cluster.members[0].node.space())?.without(&ignored);
    cluster.start()?;
    cluster.ready()?;
    let member = &mut cluster.members[0];
    let pod = member.add_pod("pod")?;
    member.stop(false)?;
    let early = member.heddle("cleanup").output()?;
    ensure!(
        !early.status.success() && early.stderr.contains("cbr0 still has pods on it"),
        "{early:?}"
    );
    member.start()?;
    member.wait_ready(2)?;
    member.delete_pod(&pod.pod)?;
    member.stop(false)?;
    let said = member.heddle("cleanup").ok()?;
    for what in [
        "vxlan.heddle",
        "10-heddle.conflist",
        "cbr0",
        "sysctl net/ipv4/ip_forward = 0",
    ] {
        ensure!(said.contains(what), "no {what} in {said}");
    }
    Snapshot::of(member.node.space())?
        .without(&ignored)
        .same_as(&before)?;
    let again = member.heddle("cleanup").ok()?;
    ensure!(again.contains("nothing of Heddle's is here"), "{again}");
    Ok(())
}
