//! One node that moves, among few and among thousands: from the moment at which it is said to the row in the kernel.
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;
use lab::kubernetes::{self, Answer, Liar};
use lab::overlay::Member;
use lab::{Fabric, Result, wait};
use netlink::{Event, Monitor};
use nix::poll::{PollFd, PollFlags, poll};
use serde_json::Value;

use crate::peers::{self, Large, PATIENCE};
use crate::progress;
use crate::row::{Findings, Row};
use crate::times::{MEDIAN, Times};

const SIZES: [u16; 2] = [10, 5_000];
const CHANGES: u16 = 100;
/// Longer than any pass: what a change has set off is over.
const CALM: Duration = Duration::from_millis(150);

pub fn run() -> Result<Findings> {
    let mut findings = Findings::default();
    let fabric = Fabric::new()?;
    fabric.switch(1)?;
    for (number, size) in (0..).zip(SIZES) {
        progress(&format!("changes: one among {size}, in a file"));
        let mut large = Large::new(&fabric, number, size)?;
        peers::start(&mut large.member, size)?;
        let times = time(|n| {
            let mut events = large.member.node.run(Monitor::route)?;
            let start = large.change_one(n)?;
            until_a_row(&mut events, start)
        })?;
        findings.rows.extend(rows("event", size, "file", &times));
        large.member.stop(true)?;

        progress(&format!("changes: one among {size}, from an API server"));
        let own = format!("node{number}");
        let nodes = (0..size).map(|n| node(n, false)).chain([kubernetes::node(
            &own,
            "192.0.1.11",
            "10.31.0.0/24",
        )]);
        let answer = Answer::Nodes(nodes.collect());
        let (liar, mut member) = Liar::with_member(&fabric, &own, 101 + number, answer)?;
        peers::in_any_range(&member)?;
        peers::start(&mut member, size)?;
        wait::until(PATIENCE, "a watch", || {
            ensure!(liar.watches() == 1, "none: {}", member.log());
            Ok(())
        })?;
        let times = time(|n| watched(&liar, &member, n % size, n / size % 2 == 0))?;
        findings
            .rows
            .extend(rows("watch", size, "watch event", &times));
        member.stop(true)?;
    }
    Ok(findings)
}

fn rows(kind: &str, size: u16, from: &str, times: &Times) -> Vec<Row> {
    let row = |(rank, name)| {
        let what = format!("one change among {size} peers, {from} to kernel row, {name}");
        Row::time(format!("peers.{kind}.{size}.{name}"), what, times, rank)
    };
    [(MEDIAN, "p50"), (99, "p99")].map(row).into()
}

fn time(mut change: impl FnMut(u16) -> Result<Duration>) -> Result<Times> {
    let mut times = Times::default();
    for number in 0..CHANGES {
        thread::sleep(CALM);
        times.push(change(number)?);
    }
    Ok(times)
}

fn node(n: u16, moved: bool) -> (String, Value) {
    let (endpoint, cidr) = peers::peer(n, moved);
    kubernetes::node(&format!("p{n}"), &endpoint.to_string(), &cidr)
}

/// From the moment at which the server says that a node has moved.
fn watched(liar: &Liar, member: &Member, n: u16, moved: bool) -> Result<Duration> {
    let mut events = member.node.run(Monitor::route)?;
    let start = Instant::now();
    liar.modify(vec![node(n, moved)]);
    until_a_row(&mut events, start)
}

fn until_a_row(events: &mut Monitor, start: Instant) -> Result<Duration> {
    let mut told = false;
    while !told {
        ensure!(start.elapsed() < PATIENCE, "no row has changed");
        let mut waiting = [PollFd::new(events.as_fd(), PollFlags::POLLIN)];
        poll(&mut waiting, 1_000_u16)?;
        events.drain(|event| told |= matches!(event, Event::Neighbour(_)))?;
    }
    Ok(start.elapsed())
}
