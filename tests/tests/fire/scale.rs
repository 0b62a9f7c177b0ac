//! Very many peers, and all of their rows lost at once.
use std::fmt::Write;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::ensure;
use lab::inspect::sh;
use lab::overlay::Member;
use lab::{Fabric, Result, soak, wait};

const PATIENCE: Duration = Duration::from_secs(60);

fn nodes(count: usize) -> String {
    let own =
        "[[node]]\nname = \"n1\"\nendpoints = [\"192.0.1.11\"]\npod_cidrs = [\"10.32.0.0/30\"]\n";
    let mut text = own.to_owned();
    for number in 1..=count {
        let (share, high, low) = (number * 4, number >> 8, number & 255);
        let added = writeln!(
            text,
            "[[node]]\nname = \"p{number}\"\nendpoints = [\"198.18.{high}.{low}\"]\npod_cidrs = [\"10.32.{}.{}/30\"]",
            share >> 8,
            share & 255
        );
        added.unwrap();
    }
    text
}

/// 2,000 peers, 10,000 in the long version: programmed, all nexthops (and so all routes) deleted, the device deleted.
pub fn peers() -> Result {
    let count = if soak::is_on() { 10_000 } else { 2_000 };
    let fabric = Fabric::new()?;
    fabric.switch(1)?;
    let mut member = Member::new(&fabric, "n1", 1, 11, "membership = \"static\"")?;
    member
        .node
        .run(|| fs::write("/etc/heddle/nodes.toml", nodes(count)))?;
    let start = Instant::now();
    member.start()?;
    let all = || -> Result<Duration> {
        let start = Instant::now();
        wait::until(PATIENCE, "routes to all", || {
            let routes = sh(member.node.space(), "ip route show protocol 176 | wc -l")?;
            let fdb = sh(
                member.node.space(),
                "bridge fdb show dev vxlan.heddle | wc -l",
            )?;
            ensure!(routes.trim() == count.to_string(), "{routes}");
            ensure!(fdb.trim() == count.to_string(), "{fdb}");
            Ok(())
        })?;
        Ok(start.elapsed())
    };
    all()?;
    let programmed = start.elapsed();
    sh(member.node.space(), "ip nexthop flush protocol 176")?;
    let routes = all()?;
    sh(
        member.node.space(),
        "ip link delete vxlan.heddle; nft flush ruleset",
    )?;
    let device = all()?;
    println!(
        "{count} peers: programmed {:.1} s after the start, back {:.1} s after all nexthops went and {:.1} s after the device; {:.1} MB at most",
        programmed.as_secs_f64(),
        routes.as_secs_f64(),
        device.as_secs_f64(),
        member.peak_memory()?,
    );
    ensure!(
        member.status()?["peers"]
            .as_object()
            .map_or(0, serde_json::Map::len)
            == count,
        "peers are missing"
    );
    Ok(())
}
