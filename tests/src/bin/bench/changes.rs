//! One node that moves, among few and among thousands: from the moment at which it is said to the row in the kernel.
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;
use lab::{Fabric, Result};
use netlink::{Event, Monitor};
use nix::poll::{PollFd, PollFlags, poll};

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
        let device = peers::index(&large.member.node, peers::DEVICE)?;
        let times = time(|n| {
            let mut events = large.member.node.run(Monitor::route)?;
            let start = large.change_one(n)?;
            until_a_row(&mut events, device, start)
        })?;
        findings.rows.extend(rows("event", size, "file", &times));
        large.member.stop(true)?;
    }
    Ok(findings)
}

/// The median and the 99th of the times of changes, which came `from` somewhere.
pub fn rows(kind: &str, size: u16, from: &str, times: &Times) -> [Row; 2] {
    RANKS.map(|(rank, name)| {
        let what = format!("one change among {size} peers, {from} to kernel row, {name}");
        Row::time(format!("peers.{kind}.{size}.{name}"), what, times, rank)
    })
}

/// Of [`rows`].
pub const RANKS: [(usize, &str); 2] = [(MEDIAN, "p50"), (99, "p99")];

/// Times of changes, one after another.
pub fn time(mut change: impl FnMut(u16) -> Result<Duration>) -> Result<Times> {
    let mut times = Times::default();
    for number in 0..CHANGES {
        thread::sleep(CALM);
        times.push(change(number)?);
    }
    Ok(times)
}

/// How long after `start` a neighbour or FDB row of a device has changed.
pub fn until_a_row(events: &mut Monitor, device: u32, start: Instant) -> Result<Duration> {
    let mut told = false;
    while !told {
        ensure!(start.elapsed() < PATIENCE, "no row has changed");
        let mut waiting = [PollFd::new(events.as_fd(), PollFlags::POLLIN)];
        poll(&mut waiting, 1_000_u16)?;
        events.drain(|event| told |= event == Event::Neighbour(device))?;
    }
    Ok(start.elapsed())
}
