//! One pod, added, checked and deleted again and again: times, programs started, messages to the kernel.
use std::fs::{self, File};
use std::path::Path;

use lab::{Need, Result, Trace, conf, find, with_prev};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use serde_json::{Value, json};

use crate::duel::{Clock, Duel};
use crate::floor::Floor;
use crate::progress;
use crate::row::{Findings, Row};
use crate::side::{Seat, Side};
use crate::times::MEDIAN;

const ROUNDS: usize = 100;
const COLD_ROUNDS: usize = 30;

/// What is measured, with the last part of its id.
fn configurations() -> [(&'static str, &'static str, Value); 3] {
    let with = |masquerade: bool, ranges: Value| {
        conf::bridge(json!({
            "cniVersion": "1.0.0", "isDefaultGateway": true, "ipMasq": masquerade,
            "ipam": {"type": "host-local", "ranges": ranges},
        }))
    };
    let v4 = json!([{"subnet": "10.88.0.0/16"}]);
    let v6 = json!([{"subnet": "fd88::/64"}]);
    [
        ("v4", "bridge + host-local", with(false, json!([v4]))),
        (
            "dual",
            "bridge + host-local, IPv4 and IPv6",
            with(false, json!([v4, v6])),
        ),
        (
            "masq",
            "bridge + host-local, ipMasq",
            with(true, json!([v4])),
        ),
    ]
}

pub fn run(sides: &[Side]) -> Result<Findings> {
    let mut findings = Findings::default();
    for (id, what, conf) in configurations() {
        progress(&format!("pod: {what}"));
        let seats = seats(sides, &conf, &mut findings)?;
        // The floor sends no rules and one address, so only the plain configuration can be held against it.
        let floor = (id == "v4").then(Floor::new).transpose()?;
        let mut duel = Duel::default();
        for seat in &seats {
            duel.seat(seat, |seat, clock| round(seat, &conf, clock));
        }
        if let Some(floor) = &floor {
            duel.floor(|clock| floor.round(clock));
        }
        duel.warm_up()?;
        duel.run(ROUNDS)?;
        for verb in ["ADD", "CHECK", "DEL"] {
            let id = format!("pod.{}.{id}", verb.to_lowercase());
            let what = format!("{what}: {verb}");
            findings.rows.extend(duel.rows(&id, &what, verb, MEDIAN));
            if floor.is_some() {
                let rows = duel.rows(&format!("{id}.p99"), &format!("{what}, p99"), verb, 99);
                findings.rows.extend(rows);
            }
        }
        findings.rows.extend(counts(id, what, &seats, &conf)?);
    }
    findings.rows.extend(cold(sides)?);
    Ok(findings)
}

/// A node with a pod for each side that can do the configuration.
fn seats(sides: &[Side], conf: &Value, findings: &mut Findings) -> Result<Vec<Seat>> {
    let mut seats = Vec::new();
    for side in sides {
        // Debian's reference masquerades by exec of iptables.
        let lacking = Need::Program("iptables").missing();
        match lacking.filter(|_| !side.ours && conf["ipMasq"] == true) {
            Some(why) => findings
                .skipped
                .push(format!("ipMasq of {}: {why}", side.name)),
            None => {
                let seat = side.on_new_node()?;
                seat.plugins.node().pod("pod")?;
                seats.push(seat);
            }
        }
    }
    Ok(seats)
}

fn round(seat: &Seat, conf: &Value, clock: &mut Clock) -> Result {
    let (added, result) = seat.side.call("ADD", conf, "pod")?;
    clock.push("ADD", added);
    let conf = with_prev(conf, &serde_json::from_slice(&result)?);
    for verb in ["CHECK", "DEL"] {
        clock.push(verb, seat.side.timed(verb, &conf, "pod")?);
    }
    Ok(())
}

/// Programs started, and messages sent to the kernel, by one ADD and one DEL.
fn counts(id: &str, what: &str, seats: &[Seat], conf: &Value) -> Result<Vec<Row>> {
    if Need::Program("strace").missing().is_some() {
        return Ok(Vec::new());
    }
    let traces: Vec<[Trace; 2]> = seats
        .iter()
        .map(|seat| {
            let pod = seat.plugins.node().pod("counted")?;
            let trace = |verb| -> Result<_> {
                let reply = seat.plugins.call(verb, conf).pod(&pod).traced().send()?;
                reply.done()?;
                Ok(reply.trace)
            };
            Ok([trace("ADD")?, trace("DEL")?])
        })
        .collect::<Result<_>>()?;
    let row = |id: String, what: String, count: fn(&Trace) -> usize| {
        let sum = |traces: &[Trace; 2]| traces.iter().map(count).sum::<usize>() as f64;
        let mut figures = seats.iter().zip(traces.iter().map(sum));
        let ours = figures.next().map_or(f64::NAN, |(_, ours)| ours);
        Row::new(id, what, "count", ours)
            .beside(figures.map(|(seat, sum)| (seat.side.name.as_str(), sum)))
    };
    Ok([
        row(
            format!("pod.programs.{id}"),
            format!("{what}: programs started, ADD + DEL"),
            Trace::programs,
        ),
        row(
            format!("pod.messages.{id}"),
            format!("{what}: netlink messages, ADD + DEL"),
            Trace::netlink_messages,
        ),
    ]
    .concat())
}

/// The first call after a while: the executables are on a disk, and the kernel has forgotten what is in them.
fn cold(sides: &[Side]) -> Result<Vec<Row>> {
    progress("pod: cold cache");
    let (_, _, conf) = &configurations()[0];
    let disk = tempfile::tempdir_in(find::workspace().join("target"))?;
    let mut seats = Vec::new();
    for (number, side) in sides.iter().enumerate() {
        let dir = disk.path().join(number.to_string());
        fs::create_dir(&dir)?;
        for kind in ["bridge", "host-local"] {
            let from = match side.ours {
                true => find::heddle_cni()?,
                false => side.directory().join(kind),
            };
            fs::copy(from, dir.join(kind))?;
            // Only what is on the disk already can be forgotten.
            File::open(dir.join(kind))?.sync_all()?;
        }
        let mut seat = side.on_new_node()?;
        seat.plugins.node().pod("pod")?;
        seat.side = side.moved(&dir);
        seats.push(seat);
    }
    let mut duel = Duel::default();
    for seat in &seats {
        duel.seat(seat, |seat, clock| {
            forget(seat.side.directory())?;
            clock.push("ADD", seat.side.timed("ADD", conf, "pod")?);
            seat.side.timed("DEL", conf, "pod").map(drop)
        });
    }
    duel.warm_up()?;
    duel.run(COLD_ROUNDS)?;
    Ok(duel.rows(
        "pod.add.cold",
        "bridge + host-local: ADD, executables not in the page cache",
        "ADD",
        MEDIAN,
    ))
}

/// Takes a directory's files out of the page cache.
fn forget(dir: &Path) -> Result {
    for entry in fs::read_dir(dir)? {
        let file = File::open(entry?.path())?;
        posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
    }
    Ok(())
}
