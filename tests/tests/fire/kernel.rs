//! More happens in the kernel than can be heard.
use std::time::{Duration, Instant};

use anyhow::ensure;
use lab::inspect::sh;
use lab::overlay::Cluster;
use lab::probe::ping;
use lab::{Node, Result, wait};

const PATIENCE: Duration = Duration::from_secs(10);

fn rows(node: &Node) -> Result<String> {
    sh(
        node.space(),
        "bridge fdb show dev vxlan.heddle | sort\n\
         ip neighbour show dev vxlan.heddle nud permanent | sort\n\
         ip nexthop show protocol 176 | sed 's/ dev .*//' | sort\n\
         ip route show protocol 176 | sed 's/ dev .*//' | sort\n\
         ip -6 route show protocol 176 | sed 's/ dev .*//' | sort\n\
         nft list table inet heddle",
    )
}

fn wait_same(node: &Node, before: &str) -> Result<Duration> {
    let start = Instant::now();
    wait::until(PATIENCE, "rows as before", || {
        let now = rows(node)?;
        ensure!(now == before, "before:\n{before}\nnow:\n{now}");
        Ok(())
    })?;
    Ok(start.elapsed())
}

/// 40,000 events of somebody else's while the daemon does not run, so that its sockets overflow, and in the middle all of its
/// rows are deleted; then the same while it runs.
pub fn lost_events() -> Result {
    let cluster = Cluster::fixed("")?;
    let pods = cluster.pods()?;
    let third = &cluster.members[2];
    let before = rows(&third.node)?;
    let lines = |verb: &str| -> String {
        let line = |n: usize| {
            format!(
                "route {verb} blackhole 100.{}.{}.0/24 table 99\n",
                64 + (n >> 8),
                n & 255
            )
        };
        (0..10_000).map(line).collect()
    };
    third.node.run(|| -> Result {
        std::fs::write("/run/add", lines("add"))?;
        Ok(std::fs::write("/run/del", lines("del"))?)
    })?;
    let harm = "ip -batch /run/add; \
         ip nexthop flush protocol 176; ip route flush protocol 176; ip neighbour flush dev vxlan.heddle nud permanent; \
         nft flush ruleset; ip -batch /run/del";
    for pause in [true, false] {
        let passes = third.status()?["passes"].as_u64();
        if pause {
            third.pause(true)?;
        }
        let began = Instant::now();
        sh(third.node.space(), harm)?;
        if pause {
            third.pause(false)?;
        }
        let flood = began.elapsed();
        let took = wait_same(&third.node, &before)?;
        let after = third.status()?["passes"].as_u64();
        let passes = after.unwrap_or_default() - passes.unwrap_or_default();
        println!(
            "20,000 events in {} ms, daemon {}: rows as before {} ms later, {passes} passes",
            flood.as_millis(),
            if pause { "stopped" } else { "running" },
            took.as_millis(),
        );
        ensure!(took < Duration::from_secs(2), "{took:?}");
        ensure!(
            passes < 5 + 20 * (flood + took).as_secs() + 20,
            "{passes} passes"
        );
        ping(pods[2].pod.space(), pods[0].addresses[0])?;
    }
    third.pid().map(drop)
}

/// The uplink goes down and up, loses its address and the default route, thirty times.
pub fn flapping() -> Result {
    let cluster = Cluster::fixed("")?;
    let pods = cluster.pods()?;
    let third = &cluster.members[2];
    let before = rows(&third.node)?;
    let pid = third.pid()?;
    let flaps = 8 * crate::seconds(4);
    for round in 0..flaps {
        let harm = match round % 3 {
            0 => "ip link set eth0 down",
            1 => "ip address flush dev eth0 scope global",
            _ => "ip route flush default; ip -6 route flush default",
        };
        sh(third.node.space(), harm)?;
        std::thread::sleep(Duration::from_millis(20 + 13 * (round % 7)));
        cluster.fabric.address(&third.node, 2, 13)?;
    }
    let took = wait_same(&third.node, &before)?;
    println!(
        "{flaps} flaps of the uplink: rows as before {} ms after the last",
        took.as_millis()
    );
    wait::until(PATIENCE, "pods that reach each other", || {
        ping(pods[0].pod.space(), pods[2].addresses[0])?;
        ping(pods[2].pod.space(), pods[1].addresses[1])
    })?;
    third.wait_ready(2)?;
    ensure!(third.pid()? == pid, "another daemon");
    Ok(())
}
