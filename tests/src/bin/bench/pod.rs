//! One pod, added and deleted again and again: times, programs started, messages to the kernel.
use std::time::Duration;

use lab::report::{Table, time};
use lab::{Need, Plugins, Result, conf};
use serde_json::{Value, json};

use crate::floor::Floor;
use crate::side::Side;
use crate::times::{Times, ratio};

const ROUNDS: usize = 200;

/// What is measured, and by which key of the configuration.
fn configurations() -> [(&'static str, Value); 2] {
    let with = |masquerade: bool| {
        conf::bridge(json!({
            "cniVersion": "1.0.0", "isDefaultGateway": true, "ipMasq": masquerade,
            "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.88.0.0/16"}]]},
        }))
    };
    [("plain", with(false)), ("ipMasq", with(true))]
}

/// Times of the two verbs.
#[derive(Default)]
struct Verbs {
    add: Times,
    del: Times,
}

pub fn table(sides: &[Side]) -> Result<Table> {
    let mut table = Table::new(&[
        "a pod on cbr0",
        "by",
        "ADD median",
        "p99",
        "DEL median",
        "p99",
        "ADD ÷ floor",
        "programs",
        "threads",
        "netlink messages, ADD + DEL",
    ]);
    let floor = floor()?;
    let row = |what: &str, by: &str, verbs: &Verbs| {
        [
            what.to_owned(),
            by.to_owned(),
            time(verbs.add.median()),
            time(verbs.add.p99()),
            time(verbs.del.median()),
            time(verbs.del.p99()),
        ]
    };
    table.row(row("plain", "kernel's floor", &floor));
    for (what, conf) in configurations() {
        for &side in sides {
            if let Some(why) = lacks(side, &conf) {
                table.row([what, side.name(), &format!("skipped: {why}")]);
                continue;
            }
            let plugins = side.on_new_node()?;
            plugins.node().pod("pod")?;
            let verbs = measure(side, &plugins, &conf)?;
            let mut cells = row(what, side.name(), &verbs).to_vec();
            // The floor sends no rules, so only the plain configuration can be held against it.
            let floor = floor.add.median();
            cells.push(match what {
                "plain" => ratio(verbs.add.median(), floor),
                _ => String::new(),
            });
            cells.extend(counts(&plugins, &conf)?);
            table.row(cells);
        }
    }
    Ok(table)
}

fn floor() -> Result<Verbs> {
    let mut verbs = Verbs::default();
    Floor::new()?.run(ROUNDS, |add, del| {
        verbs.add.push(add);
        verbs.del.push(del);
    })?;
    Ok(verbs)
}

/// Why a side cannot do a configuration: the reference of Debian masquerades by exec of iptables.
fn lacks(side: Side, conf: &Value) -> Option<String> {
    match side {
        Side::Reference if conf["ipMasq"] == true => Need::Program("iptables").missing(),
        _ => None,
    }
}

fn measure(side: Side, plugins: &Plugins, conf: &Value) -> Result<Verbs> {
    plugins.node().run(|| {
        let mut verbs = Verbs::default();
        let round = || -> Result<[Duration; 2]> {
            Ok([
                side.timed("ADD", conf, "pod")?,
                side.timed("DEL", conf, "pod")?,
            ])
        };
        // The first one makes the bridge.
        round()?;
        for _ in 0..ROUNDS {
            let [add, del] = round()?;
            verbs.add.push(add);
            verbs.del.push(del);
        }
        Ok(verbs)
    })
}

/// Programs and threads started, and messages sent to the kernel, by one ADD and one DEL.
fn counts(plugins: &Plugins, conf: &Value) -> Result<[String; 3]> {
    if let Some(why) = Need::Program("strace").missing() {
        return Ok([why, String::new(), String::new()]);
    }
    let pod = plugins.node().pod("counted")?;
    let trace = |verb| -> Result<_> {
        let reply = plugins.call(verb, conf).pod(&pod).traced().send()?;
        reply.done()?;
        Ok(reply.trace)
    };
    let traces = [trace("ADD")?, trace("DEL")?];
    let both = |count: fn(&lab::Trace) -> usize| traces.each_ref().map(count);
    let sum = |counts: [usize; 2]| counts.iter().sum::<usize>().to_string();
    let [add, del] = both(lab::Trace::netlink_messages);
    let threads = both(|trace| trace.forks().saturating_sub(trace.programs()));
    Ok([
        sum(both(lab::Trace::programs)),
        sum(threads),
        format!("{add} + {del}"),
    ])
}
