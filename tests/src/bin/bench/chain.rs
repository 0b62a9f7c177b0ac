//! The chain of a cluster's node, bridge, portmap with two ports, bandwidth and firewall: a pod at a time and many at
//! once, each plugin called as a runtime calls it.
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use lab::report::{Table, time};
use lab::{Need, Plugins, Result, conf, with_prev};
use serde_json::{Value, json};

use crate::parallel::at_once;
use crate::side::Side;
use crate::times::{Times, ratio};

const ROUNDS: usize = 60;
const PODS: usize = 60;

/// The plugins in their order, each with what the runtime gives to the pod of this number.
fn conflist(number: usize) -> [Value; 4] {
    let ports: Vec<_> = [80, 443]
        .iter()
        .zip(20_000 + 2 * number..)
        .map(|(port, host)| json!({"hostPort": host, "containerPort": port, "protocol": "tcp"}))
        .collect();
    let (rate, burst) = (100_000_000, 1_000_000);
    let limits = json!({"ingressRate": rate, "ingressBurst": burst, "egressRate": rate, "egressBurst": burst});
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
fn add(side: Side, plugins: &[Value], pod: &str) -> Result<(Duration, Value)> {
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
fn del(side: Side, plugins: &[Value], pod: &str, result: &Value) -> Result<Duration> {
    let calls = plugins.iter().rev();
    calls
        .map(|conf| side.timed("DEL", &with_prev(conf, result), pod))
        .sum()
}

/// One side's figures.
struct Figures {
    add: Times,
    del: Times,
    programs: String,
    all_adds: Duration,
    all_dels: Duration,
}

pub fn table(sides: &[Side]) -> Result<Table> {
    let mut table = Table::new(&[
        "bridge, portmap (2 ports), bandwidth, firewall",
        "ADD median",
        "DEL median",
        "ADD ÷ ours",
        "programs, ADD + DEL",
        "60 pods, 16 at a time: ADDs a second",
        "DELs a second",
        "ours ÷ ADDs",
    ]);
    let mut ours: Option<(Duration, Duration)> = None;
    for &side in sides {
        if let (Side::Reference, Some(why)) = (side, Need::Program("iptables").missing()) {
            table.row([side.name(), &format!("skipped: {why}")]);
            continue;
        }
        let figures = measure(side)?;
        let (add, all) = *ours.get_or_insert((figures.add.median(), figures.all_adds));
        let rate = |all: Duration| format!("{:.0}", PODS as f64 / all.as_secs_f64());
        table.row([
            side.name().to_owned(),
            time(figures.add.median()),
            time(figures.del.median()),
            ratio(figures.add.median(), add),
            figures.programs.clone(),
            rate(figures.all_adds),
            rate(figures.all_dels),
            ratio(figures.all_adds, all),
        ]);
    }
    Ok(table)
}

fn measure(side: Side) -> Result<Figures> {
    let plugins = side.on_new_node()?;
    let node = plugins.node();
    let pods: Vec<(String, [Value; 4])> = (0..PODS)
        .map(|number| (format!("pod{number}"), conflist(number)))
        .collect();
    for (name, _) in &pods {
        node.pod(name)?;
    }
    let programs = programs(&plugins)?;
    node.run(|| {
        let (name, conflist) = &pods[0];
        let (mut adds, mut dels) = (Times::default(), Times::default());
        for _ in 0..ROUNDS {
            let (took, result) = add(side, conflist, name)?;
            adds.push(took);
            dels.push(del(side, conflist, name, &result)?);
        }
        let results = Mutex::new(HashMap::new());
        let all_adds = at_once(&pods, |(name, conflist)| {
            let (_, result) = add(side, conflist, name)?;
            let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
            results.insert(name.clone(), result);
            Ok(())
        })?;
        let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        let all_dels = at_once(&pods, |(name, conflist)| {
            let result = results.get(name).context("an ADD without a result")?;
            del(side, conflist, name, result).map(drop)
        })?;
        Ok(Figures {
            add: adds,
            del: dels,
            programs,
            all_adds,
            all_dels,
        })
    })
}

/// How many programs all plugins start for one pod.
fn programs(plugins: &Plugins) -> Result<String> {
    if let Some(why) = Need::Program("strace").missing() {
        return Ok(why);
    }
    let pod = plugins.node().pod("counted")?;
    let conflist = conflist(PODS);
    let (mut result, mut adds, mut dels) = (Value::Null, 0, 0);
    for conf in &conflist {
        let conf = if result.is_null() {
            conf.clone()
        } else {
            with_prev(conf, &result)
        };
        let reply = plugins.call("ADD", &conf).pod(&pod).traced().send()?;
        adds += reply.trace.programs();
        result = reply.result()?;
    }
    for conf in conflist.iter().rev() {
        let call = plugins.call("DEL", &with_prev(conf, &result)).pod(&pod);
        let reply = call.traced().send()?;
        reply.done()?;
        dels += reply.trace.programs();
    }
    Ok(format!("{adds} + {dels}"))
}

/// portmap alone, on a node that has host ports already.
pub fn ports_table(sides: &[Side]) -> Result<Table> {
    let mut table = Table::new(&[
        "portmap of one port, beside",
        "by",
        "ADD median",
        "DEL median",
    ]);
    for &side in sides {
        if let (Side::Reference, Some(why)) = (side, Need::Program("iptables").missing()) {
            table.row(["", side.name(), &format!("skipped: {why}")]);
            continue;
        }
        // The reference writes several rules a port, each by a program: thousands would take minutes.
        let many = if side == Side::Heddle { 2000 } else { 200 };
        for ports in [10, many] {
            let times = beside(side, ports)?;
            table.row([
                format!("{ports} host ports"),
                side.name().to_owned(),
                time(times[0].median()),
                time(times[1].median()),
            ]);
        }
    }
    Ok(table)
}

fn beside(side: Side, ports: usize) -> Result<[Times; 2]> {
    let plugins = side.on_new_node()?;
    let node = plugins.node();
    ["many", "one"]
        .iter()
        .try_for_each(|name| node.pod(name).map(drop))?;
    let mapping = |host: usize| json!({"hostPort": host, "containerPort": 80, "protocol": "tcp"});
    let many: Vec<_> = (10_000..10_000 + ports).map(mapping).collect();
    let bridge = conf::bridge(json!({"cniVersion": "1.0.0", "isDefaultGateway": true}));
    node.run(|| {
        add(
            side,
            &[bridge.clone(), of("portmap", json!({"portMappings": many}))],
            "many",
        )?;
        let (_, result) = add(side, &[bridge], "one")?;
        let conf = with_prev(
            &of("portmap", json!({"portMappings": [mapping(1)]})),
            &result,
        );
        let mut times = [Times::default(), Times::default()];
        for _ in 0..ROUNDS {
            for (verb, times) in ["ADD", "DEL"].iter().zip(&mut times) {
                times.push(side.timed(verb, &conf, "one")?);
            }
        }
        Ok(times)
    })
}
