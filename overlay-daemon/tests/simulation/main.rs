//! The gossip machine in a simulated world: faults over a thousand seeds, and figures against the cluster's size.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod faults;
mod table;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};

/// How many seeds are run; `HEDDLE_SEEDS` says otherwise, `HEDDLE_SEED` runs that one only.
const SEEDS: u64 = 1000;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .and_then(|value| value.parse().ok())
}

#[test]
fn never_two_owners_of_one_slot() {
    if let Some(seed) = variable("HEDDLE_SEED") {
        println!("{:?}", faults::run(seed));
        return;
    }
    let seeds = variable("HEDDLE_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let run = || {
        let mut all = faults::Summary::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return all;
            }
            let one = std::panic::catch_unwind(|| faults::run(seed)).unwrap_or_else(|panic| {
                println!("HEDDLE_SEED={seed} runs it again");
                std::panic::resume_unwind(panic)
            });
            all.events += one.events;
            all.fenced += one.fenced;
            all.lost += one.lost;
            all.recovery = all.recovery.max(one.recovery);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let summaries: Vec<faults::Summary> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect()
    });
    let events: u64 = summaries.iter().map(|one| one.events).sum();
    let fenced: u64 = summaries.iter().map(|one| one.fenced).sum();
    let lost: u64 = summaries.iter().map(|one| one.lost).sum();
    let recovery = summaries
        .iter()
        .map(|one| one.recovery)
        .max()
        .unwrap_or_default();
    println!(
        "{seeds} seeds, {events} events; seen fenced {fenced}, without a slot {lost}; slowest recovery {} ms",
        recovery / 1000
    );
    // Otherwise the faults were none.
    assert!(fenced > seeds / 4 && lost > seeds / 4);
}

#[test]
fn table() {
    println!(
        "nodes  all start  change known  join complete  death known  B/s per node  most  datagrams/s"
    );
    for (nodes, cold) in [(3, true), (100, true), (1000, false)] {
        let began = std::time::Instant::now();
        let row = table::measure(nodes, cold);
        let start = row
            .start
            .map_or("-".into(), |start| format!("{} ms", start / 1000));
        println!(
            "{:5}  {start:>9}  {:>9} ms  {:>10} ms  {:>8} ms  {:>12}  {:>4}  {:>11}   ({} ms of real time)",
            row.nodes,
            row.change / 1000,
            row.join / 1000,
            row.death / 1000,
            row.bytes,
            row.most_bytes,
            row.datagrams,
            began.elapsed().as_millis()
        );
        assert!(row.change < 5 * world::SECOND && row.join < 5 * world::SECOND);
        assert!(row.bytes < 5_000);
    }
}
