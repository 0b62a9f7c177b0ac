//! A large cluster as one of its nodes sees it: how long the kernel takes to be told of all, or of a tenth; what the
//! daemon weighs, and what it does when there is nothing to do.
use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use lab::overlay::Member;
use lab::{Daemon, Fabric, Node, Result, wait};
use netlink::link::{Vxlan, VxlanInfo};
use netlink::{FdbEntry, Handle, Mac, Neighbour, Request, Route, RouteFilter};

use crate::progress;
use crate::row::{Findings, Line, Plot, Row};

const SIZES: [u16; 4] = [100, 1_000, 5_000, 10_000];
pub const IDLE: u16 = 1_000;
const IDLE_FOR: Duration = Duration::from_secs(10);
pub const PATIENCE: Duration = Duration::from_secs(60);
/// The daemon's VXLAN device.
pub const DEVICE: &str = "vxlan.heddle";
/// Ours, as the daemon's routes carry it.
const PROTOCOL: u8 = 176;

pub fn run() -> Result<Findings> {
    let mut findings = Findings::default();
    let (mut heddle, mut by_hand) = (Vec::new(), Vec::new());
    let fabric = Fabric::new()?;
    fabric.switch(1)?;
    for (number, size) in (0..).zip(SIZES) {
        progress(&format!("peers: {size}"));
        let mut large = Large::new(&fabric, number, size)?;
        let empty = large.start()?;
        let (single, batched) = (by_gateways(size, 1)?, by_gateways(size, 250)?);
        let what = |what: &str| format!("{size} peers, {what}");
        findings.rows.extend(
            Row::new(
                format!("peers.empty.{size}"),
                what("from empty, with the daemon's start"),
                "ms",
                millis(empty),
            )
            .beside(
                [
                    ("rows one by one, in a loop", millis(single)),
                    ("rows in batches, in a loop", millis(batched)),
                ]
                .into_iter(),
            ),
        );
        heddle.push((f64::from(size), millis(empty)));
        by_hand.push((f64::from(size), millis(single)));
        thread::sleep(Duration::from_secs(3));
        let memory = large.member.memory()?;
        findings.rows.push(Row::new(
            format!("peers.memory.{size}"),
            what("the daemon's memory"),
            "MB",
            memory,
        ));
        if size == IDLE {
            progress("peers: idle");
            let idle = Idle::of(large.member.running()?)?;
            let row = |id, title, unit, figure| {
                Row::new(id, what(&format!("idle daemon: {title}")), unit, figure)
            };
            findings.rows.extend([
                row("peers.idle.cpu", "of a core", "%", idle.core),
                row("peers.idle.wakeups", "wake-ups", "a second", idle.wakeups),
            ]);
        }
        let (restarted, writes) = large.restart()?;
        findings.rows.push(Row::new(
            format!("peers.unchanged.{size}"),
            what("unchanged, the daemon started anew"),
            "ms",
            millis(restarted),
        ));
        findings.rows.push(Row::new(
            format!("peers.writes.{size}"),
            what("its writes to the kernel then"),
            "count",
            writes,
        ));
        let churn = large.churn()?;
        findings.rows.push(Row::new(
            format!("peers.churn.{size}"),
            what("a tenth of them has moved"),
            "ms",
            millis(churn),
        ));
        large.member.stop(true)?;
    }
    findings.plots.push(Plot {
        file: "peers",
        title: "Peers from empty to the kernel",
        x: "peers",
        y: "time (ms)",
        lines: vec![
            Line {
                name: "Heddle, with its start".into(),
                points: heddle,
            },
            Line {
                name: "route, neighbour, FDB one by one".into(),
                points: by_hand,
            },
        ],
    });
    Ok(findings)
}

/// The lab's own range would be too small for thousands of nodes.
pub fn in_any_range(member: &Member) -> Result {
    member.node.run(|| -> Result {
        let config = fs::read_to_string("/etc/heddle/heddle.toml")?.replace("cluster_cidrs", "#");
        Ok(fs::write("/etc/heddle/heddle.toml", config)?)
    })
}

pub fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The underlay address, which differs once the peer has moved, and the pod CIDR of peer `n`.
pub fn peer(n: u16, moved: bool) -> (Ipv4Addr, String) {
    let [high, low] = n.to_be_bytes();
    (
        Ipv4Addr::new(198, 18 + u8::from(moved), high, low),
        format!("10.{}.{low}.0/24", 32 + high),
    )
}

/// A node whose file names many peers.
pub struct Large {
    pub member: Member,
    size: u16,
    moved: BTreeSet<u16>,
}

impl Large {
    pub fn new(fabric: &Fabric, number: u8, size: u16) -> Result<Large> {
        let config = "membership = \"static\"\nmasquerade = false";
        let name = format!("large{number}");
        let member = Member::new(fabric, &name, 1, 11 + number, config)?;
        in_any_range(&member)?;
        let large = Large {
            member,
            size,
            moved: BTreeSet::new(),
        };
        large.write()?;
        Ok(large)
    }

    /// Writes the file as it is to be, and returns when that began to be true.
    fn write(&self) -> Result<Instant> {
        let name = self.member.node.name();
        let mut nodes = format!(
            "[[node]]\nname = \"{name}\"\nendpoints = [\"192.0.1.11\"]\npod_cidrs = [\"10.31.0.0/24\"]\n"
        );
        for n in 0..self.size {
            let (endpoint, cidr) = peer(n, self.moved.contains(&n));
            write!(
                nodes,
                "[[node]]\nname = \"p{n}\"\nendpoints = [\"{endpoint}\"]\npod_cidrs = [\"{cidr}\"]\n"
            )?;
        }
        self.member.node.run(|| -> Result<Instant> {
            fs::write("/etc/heddle/nodes.new", nodes)?;
            let start = Instant::now();
            fs::rename("/etc/heddle/nodes.new", "/etc/heddle/nodes.toml")?;
            Ok(start)
        })
    }

    fn start(&mut self) -> Result<Duration> {
        start(&mut self.member, self.size)
    }

    /// Starts it anew: how long until it knows that nothing is to be done, and what it did.
    fn restart(&mut self) -> Result<(Duration, f64)> {
        self.member.stop(true)?;
        let start = Instant::now();
        self.member.start()?;
        let status = self.member.wait_for("the first pass", |status| {
            let peers = status["peers"].as_object().map_or(0, serde_json::Map::len);
            peers == usize::from(self.size)
        })?;
        let took = start.elapsed();
        Ok((took, status["writes"].as_f64().context("writes")?))
    }

    /// A tenth of the peers moves to other addresses.
    fn churn(&mut self) -> Result<Duration> {
        self.moved = (0..self.size).filter(|n| n % 10 == 0).collect();
        let start = self.write()?;
        let moved = |row: &FdbEntry| matches!(row.dst, IpAddr::V4(ip) if ip.octets()[1] == 19);
        let device = index(&self.member.node, DEVICE)?;
        self.member.node.run(|| {
            let mut handle = Handle::new()?;
            wait::until(PATIENCE, "the FDB", || {
                let rows = handle.fdb(device)?.into_iter().filter(moved).count();
                ensure!(rows == self.moved.len(), "{rows} rows");
                Ok(())
            })
        })?;
        Ok(start.elapsed())
    }

    /// One peer moves, or back.
    pub fn change_one(&mut self, n: u16) -> Result<Instant> {
        let n = n % self.size;
        if !self.moved.remove(&n) {
            self.moved.insert(n);
        }
        self.write()
    }
}

/// What a daemon does while nothing happens.
pub struct Idle {
    /// In percent of one.
    pub core: f64,
    /// In a second.
    pub wakeups: f64,
}

impl Idle {
    pub fn of(daemon: &Daemon) -> Result<Idle> {
        let before = daemon.work()?;
        thread::sleep(IDLE_FOR);
        let after = daemon.work()?;
        let seconds = IDLE_FOR.as_secs_f64();
        Ok(Idle {
            core: (after.cpu - before.cpu).as_secs_f64() / seconds * 100.0,
            wakeups: (after.wakeups - before.wakeups) as f64 / seconds,
        })
    }
}

/// Starts a daemon with `size` peers and waits for the last route.
pub fn start(member: &mut Member, size: u16) -> Result<Duration> {
    let start = Instant::now();
    member.start()?;
    let ours = RouteFilter {
        protocol: Some(PROTOCOL),
        ..RouteFilter::default()
    };
    until_routes(&member.node, size, |handle| Ok(handle.routes(ours)?.len()))?;
    Ok(start.elapsed())
}

/// Waits until a node has so many routes, as `count` counts them.
pub fn until_routes(
    node: &Node,
    size: u16,
    count: impl Fn(&mut Handle) -> Result<usize> + Sync,
) -> Result {
    node.run(|| {
        let mut handle = Handle::new()?;
        wait::until(PATIENCE, "all routes", || {
            let routes = count(&mut handle)?;
            ensure!(routes == usize::from(size), "{routes} routes");
            Ok(())
        })
    })
}

/// The index of a node's link.
pub fn index(node: &Node, name: &str) -> Result<u32> {
    node.run(|| {
        let link = Handle::new()?.link(name)?;
        Ok(link.with_context(|| name.to_owned())?.index)
    })
}

/// What flannel puts in the kernel for a peer: neighbour, FDB row, route by a gateway of its own.
fn by_gateways(size: u16, together: usize) -> Result<Duration> {
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
        for n in 0..size {
            let (endpoint, cidr) = peer(n, false);
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
            let neighbour = Neighbour {
                dev,
                ip: gw,
                mac,
                protocol: None,
            };
            let fdb = FdbEntry {
                dev,
                mac,
                dst: endpoint.into(),
            };
            for request in [neighbour.replace(), fdb.replace(), route.replace()] {
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
