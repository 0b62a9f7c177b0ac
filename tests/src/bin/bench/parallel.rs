//! A node that starts and stops many pods at once.
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use lab::{Result, conf};
use serde_json::json;

use crate::duel::Duel;
use crate::progress;
use crate::row::{Findings, Line, Plot, Row};
use crate::side::{Seat, Side};
use crate::times::MEDIAN;

const PODS: usize = 100;
/// How many at a time, and how often.
const STEPS: [(usize, usize); 4] = [(1, 1), (4, 1), (16, 5), (64, 1)];

pub fn run(sides: &[Side]) -> Result<Findings> {
    let conf = conf::bridge(json!({"cniVersion": "1.0.0", "isDefaultGateway": true}));
    let pods: Vec<String> = (0..PODS).map(|n| format!("pod{n}")).collect();
    let seats: Vec<Seat> = sides.iter().map(Side::on_new_node).collect::<Result<_>>()?;
    for seat in &seats {
        for pod in &pods {
            seat.plugins.node().pod(pod)?;
        }
    }
    let (mut findings, mut lines) = (Findings::default(), [Vec::new(), Vec::new()]);
    for (together, rounds) in STEPS {
        progress(&format!("parallel: {PODS} pods, {together} at a time"));
        let mut duel = Duel::default();
        for seat in &seats {
            duel.seat(seat, |seat, clock| {
                for verb in ["ADD", "DEL"] {
                    let work = |pod: &String| seat.side.timed(verb, &conf, pod).map(drop);
                    clock.push(verb, at_once(&pods, together, work)?);
                }
                Ok(())
            });
        }
        duel.run(rounds)?;
        for (verb, lines) in ["ADD", "DEL"].iter().zip(&mut lines) {
            let id = format!("parallel.{}.{together}", verb.to_lowercase());
            let what = format!("{PODS} pods, {together} at a time: {verb}s");
            let rows = duel.rows(&id, &what, verb, MEDIAN);
            findings
                .rows
                .extend(rows.into_iter().map(|row| rate(row, PODS)));
            duel.points(lines, verb, together as f64);
        }
    }
    let [adds, dels] = lines.map(rates);
    findings.plots.push(Plot {
        file: "parallel-add",
        title: "100 pods added by so many calls at a time",
        x: "calls at a time",
        y: "ADDs a second",
        lines: adds,
    });
    findings.plots.push(Plot {
        file: "parallel-del",
        title: "100 pods deleted by so many calls at a time",
        x: "calls at a time",
        y: "DELs a second",
        lines: dels,
    });
    Ok(findings)
}

/// The time for so many pods as a rate.
pub fn rate(row: Row, pods: usize) -> Row {
    let rate = |micros: f64| pods as f64 / (micros / 1e6);
    Row {
        unit: "pods/s",
        ours: rate(row.ours),
        peer: row.peer.map(rate),
        floor: row.floor.map(rate),
        ..row
    }
}

fn rates(lines: Vec<Line>) -> Vec<Line> {
    let rate = |(x, millis): (f64, f64)| (x, PODS as f64 / (millis / 1e3));
    lines
        .into_iter()
        .map(|line| Line {
            points: line.points.into_iter().map(rate).collect(),
            ..line
        })
        .collect()
}

/// Does the work for each, so many at a time, and says how long all of it took. The caller is on the node already.
pub fn at_once<T: Sync>(
    items: &[T],
    together: usize,
    work: impl Fn(&T) -> Result + Sync,
) -> Result<Duration> {
    let queue = Mutex::new(items.iter());
    let next = || queue.lock().ok().and_then(|mut queue| queue.next());
    let start = Instant::now();
    thread::scope(|scope| {
        let work = || -> Result {
            while let Some(item) = next() {
                work(item)?;
            }
            Ok(())
        };
        let workers: Vec<_> = (0..together).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| {
            worker
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })?;
    Ok(start.elapsed())
}
