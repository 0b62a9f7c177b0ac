//! What happens is told with its object and its remedy, and nothing is told of what does not.
use std::time::Duration;

use anyhow::{Context, ensure};
use lab::inspect::sh;
use lab::overlay::{Cluster, Member};
use lab::{Result, wait};
use serde_json::Value;

fn events(member: &Member) -> Result<Vec<Value>> {
    let text = member.heddle("events --json").ok()?;
    serde_json::from_str(&text).context("events are a list")
}

/// Waits for an event of this kind and object whose text begins so.
fn expect(member: &Member, kind: &str, object: &str, text: &str) -> Result<Value> {
    let what = format!("event {kind} of {object}: {text}");
    wait::until(Duration::from_secs(20), &what, || {
        let events = events(member)?;
        let found = events.iter().find(|event| {
            event["kind"] == kind
                && event["object"] == object
                && event["text"]
                    .as_str()
                    .is_some_and(|said| said.starts_with(text))
        });
        found.cloned().with_context(|| format!("{events:#?}"))
    })
}

pub fn told() -> Result {
    let cluster = Cluster::fixed("")?;
    let member = &cluster.members[0];
    let conflist = "/etc/cni/net.d/10-heddle.conflist";
    for (kind, object, text) in [
        ("daemon", "n1", "heddle "),
        ("pod_cidrs", "n1", "has the pod CIDRs 10.32.1.0/24"),
        ("underlay", "n1", "is at 192.0.1.11"),
        ("peer_appeared", "n3", "has appeared: at 192.0.2.13, vxlan"),
        ("peer_state", "n2", "established"),
        // Its daemon is the last to start: the first probe of it may be lost, and the next comes 2 s later.
        ("peer_state", "n3", "established"),
        ("kernel", "route", "4 changed in the kernel"),
        ("conflist", conflist, "written"),
        ("health", "n1", "ready"),
    ] {
        expect(member, kind, object, text)?;
    }
    let early = events(member)?;
    let is_good = |event: &Value| event["verdict"] == "good";
    ensure!(early.iter().all(is_good), "no start is trouble: {early:#?}");
    let quiet = early.len();
    std::thread::sleep(Duration::from_secs(3));
    ensure!(events(member)?.len() == quiet, "{:#?}", events(member)?);

    // What nobody planned is called so, by what the kernel has lost.
    sh(member.node.space(), "ip route del 10.32.3.0/24 proto 176")?;
    let mended = expect(
        member,
        "kernel",
        "route",
        "1 changed in the kernel, put right",
    )?;
    ensure!(
        mended["verdict"] == "note" && mended["remedy"].is_string(),
        "{mended:#}"
    );

    cluster.fabric.plugged(&cluster.members[2].node, false)?;
    let lost = expect(member, "peer_state", "n3", "unreachable")?;
    let remedy = lost["remedy"].as_str().unwrap_or_default();
    ensure!(
        lost["verdict"] == "bad" && remedy.contains("heddle trace node 10.32.3.0"),
        "{lost:#}"
    );
    let screen = member.heddle("events").ok()?;
    ensure!(screen.contains("BAD  n3: unreachable"), "{screen}");
    ensure!(screen.contains("-> `heddle doctor`"), "{screen}");
    let log = member.log();
    ensure!(
        log.contains("WARN") && log.contains("n3: unreachable"),
        "{log}"
    );
    cluster.fabric.plugged(&cluster.members[2].node, true)?;

    cluster.write_nodes(&lab::overlay::NODES[..2])?;
    expect(member, "peer_gone", "n3", "is gone")?;
    Ok(())
}
