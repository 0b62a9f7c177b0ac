//! A cluster of 5,000 nodes, as the daemon of one of them sees it.
use std::time::{Duration, Instant};

use anyhow::ensure;
use lab::kubernetes::ManyNodes;
use lab::overlay::Member;
use lab::{Fabric, Result, inspect, wait};

const NODES: usize = 5_000;
/// Bytes of a Node on the wire.
const SIZE: usize = 16 << 10;
/// What the daemon may hold, in MB.
const MEMORY: f64 = 45.0;

/// Memory with all of them known and programmed; and each start of the daemon asks for one list, in pages.
pub fn five_thousand_nodes() -> Result {
    let fabric = Fabric::new()?;
    fabric.switch(1)?;
    let api = ManyNodes::start(fabric.space(), "192.0.1.1:8001".parse()?, NODES, SIZE)?;
    let config = "membership = \"kubernetes\"\nkubeconfig = \"/etc/heddle/kubeconfig\"";
    let mut member = Member::new(&fabric, &ManyNodes::name(0), 1, 11, config)?;
    let client = "apiVersion: v1\nkind: Config\n\
        clusters: [{name: many, cluster: {server: \"http://192.0.1.1:8001\"}}]\n\
        users: [{name: daemon, user: {token: any}}]\n\
        contexts: [{name: many, context: {cluster: many, user: daemon}}]\n\
        current-context: many\n";
    member
        .node
        .run(|| std::fs::write("/etc/heddle/kubeconfig", client))?;
    for start in 1..=3 {
        let begun = Instant::now();
        member.start()?;
        wait::until(
            Duration::from_secs(90),
            "routes to all nodes, and a watch",
            || {
                std::thread::sleep(Duration::from_millis(200));
                ensure!(
                    api.watches() == start,
                    "{} watches: {}",
                    api.watches(),
                    member.log()
                );
                let routes = inspect::ip(member.node.space(), "route show proto 176")?.len();
                ensure!(routes == NODES - 1, "{routes} routes: {}", member.log());
                Ok(())
            },
        )?;
        let settled = begun.elapsed();
        let (lists, pages) = api.lists();
        println!(
            "start {start} with {NODES} Nodes of {} KB: all known after {:.1} s, memory {:.1} MB, {:.1} MB at most; {lists} lists of {} pages so far",
            SIZE >> 10,
            settled.as_secs_f64(),
            member.memory()?,
            member.peak_memory()?,
            pages / lists.max(1),
        );
        ensure!(member.peak_memory()? < MEMORY, "more than {MEMORY} MB");
        ensure!(lists == start, "{lists} lists in {start} starts");
        member.stop(start == 1)?;
    }
    println!("patches of the own Node: {}", api.writes());
    Ok(())
}
