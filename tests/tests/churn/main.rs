//! Pods come and go by the dozen at the same time, badly treated: calls repeated, at once, out of order, killed, with another
//! configuration than before, while the daemon beside them dies again and again. At the end the node is what it was.
mod pods;
mod tally;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use lab::overlay::Member;
use lab::whole_chain::{NEEDS, WholeChain};
use lab::{Case, Fabric, Need, Result, Snapshot, conf, soak};

use crate::pods::Churned;
use crate::tally::Tally;

/// Calls at the same time.
const HANDS: usize = 8;
/// ADDs, each with its DEL, before a soak is over: 100,000 of both.
const SOAK: usize = 50_000;
const SHORT: usize = 300;

fn main() -> ExitCode {
    lab::main([Case::new("pods_come_and_go", pods_come_and_go)
        .needs(NEEDS)
        .needs([Need::Heddle, Need::Program("strace")])])
}

fn pods_come_and_go() -> Result {
    let fabric = Fabric::new()?;
    fabric.switch(1)?;
    let mut member = Member::new(&fabric, "n1", 1, 11, "membership = \"static\"")?;
    member.node.run(|| {
        let node = "[[node]]\nname = \"n1\"\nendpoints = [\"192.0.1.11\"]\npod_cidrs = [\"10.32.1.0/24\"]\n";
        std::fs::write("/etc/heddle/nodes.toml", node)
    })?;
    member.start()?;
    member.wait_ready(0)?;
    let chain = WholeChain::on(&member.plugins, conf::dual_stack())?;
    let (count, rounds, time) = match soak::budget() {
        Some(time) => (200, SOAK, time),
        None => (40, SHORT, Duration::from_secs(20)),
    };
    let pods = (0..count).map(|number| Churned::new(&chain, number));
    let mut pods: Vec<Churned> = pods.collect::<Result<_>>()?;
    let before = snapshot(&chain)?;
    let cost = system_calls(&chain, &pods[0])?;

    let (tally, over, next) = (
        Tally::default(),
        AtomicBool::new(false),
        AtomicUsize::new(0),
    );
    let start = Instant::now();
    let go_on = || start.elapsed() < time && next.fetch_add(1, Ordering::Relaxed) < rounds;
    thread::scope(|scope| -> Result {
        let hands: Vec<_> = pods
            .chunks_mut(count.div_ceil(HANDS))
            .map(|own| {
                let (chain, tally, go_on) = (&chain, &tally, &go_on);
                scope.spawn(move || -> Result {
                    let mut turn = 0;
                    while go_on() {
                        let at = turn % own.len();
                        own[at].attach_and_detach(chain, tally)?;
                        turn += 1;
                    }
                    own.iter_mut().try_for_each(|pod| pod.rest(chain, tally))
                })
            })
            .collect();
        let daemon = scope.spawn(|| restarts(&mut member, &over));
        let done: Vec<_> = hands.into_iter().map(|hand| hand.join()).collect();
        over.store(true, Ordering::Relaxed);
        let restarts = daemon
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        for hand in done {
            hand.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        soak::say(&format!("the daemon was killed {restarts} times meanwhile"));
        Ok(())
    })?;
    member.wait_ready(0)?;

    tally.report(start.elapsed());
    ensure!(
        tally.adds() >= SHORT / 2,
        "only {} ADDs in {time:?}",
        tally.adds()
    );
    snapshot(&chain)?.same_as(&before)?;
    let now = system_calls(&chain, &pods[0])?;
    soak::say(&format!(
        "system calls of one ADD of the chain: {cost} before, {now} after"
    ));
    // Waiting for a link to come up takes one or another more.
    ensure!(
        now.abs_diff(cost) < 60,
        "an ADD made {cost} system calls at first, and {now} now"
    );
    snapshot(&chain)?.same_as(&before)
}

/// Without what the daemon has of its own.
fn snapshot(chain: &WholeChain) -> Result<Snapshot> {
    Ok(chain
        .snapshot()?
        .without(&["/run/heddle", "/var/lib/heddle"]))
}

/// How many system calls an ADD of the whole chain makes.
fn system_calls(chain: &WholeChain, pod: &Churned) -> Result<usize> {
    let (mut calls, mut result) = (0, None);
    for plugin in 0..chain.confs.len() {
        let reply = chain
            .call("ADD", plugin, &pod.pod, result.as_ref())
            .traced()
            .send()?;
        result = Some(reply.result()?);
        calls += reply.trace.names().count();
    }
    chain.del(&pod.pod, result.as_ref())?;
    Ok(calls)
}

/// Kills the daemon once a second and starts it again.
fn restarts(member: &mut Member, over: &AtomicBool) -> Result<usize> {
    let mut times = 0;
    while !over.load(Ordering::Relaxed) {
        member.stop(true).context("the daemon")?;
        member.start()?;
        times += 1;
        thread::sleep(Duration::from_secs(1));
    }
    Ok(times)
}
