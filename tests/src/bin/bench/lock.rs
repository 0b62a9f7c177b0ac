//! How long one call keeps everyone else from the lock that all links of all namespaces share (`rtnl_mutex`): a bystander asks
//! for it without end, on a CPU and in a namespace of its own, and what it waits beyond its own work is what was held.
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use lab::{Node, Result, conf};
use netlink::{Handle, link};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::json;

use crate::duel::{Clock, Duel};
use crate::floor::Floor;
use crate::packet::pin;
use crate::progress;
use crate::row::Findings;
use crate::side::{Seat, Side};
use crate::times::{MEDIAN, Times};

const ROUNDS: usize = 60;
/// Requests that say what one costs when nobody else wants the lock.
const ALONE: usize = 2_000;
/// How many times that a request takes that had to wait.
const WAITED: u32 = 3;
/// For what the kernel does later on behalf of a call.
const SETTLE: Duration = Duration::from_millis(5);
const LOOPBACK: u32 = 1;

pub fn run(sides: &[Side]) -> Result<Findings> {
    progress("lock: an ADD and a DEL beside one who wants the lock of all links");
    let mut findings = Findings::default();
    let Some(others) = all_but_the_last()? else {
        let why = "the lock of all links: there is one CPU, and the bystander wants one of its own";
        findings.skipped.push(why.into());
        return Ok(findings);
    };
    let conf = conf::bridge(json!({"cniVersion": "1.0.0", "isDefaultGateway": true}));
    let seats: Vec<Seat> = sides.iter().map(Side::on_new_node).collect::<Result<_>>()?;
    let (floor, node) = (Floor::new()?, Node::new("bystander")?);
    let bystander = Bystander::default();
    let mut duel = Duel::default();
    for seat in &seats {
        seat.plugins.node().pod("pod")?;
        duel.seat(seat, |seat, clock| {
            ["ADD", "DEL"].into_iter().try_for_each(|verb| {
                bystander.watch(clock, verb, &mut || {
                    seat.side.timed(verb, &conf, "pod").map(drop)
                })
            })
        });
    }
    duel.floor(|clock| floor.round_by(|verb, act| bystander.watch(clock, verb, act)));
    thread::scope(|scope| -> Result {
        let asking = scope.spawn(|| node.run(|| bystander.ask()));
        // Whoever plays is started by this thread, and stays where it is.
        let everywhere = sched_getaffinity(Pid::from_raw(0))?;
        sched_setaffinity(Pid::from_raw(0), &others)?;
        let played = duel.warm_up().and_then(|()| duel.run(ROUNDS));
        sched_setaffinity(Pid::from_raw(0), &everywhere)?;
        bystander.done.store(true, Ordering::Relaxed);
        asking
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        played
    })?;
    for (id, verb, key, how) in [
        ("add.held", "ADD", "ADD, all", "in all"),
        ("add.longest", "ADD", "ADD, longest", "longest at once"),
        ("del.held", "DEL", "DEL, all", "in all"),
        ("del.longest", "DEL", "DEL, longest", "longest at once"),
    ] {
        let what = format!("{verb}: others kept from the lock of all links, {how}");
        let rows = duel.rows(&format!("lock.{id}"), &what, key, MEDIAN);
        findings.rows.extend(rows);
    }
    Ok(findings)
}

/// All CPUs but that of [`pin`]; none where there is no other.
fn all_but_the_last() -> Result<Option<CpuSet>> {
    let count = thread::available_parallelism()?.get();
    let mut set = CpuSet::new();
    for cpu in 0..count - 1 {
        set.set(cpu)?;
    }
    Ok((count > 1).then_some(set))
}

/// How long the calling thread has wanted a CPU that somebody else had (the second field of its `schedstat`): work of others
/// is no lock.
fn kept_from_the_cpu() -> Result<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = text.split_whitespace().nth(1).context("schedstat")?;
    Ok(Duration::from_nanos(nanos.parse()?))
}

/// Who wants the lock.
#[derive(Debug, Default)]
struct Bystander {
    done: AtomicBool,
    waits: Mutex<Vec<Duration>>,
}

impl Bystander {
    /// Asks for the lock until it is done, by messages that change nothing.
    fn ask(&self) -> Result {
        pin()?;
        let mut handle = Handle::new()?;
        let mut request = || -> Result<Duration> {
            let start = Instant::now();
            handle.execute(vec![link::set_up(LOOPBACK)])?;
            Ok(start.elapsed())
        };
        let mut alone = Times::default();
        for _ in 0..ALONE {
            alone.push(request()?);
        }
        let work = Duration::from_secs_f64(alone.micros(MEDIAN) / 1e6);
        let mut known = kept_from_the_cpu()?;
        while !self.done.load(Ordering::Relaxed) {
            let took = request()?;
            if took > WAITED * work {
                let now = kept_from_the_cpu()?;
                let waited = took.saturating_sub(work + (now - known));
                known = now;
                let mut waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner);
                waits.push(waited);
            }
        }
        Ok(())
    }

    /// Does something, and keeps how long that kept the bystander waiting.
    fn watch(&self, clock: &mut Clock, verb: &str, act: &mut dyn FnMut() -> Result) -> Result {
        let (all, longest) = match verb {
            "ADD" => ("ADD, all", "ADD, longest"),
            "DEL" => ("DEL, all", "DEL, longest"),
            other => bail!("{other} is not watched"),
        };
        self.waits();
        act()?;
        thread::sleep(SETTLE);
        let waits = self.waits();
        clock.push(all, waits.iter().sum());
        clock.push(longest, waits.into_iter().max().unwrap_or_default());
        Ok(())
    }

    /// What it waited since it was asked this.
    fn waits(&self) -> Vec<Duration> {
        std::mem::take(&mut self.waits.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
