//! The overlay with its members written down: every pod reaches every pod, and what is broken is put right.
use std::fs;
use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use lab::overlay::{Member, static_nodes};
use lab::probe::{TcpEcho, exchange, ping};
use lab::{Case, Fabric, Need, Pod, Result};

fn main() -> ExitCode {
    let needs = [
        Need::HeddleCni,
        Need::Heddle,
        Need::Link("vxlan"),
        Need::Program("setpriv"),
    ];
    let case = |name, body| Case::new(name, body).needs(needs);
    lab::main([case("every_pod_reaches_every_pod", every_pair)])
}

/// Two nodes on switch 1 and one behind the router on switch 2, all ready.
fn three() -> Result<(Fabric, Vec<Member>)> {
    let fabric = Fabric::new()?;
    fabric.switch(1)?;
    fabric.switch(2)?;
    let nodes = static_nodes(&[
        ("n1", &["192.0.1.11", "fd00:1::11"], 1),
        ("n2", &["192.0.1.12", "fd00:1::12"], 2),
        ("n3", &["192.0.2.13", "fd00:2::13"], 3),
    ]);
    let mut members = Vec::new();
    for (name, switch, host) in [("n1", 1, 11), ("n2", 1, 12), ("n3", 2, 13)] {
        let mut member = Member::new(&fabric, name, switch, host, "membership = \"static\"")?;
        member
            .node
            .run(|| fs::write("/etc/heddle/nodes.toml", &nodes))?;
        member.start()?;
        members.push(member);
    }
    for member in &members {
        member.wait_ready(2)?;
    }
    Ok((fabric, members))
}

fn pods(members: &[Member]) -> Result<Vec<(Pod, Vec<IpAddr>)>> {
    let pods = members
        .iter()
        .flat_map(|member| ["a", "b"].map(|name| member.add_pod(name)));
    pods.collect()
}

fn every_pair() -> Result {
    let (_fabric, members) = three()?;
    let pods = pods(&members)?;
    for (from, _) in &pods {
        for (to, addresses) in pods
            .iter()
            .filter(|(to, _)| to.netns() != from.netns() || to.node().name() != from.node().name())
        {
            for address in addresses {
                ping(from.space(), *address)?;
                let server = TcpEcho::start(to.space(), (*address, 0).into())?;
                let seen = exchange(from.space(), server.address(), b"through the overlay")?;
                ensure!(
                    seen.seen == seen.local,
                    "{} was seen as {}",
                    seen.local,
                    seen.seen
                );
            }
        }
    }
    let status = members[0].status()?;
    ensure!(status["peers"]["n2"]["path"] == "direct", "{status:#}");
    ensure!(status["peers"]["n3"]["path"] == "vxlan", "{status:#}");
    members.first().context("a node")?.heddle("peers").ok()?;
    Ok(())
}
