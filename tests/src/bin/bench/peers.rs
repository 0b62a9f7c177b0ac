//! A cluster of 5,000 nodes as one of them sees it: how long the kernel takes to be told, and what the daemon weighs.
use std::fmt::Write;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use anyhow::ensure;
use lab::overlay::Member;
use lab::{Fabric, Node, Result, inspect, wait};
use netlink::link::{Vxlan, VxlanInfo};
use netlink::{FdbEntry, Handle, Mac, Neighbour, Request, Route};

use crate::progress;
use crate::row::{Findings, Row};

const PEERS: u16 = 5_000;
const PATIENCE: Duration = Duration::from_secs(60);

pub fn run() -> Result<Findings> {
    progress("peers: 5,000 from empty");
    let fabric = Fabric::new()?;
    fabric.switch(1)?;
    let heddle = heddle(&fabric)?;
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    let what = "5,000 peers from empty";
    let row = Row::new("peers.empty.5000", what, "µs", micros(heddle.programmed));
    let one_by_one = micros(by_gateways(1)?);
    let batches = micros(by_gateways(250)?);
    let mut rows = row.beside(
        [
            ("route, neighbour and FDB one by one", one_by_one),
            ("the same in batches", batches),
        ]
        .into_iter(),
    );
    let restarted = micros(heddle.restarted);
    rows.push(Row::new(
        "peers.restart.5000",
        "5,000 peers, unchanged restart",
        "µs",
        restarted,
    ));
    let writes = heddle.writes as f64;
    rows.push(Row::new(
        "peers.restart.writes",
        "its writes to the kernel",
        "count",
        writes,
    ));
    rows.push(Row::new(
        "peers.memory.5000",
        "daemon's memory, 5,000 peers",
        "MB",
        heddle.memory,
    ));
    Ok(Findings {
        rows,
        ..Findings::default()
    })
}

struct Measured {
    programmed: Duration,
    restarted: Duration,
    writes: u64,
    memory: f64,
}

/// The underlay address and the pod CIDR of peer `n`.
fn peer(n: u16) -> (Ipv4Addr, String) {
    let [high, low] = n.to_be_bytes();
    (
        Ipv4Addr::new(198, 18, high, low),
        format!("10.{}.{low}.0/24", 32 + high),
    )
}

fn heddle(fabric: &Fabric) -> Result<Measured> {
    let config = "membership = \"static\"\nmasquerade = false";
    let mut member = Member::new(fabric, "one", 1, 11, config)?;
    let mut nodes =
        "[[node]]\nname = \"one\"\nendpoints = [\"192.0.1.11\"]\npod_cidrs = [\"10.31.0.0/24\"]\n"
            .to_owned();
    for n in 0..PEERS {
        let (endpoint, cidr) = peer(n);
        write!(
            nodes,
            "[[node]]\nname = \"p{n}\"\nendpoints = [\"{endpoint}\"]\npod_cidrs = [\"{cidr}\"]\n"
        )?;
    }
    member.node.run(|| -> Result {
        fs::write("/etc/heddle/nodes.toml", nodes)?;
        // The lab's own range would be too small.
        let config = fs::read_to_string("/etc/heddle/heddle.toml")?.replace("cluster_cidrs", "#");
        Ok(fs::write("/etc/heddle/heddle.toml", config)?)
    })?;
    let start = Instant::now();
    member.start()?;
    wait::until(PATIENCE, "all routes", || {
        let routes = inspect::sh(member.node.space(), "ip route show protocol 176 | wc -l")?;
        ensure!(routes.trim() == PEERS.to_string(), "{routes}");
        Ok(())
    })?;
    let programmed = start.elapsed();
    member.wait_for("a status", |status| status["passes"] != 0)?;
    std::thread::sleep(Duration::from_secs(5));
    let memory = member.memory()?;
    member.stop(true)?;
    let start = Instant::now();
    member.start()?;
    let status = member.wait_for("the first pass", |status| {
        let peers = status["peers"].as_object().map_or(0, serde_json::Map::len);
        peers == usize::from(PEERS)
    })?;
    let restarted = start.elapsed();
    Ok(Measured {
        programmed,
        restarted,
        writes: status["writes"].as_u64().unwrap_or(u64::MAX),
        memory,
    })
}

/// What flannel puts in the kernel for a peer: neighbour, FDB row, route by a gateway of its own.
fn by_gateways(together: usize) -> Result<Duration> {
    let node = Node::new("gateways")?;
    node.run(|| {
        let mut handle = Handle::new()?;
        let info = VxlanInfo {
            vni: 1,
            local: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            port: 8472,
            learning: false,
        };
        let vxlan = Vxlan {
            name: "flannel.1",
            info,
            mac: Mac::from([2, 0, 0, 0, 0, 1]),
            mtu: 1450,
        };
        handle.execute(vec![vxlan.request()])?;
        let dev = handle
            .link("flannel.1")?
            .map(|link| link.index)
            .unwrap_or_default();
        let start = Instant::now();
        let mut batch: Vec<Request> = Vec::new();
        for n in 0..PEERS {
            let (endpoint, cidr) = peer(n);
            let [high, low] = n.to_be_bytes();
            let (mac, gw) = (
                Mac::from([2, 1, 0, 0, high, low]),
                IpAddr::from([10, 32 + high, low, 0]),
            );
            let route = Route {
                gw: Some(gw),
                dev: Some(dev),
                onlink: true,
                ..Route::to(cidr.parse()?)
            };
            for request in [
                Neighbour {
                    dev,
                    ip: gw,
                    mac,
                    protocol: None,
                }
                .replace(),
                FdbEntry {
                    dev,
                    mac,
                    dst: endpoint.into(),
                }
                .replace(),
                route.replace(),
            ] {
                batch.push(request);
                if batch.len() >= together {
                    handle.execute(std::mem::take(&mut batch))?;
                }
            }
        }
        handle.execute(batch)?;
        Ok(start.elapsed())
    })
}
