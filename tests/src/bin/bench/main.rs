//! `make bench`: our plugins and daemon, the reference's and the kernel's own floor, side by side in one run.
//!
//! `BENCH=pod,chain` picks sections; only a whole run is written to `docs/benchmarks`.

#![allow(clippy::print_stdout)]

mod chain;
mod changes;
mod crowd;
mod duel;
mod flanneld;
mod floor;
mod leases;
mod lock;
mod packet;
mod parallel;
mod peers;
mod picture;
mod pod;
mod row;
mod served;
mod side;
mod start;
mod times;
mod written;

use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Instant;

use anyhow::{Context, bail};
use lab::Result;

use crate::row::Findings;
use crate::side::Side;

type Section = fn(&[Side]) -> Result<Findings>;

/// In the order of the table.
const SECTIONS: [(&str, Section); 11] = [
    ("start", start::run),
    ("pod", pod::run),
    ("leases", leases::run),
    ("crowd", crowd::run),
    ("lock", lock::run),
    ("parallel", parallel::run),
    ("chain", chain::run),
    ("peers", |_| peers::run()),
    ("changes", |_| changes::run()),
    ("served", |_| served::run()),
    ("packet", |_| packet::run()),
];

fn main() -> ExitCode {
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> Result {
    let picked = std::env::var("BENCH").unwrap_or_default();
    let picked: Vec<&str> = picked.split(',').filter(|name| !name.is_empty()).collect();
    let known = SECTIONS.map(|(name, _)| name);
    if let Some(unknown) = picked.iter().find(|name| !known.contains(name)) {
        bail!(
            "BENCH names no section {unknown}: there are {}",
            known.join(", ")
        );
    }
    let (sides, missing) = Side::all();
    let mut findings = Findings {
        skipped: missing,
        ..Findings::default()
    };
    for (name, section) in SECTIONS {
        if picked.is_empty() || picked.contains(&name) {
            let found = section(&sides).with_context(|| name)?;
            println!("{}", written::table(&found));
            findings.extend(found);
        }
    }
    for skipped in &findings.skipped {
        println!("skipped: {skipped}");
    }
    if picked.is_empty() {
        written::keep(&findings)?;
    }
    Ok(())
}

/// Says on stderr what is being measured, and how long after the start.
fn progress(what: &str) {
    static START: OnceLock<Instant> = OnceLock::new();
    let seconds = START.get_or_init(Instant::now).elapsed().as_secs();
    eprintln!("{:3}:{:02}  {what}", seconds / 60, seconds % 60);
}
