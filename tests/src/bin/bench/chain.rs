//! The chain of a cluster's node, bridge, portmap with two ports, bandwidth and firewall: a pod at a time and many at
//! once, each plugin called as a runtime calls it.
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use lab::{Need, Result, conf, with_prev};
use serde_json::{Value, json};

use crate::duel::Duel;
use crate::parallel::{at_once, rate};
use crate::progress;
use crate::row::{Findings, Line, Plot, Row};
use crate::side::{Seat, Side};
use crate::times::MEDIAN;

const ROUNDS: usize = 30;
/// Of all pods at once.
const BATCHES: usize = 2;
const PODS: usize = 60;
const AT_ONCE: usize = 16;
/// Host ports that others have; without any, the table is made with the first one. The reference writes several rules a port, each by a program: thousands take minutes.
const PORTS: [usize; 5] = [0, 10, 200, 1_000, 10_000];
const REFERENCE_PORTS: usize = 200;

/// The plugins in their order, each with what the runtime gives to the pod of this number.
fn conflist(number: usize) -> [Value; 4] {
    let ports: Vec<_> = [80, 443]
        .iter()
        .zip(20_000 + 2 * number..)
        .map(|(port, host)| json!({"hostPort": host, "containerPort": port, "protocol": "tcp"}))
        .collect();
    let (speed, burst) = (100_000_000, 1_000_000);
    let limits = json!({"ingressRate": speed, "ingressBurst": burst, "egressRate": speed, "egressBurst": burst});
    [
        conf::bridge(json!({"cniVersion": "1.0.0", "isDefaultGateway": true})),
        of("portmap", json!({"portMappings": ports})),
        of("bandwidth", json!({"bandwidth": limits})),
        of("firewall", json!({})),
    ]
}

fn of(kind: &str, runtime: Value) -> Value {
    json!({"cniVersion": "1.0.0", "name": "lab", "type": kind, "runtimeConfig": runtime})
}

/// ADD by all plugins, each with the result of the one before: how long they took, and what the last one gave.
fn add(side: &Side, plugins: &[Value], pod: &str) -> Result<(Duration, Value)> {
    let mut sum = Duration::ZERO;
    let mut result = Value::Null;
    for conf in plugins {
        let conf = match result {
            Value::Null => conf.clone(),
            _ => with_prev(conf, &result),
        };
        let (took, output) = side.call("ADD", &conf, pod)?;
        sum += took;
        result = serde_json::from_slice(&output)?;
    }
    Ok((sum, result))
}

/// DEL by all plugins, the last first, with what ADD gave in the end.
fn del(side: &Side, plugins: &[Value], pod: &str, result: &Value) -> Result<Duration> {
    let calls = plugins.iter().rev();
    calls
        .map(|conf| side.timed("DEL", &with_prev(conf, result), pod))
        .sum()
}

pub fn run(sides: &[Side]) -> Result<Findings> {
    let mut findings = Findings::default();
    let mut able = Vec::new();
    for side in sides {
        match Need::Program("iptables").missing().filter(|_| !side.ours) {
            Some(why) => findings
                .skipped
                .push(format!("the chain of {}: {why}", side.name)),
            None => able.push(side.clone()),
        }
    }
    let seats: Vec<Seat> = able.iter().map(Side::on_new_node).collect::<Result<_>>()?;
    findings.rows.extend(one_by_one(&seats)?);
    findings.rows.extend(many(&seats)?);
    findings.extend(ports(&able)?);
    Ok(findings)
}

fn one_by_one(seats: &[Seat]) -> Result<Vec<Row>> {
    progress("chain: a pod at a time");
    let conflist = conflist(0);
    let mut duel = Duel::default();
    for seat in seats {
        seat.plugins.node().pod("pod0")?;
        duel.seat(seat, |seat, clock| {
            let (took, result) = add(&seat.side, &conflist, "pod0")?;
            clock.push("ADD", took);
            clock.push("DEL", del(&seat.side, &conflist, "pod0", &result)?);
            Ok(())
        });
    }
    duel.warm_up()?;
    duel.run(ROUNDS)?;
    let mut rows = Vec::new();
    for verb in ["ADD", "DEL"] {
        let id = format!("chain.{}", verb.to_lowercase());
        let what = format!("bridge, portmap (2 ports), bandwidth, firewall: {verb}");
        rows.extend(duel.rows(&id, &what, verb, MEDIAN));
    }
    if Need::Program("strace").missing().is_none() {
        let programs: Vec<f64> = seats.iter().map(programs).collect::<Result<_>>()?;
        let peers = seats.iter().zip(&programs).skip(1);
        let what = "the chain: programs started, ADD + DEL";
        rows.extend(
            Row::new("chain.programs", what, "count", programs[0])
                .beside(peers.map(|(seat, count)| (seat.side.name.as_str(), *count))),
        );
    }
    Ok(rows)
}

fn many(seats: &[Seat]) -> Result<Vec<Row>> {
    progress("chain: many pods at once");
    let pods: Vec<(String, [Value; 4])> = (0..PODS)
        .map(|number| (format!("many{number}"), conflist(number)))
        .collect();
    let mut duel = Duel::default();
    for seat in seats {
        for (name, _) in &pods {
            seat.plugins.node().pod(name)?;
        }
        duel.seat(seat, |seat, clock| {
            let results = Mutex::new(HashMap::new());
            let adds = at_once(&pods, AT_ONCE, |(name, conflist)| {
                let (_, result) = add(&seat.side, conflist, name)?;
                let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                results.insert(name.clone(), result);
                Ok(())
            })?;
            clock.push("ADD", adds);
            let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
            let dels = at_once(&pods, AT_ONCE, |(name, conflist)| {
                let result = results.get(name).context("an ADD without a result")?;
                del(&seat.side, conflist, name, result).map(drop)
            })?;
            clock.push("DEL", dels);
            Ok(())
        });
    }
    duel.run(BATCHES)?;
    let mut rows = Vec::new();
    for verb in ["ADD", "DEL"] {
        let id = format!("chain.{}.{AT_ONCE}", verb.to_lowercase());
        let what = format!("the chain, {PODS} pods, {AT_ONCE} at a time: {verb}s");
        let times = duel.rows(&id, &what, verb, MEDIAN);
        rows.extend(times.into_iter().map(|row| rate(row, PODS)));
    }
    Ok(rows)
}

/// How many programs all plugins start for one pod.
fn programs(seat: &Seat) -> Result<f64> {
    let pod = seat.plugins.node().pod("counted")?;
    let conflist = conflist(PODS);
    let (mut result, mut programs) = (Value::Null, 0);
    for conf in &conflist {
        let conf = match result {
            Value::Null => conf.clone(),
            _ => with_prev(conf, &result),
        };
        let reply = seat.plugins.call("ADD", &conf).pod(&pod).traced().send()?;
        reply.done()?;
        programs += reply.trace.programs();
        result = reply.result()?;
    }
    for conf in conflist.iter().rev() {
        let conf = with_prev(conf, &result);
        let reply = seat.plugins.call("DEL", &conf).pod(&pod).traced().send()?;
        reply.done()?;
        programs += reply.trace.programs();
    }
    Ok(programs as f64)
}

/// One port of a pod, beside many of another's: elements of the same nftables maps, or rules.
fn ports(sides: &[Side]) -> Result<Findings> {
    let mapping = |host: usize| json!({"hostPort": host, "containerPort": 80, "protocol": "tcp"});
    let bridge = conf::bridge(json!({"cniVersion": "1.0.0", "isDefaultGateway": true}));
    let (mut findings, mut lines) = (Findings::default(), Vec::<Line>::new());
    for ports in PORTS {
        progress(&format!("chain: portmap beside {ports} ports"));
        let able = sides
            .iter()
            .filter(|side| side.ours || ports <= REFERENCE_PORTS);
        let seats: Vec<Seat> = able.map(Side::on_new_node).collect::<Result<_>>()?;
        let mut duel = Duel::default();
        for seat in &seats {
            let node = seat.plugins.node();
            node.pod("many")?;
            node.pod("one")?;
            let many: Vec<_> = (10_000..10_000 + ports).map(mapping).collect();
            let many = [bridge.clone(), of("portmap", json!({"portMappings": many}))];
            let conf = node.run(|| -> Result<Value> {
                add(&seat.side, &many, "many")?;
                let (_, result) = add(&seat.side, &many[..1], "one")?;
                let portmap = of("portmap", json!({"portMappings": [mapping(1)]}));
                Ok(with_prev(&portmap, &result))
            })?;
            duel.seat(seat, move |seat, clock| {
                for verb in ["ADD", "DEL"] {
                    clock.push(verb, seat.side.timed(verb, &conf, "one")?);
                }
                Ok(())
            });
        }
        duel.warm_up()?;
        duel.run(ROUNDS)?;
        for verb in ["ADD", "DEL"] {
            let id = format!("chain.portmap.{}.{ports}", verb.to_lowercase());
            let what = format!("portmap of one port beside {ports}: {verb}");
            findings.rows.extend(duel.rows(&id, &what, verb, MEDIAN));
        }
        duel.points(&mut lines, "ADD", ports.max(1) as f64);
    }
    findings.plots.push(Plot {
        file: "ports",
        title: "portmap ADD of one port beside other pods' ports",
        x: "host ports (elements of nftables maps; 0 stands at 1)",
        y: "ADD, median (ms)",
        lines,
    });
    Ok(findings)
}
