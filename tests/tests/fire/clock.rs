//! Clocks jump. The kernel's own (boot and monotonic) in a time namespace, which the program is started in; the wall clock, which
//! no namespace has, by what was written down with it.
use std::fs;

use anyhow::ensure;
use lab::inspect::sh;
use lab::overlay::{Cluster, Member};
use lab::probe::ping;
use lab::{Node, Plugins, Result, conf};
use serde_json::{Value, json};

use crate::resources::gossip;

const STATE: &str = "/var/lib/heddle/gossip.json";
const DAY: i64 = 86_400;
const YEAR: u64 = 365 * 86_400 * 1_000_000;

/// How a program is started whose clocks are so many seconds off.
fn off(seconds: i64) -> Vec<String> {
    let words = format!("unshare --time --boottime {seconds} --monotonic {seconds}");
    words.split(' ').map(str::to_owned).collect()
}

/// To the first minute of an uptime.
fn back() -> Result<i64> {
    let uptime = fs::read_to_string("/proc/uptime")?;
    let seconds: f64 = uptime.split(' ').next().unwrap_or_default().parse()?;
    Ok(60 - seconds as i64)
}

fn restart(member: &mut Member, seconds: i64) -> Result {
    member.stop(true)?;
    let words = off(seconds);
    member.start_by(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

fn change(member: &Member, edit: impl Fn(&mut Value) + Sync) -> Result {
    member.node.run(|| -> Result {
        let mut state: Value = serde_json::from_slice(&fs::read(STATE)?)?;
        edit(&mut state);
        Ok(fs::write(STATE, state.to_string())?)
    })
}

/// Of the elector and of another node: ten days on, back to the first minute after a boot; the wall clock a year ahead and back.
pub fn jumps() -> Result {
    let mut cluster = Cluster::new(&gossip(""))?;
    cluster.start()?;
    cluster.ready()?;
    let pods = cluster.pods()?;
    let share = |member: &Member| -> Result<Value> { Ok(member.status()?["pod_cidrs"].clone()) };
    let rows = |member: &Member| sh(member.node.space(), "ip route show protocol 176 | sort");
    for number in [2, 0] {
        let member = &mut cluster.members[number];
        let (own, before) = (share(member)?, rows(member)?);
        for seconds in [10 * DAY, back()?, 0] {
            restart(member, seconds)?;
            member.wait_ready(2)?;
            ensure!(share(member)? == own, "{seconds} s: {}", share(member)?);
            ensure!(rows(member)? == before, "{seconds} s: {}", rows(member)?);
        }
        // The clock was a year ahead when it was written down; then a year behind. The session's number only ever grows.
        for ahead in [true, false] {
            member.stop(true)?;
            change(member, |state| {
                let number = |key: &str| state[key].as_u64().unwrap_or_default();
                let (session, majority) = (number("session"), number("last_majority_wall"));
                if ahead {
                    state["session"] = (session + YEAR).into();
                    state["last_majority_wall"] = (majority + YEAR / 1000).into();
                } else {
                    state["last_majority_wall"] = majority.saturating_sub(YEAR / 1000).into();
                }
            })?;
            member.start()?;
            member.wait_ready(2)?;
            ensure!(share(member)? == own, "a year: {}", share(member)?);
            ensure!(rows(member)? == before, "a year: {}", rows(member)?);
        }
    }
    cluster.ready()?;
    ping(pods[0].pod.space(), pods[2].addresses[0])?;
    ping(pods[2].pod.space(), pods[0].addresses[0]).map(drop)
}

/// Leases of this boot are not taken for those of an earlier one, whatever the clocks say: a full range stays full.
pub fn leases() -> Result {
    let node = Node::new("node")?;
    let plugins = Plugins::heddle(&node)?;
    let conf = conf::bridge(json!({
        "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.88.0.0/24", "rangeEnd": "10.88.0.2"}]]},
    }));
    let pod = node.pod("first")?;
    plugins.add(&conf, &pod)?.done()?;
    let second = node.pod("second")?;
    for seconds in [10 * DAY, back()?] {
        let mut command = node.command("unshare");
        command
            .args(&off(seconds)[1..])
            .arg("/opt/cni/bin/bridge")
            .envs([
                ("CNI_COMMAND", "ADD"),
                ("CNI_CONTAINERID", "second"),
                ("CNI_IFNAME", "eth0"),
                ("CNI_PATH", "/opt/cni/bin"),
            ])
            .env("CNI_NETNS", second.netns())
            .stdin(conf.to_string());
        let output = command.output()?;
        ensure!(
            !output.status.success() && output.stdout.contains("no IP addresses available"),
            "{seconds} s: {output:?}"
        );
        let leases = node.run(|| fs::read_to_string("/var/lib/cni/networks/lab/10.88.0.2"))?;
        ensure!(leases.starts_with("first"), "{leases}");
    }
    plugins.del(&conf, &pod)?.done()
}
