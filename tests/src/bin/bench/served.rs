//! A cluster that an API server tells of, as our daemon and as flanneld sees it from one of its nodes: all of it, one node
//! that moves, and nothing.
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;
use lab::kubernetes::{Answer, Liar};
use lab::{Daemon, Fabric, Node, Result, wait};
use netlink::{Mac, Monitor};
use serde_json::Value;

use crate::changes::{self, RANKS, time, until_a_row};
use crate::flanneld::{self, Flanneld};
use crate::peers::{self, IDLE, Idle, PATIENCE, millis, peer};
use crate::progress;
use crate::row::{Findings, Row};
use crate::times::Times;

/// Of the second one only the quiet is measured.
const SIZES: [u16; 3] = [10, IDLE, 5_000];
/// All of [`peer`]'s CIDRs.
const RANGE: &str = "10.0.0.0/8";

/// What was measured of one daemon.
struct Figures {
    empty: Duration,
    memory: f64,
    idle: Option<Idle>,
    changes: Option<Times>,
}

pub fn run() -> Result<Findings> {
    let mut findings = Findings::default();
    let fabric = Fabric::new()?;
    fabric.switch(1)?;
    let name = flanneld::name();
    if name.is_none() {
        findings.skipped.push(flanneld::MISSING.to_owned());
    }
    for (number, size) in (0..).zip(SIZES) {
        progress(&format!("served: {size} peers, Heddle"));
        let own = format!("node{number}");
        let (liar, mut member) =
            Liar::with_member(&fabric, &own, 101 + number, nodes(&own, 101 + number, size))?;
        peers::in_any_range(&member)?;
        let empty = peers::start(&mut member, size)?;
        let daemon = member.running()?;
        let ours = measure(&liar, &member.node, daemon, peers::DEVICE, size, empty)?;
        member.stop(true)?;

        let theirs = name.as_ref().map(|name| -> Result<_> {
            progress(&format!("served: {size} peers, {name}"));
            Ok((name.as_str(), of_flanneld(&fabric, 201 + number, size)?))
        });
        rows(&mut findings, size, &ours, theirs.transpose()?.as_ref());
    }
    Ok(findings)
}

fn of_flanneld(fabric: &Fabric, host: u8, size: u16) -> Result<Figures> {
    let own = format!("flannel{size}");
    let server = SocketAddr::new([192, 0, 1, 1].into(), 8000 + u16::from(host));
    let liar = Liar::start(fabric.space(), server, nodes(&own, host, size))?;
    let node = Node::new(&own)?;
    fabric.join(&node, 1, host)?;
    let mut flanneld = Flanneld::on(&node, server, RANGE)?;
    let empty = flanneld.start(size)?;
    let daemon = flanneld.running()?;
    measure(&liar, &node, daemon, flanneld::DEVICE, size, empty)
}

/// The node `own` itself, which is host `host` of switch 1, and so many peers.
fn nodes(own: &str, host: u8, size: u16) -> Answer {
    let endpoint = Ipv4Addr::new(192, 0, 1, host);
    let own = flanneld::node(
        own,
        endpoint,
        "10.31.0.0/24",
        Mac::from([2, 2, 0, 0, 0, host]),
    );
    let peers = (0..size).map(|n| served(n, false));
    Answer::Nodes(peers.chain([own]).collect())
}

fn served(n: u16, moved: bool) -> (String, Value) {
    let ((endpoint, cidr), [high, low]) = (peer(n, moved), n.to_be_bytes());
    let mac = Mac::from([2, 1, 0, 0, high, low]);
    flanneld::node(&format!("p{n}"), endpoint, &cidr, mac)
}

fn measure(
    liar: &Liar,
    node: &Node,
    daemon: &Daemon,
    device: &str,
    size: u16,
    empty: Duration,
) -> Result<Figures> {
    wait::until(PATIENCE, "a watch", || {
        ensure!(liar.watches() == 1, "none: {}", daemon.log()?);
        Ok(())
    })?;
    thread::sleep(Duration::from_secs(3));
    let memory = daemon.memory()?;
    let device = peers::index(node, device)?;
    let (mut idle, mut changes) = (None, None);
    match size {
        IDLE => idle = Some(Idle::of(daemon)?),
        _ => {
            changes = Some(time(|n| {
                // From the moment at which the server says that a node has moved.
                let mut events = node.run(Monitor::route)?;
                let start = Instant::now();
                liar.modify(vec![served(n % size, (n / size).is_multiple_of(2))]);
                until_a_row(&mut events, device, start)
            })?)
        }
    }
    Ok(Figures {
        empty,
        memory,
        idle,
        changes,
    })
}

fn rows(findings: &mut Findings, size: u16, ours: &Figures, theirs: Option<&(&str, Figures)>) {
    let mut add = |row: Row, figure: &dyn Fn(&Figures) -> Option<f64>| {
        let peer = theirs.and_then(|(name, theirs)| Some((*name, figure(theirs)?)));
        findings.rows.extend(row.beside(peer.into_iter()));
    };
    let row = |id: &str, what: &str, unit, figure| {
        let what = format!("{size} peers from an API server, {what}");
        Row::new(format!("served.{id}.{size}"), what, unit, figure)
    };
    add(
        row(
            "empty",
            "from empty, with the daemon's start",
            "ms",
            millis(ours.empty),
        ),
        &|of| Some(millis(of.empty)),
    );
    add(
        row("memory", "the daemon's memory", "MB", ours.memory),
        &|of| Some(of.memory),
    );
    if let Some(idle) = &ours.idle {
        add(
            row("idle.cpu", "idle daemon: of a core", "%", idle.core),
            &|of| of.idle.as_ref().map(|idle| idle.core),
        );
        add(
            row(
                "idle.wakeups",
                "idle daemon: wake-ups",
                "a second",
                idle.wakeups,
            ),
            &|of| of.idle.as_ref().map(|idle| idle.wakeups),
        );
    }
    if let Some(times) = &ours.changes {
        let rows = changes::rows("watch", size, "watch event", times);
        for (row, (rank, _)) in rows.into_iter().zip(RANKS) {
            add(row, &|of| {
                of.changes.as_ref().map(|times| times.micros(rank))
            });
        }
    }
}
