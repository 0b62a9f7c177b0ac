//! What a case needs and a machine may lack; kernel features are found by trying them, never by version.
use std::collections::HashMap;
use std::sync::Mutex;

use crate::kubernetes::Programs;
use crate::{Result, Space, find};

/// One need of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Need {
    /// To be root, with the right to make namespaces.
    Root,
    /// `dist/heddle-cni` (or `$HEDDLE_CNI`).
    HeddleCni,
    /// `dist/heddle` (or `$HEDDLE`).
    Heddle,
    /// Kubernetes' programs, in `$HEDDLE_K8S_BIN`.
    Kubernetes,
    /// A program on the `PATH`, by name.
    Program(&'static str),
    /// A variable of the environment, which names what cannot be built here.
    Variable(&'static str),
    /// A reference plugin, by type.
    Reference(&'static str),
    /// A kind of link in the kernel, as `ip link add type` names it, or `tap`.
    Link(&'static str),
    /// Bridges that filter VLANs.
    VlanFiltering,
    /// A queueing discipline, as `tc qdisc add` names it.
    Qdisc(&'static str),
    /// A program that another one becomes can have clocks of its own (time_namespaces(7), Linux 6.3), by `unshare`.
    TimeNamespace,
    /// The nftables expressions of this ruleset, as `nft -f` reads it.
    Nftables(&'static str),
}

impl Need {
    /// Why the need is not met; `None` when it is. Each need is tried once per process.
    pub fn missing(self) -> Option<String> {
        static TRIED: Mutex<Option<HashMap<Need, Option<String>>>> = Mutex::new(None);
        let mut tried = TRIED
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        tried
            .get_or_insert_default()
            .entry(self)
            .or_insert_with(|| self.look())
            .clone()
    }

    fn look(self) -> Option<String> {
        match self {
            Need::Root => {
                (!nix::unistd::geteuid().is_root()).then(|| "namespaces need root".into())
            }
            Need::HeddleCni => find::heddle_cni().err().map(|error| error.to_string()),
            Need::Heddle => find::heddle().err().map(|error| error.to_string()),
            Need::Kubernetes => Programs::find().err().map(|error| error.to_string()),
            Need::Program(name) => match find::program(name) {
                Some(_) => None,
                None => Some(format!("{name} is not installed")),
            },
            Need::Variable(name) => std::env::var_os(name)
                .is_none()
                .then(|| format!("{name} is not set")),
            Need::Reference(name) => {
                let file = find::reference_dir().join(name);
                (!file.is_file()).then(|| format!("no reference plugin {}", file.display()))
            }
            Need::Link(kind) => kernel(kind, |space| link(space, kind)),
            Need::VlanFiltering => kernel("bridge VLAN filtering", |space| {
                ip(
                    space,
                    &["link", "add", "x", "type", "bridge", "vlan_filtering", "1"],
                )
            }),
            Need::Qdisc(kind) => kernel(kind, |space| {
                ip(space, &["link", "add", "x", "type", "ifb"])?;
                let mut add = space.command("tc");
                add.args(["qdisc", "add", "dev", "x", "root", kind]);
                if kind == "tbf" {
                    add.args(["rate", "1mbit", "burst", "10kb", "latency", "25ms"]);
                }
                add.ok().map(drop)
            }),
            Need::TimeNamespace => kernel("time namespaces for programs", |space| {
                let words = "--time --boottime 1000000000 cat /proc/uptime";
                let uptime = space.command("unshare").args(words.split(' ')).ok()?;
                anyhow::ensure!(uptime.len() > "1000000000".len(), "{uptime}");
                Ok(())
            }),
            Need::Nftables(ruleset) => kernel(ruleset, |space| {
                space
                    .command("nft")
                    .args(["-f", "-"])
                    .stdin(ruleset)
                    .ok()
                    .map(drop)
            }),
        }
    }
}

/// Tries something in a throw-away network namespace.
fn kernel(what: &str, attempt: impl FnOnce(&Space) -> Result) -> Option<String> {
    let tried = Space::bare("feature").and_then(|space| attempt(&space));
    tried
        .err()
        .map(|error| format!("kernel has no {what} ({error:#})"))
}

/// Makes a link of a kind, on a veth where that kind needs one beneath.
fn link(space: &Space, kind: &str) -> Result {
    let below = ["link", "add", "link", "p", "name", "x", "type", kind];
    let alone = ["link", "add", "name", "x", "type", kind];
    ip(
        space,
        &["link", "add", "p", "type", "veth", "peer", "name", "q"],
    )?;
    match kind {
        "macvlan" | "ipvlan" => ip(space, &below),
        "tap" => ip(space, &["tuntap", "add", "name", "x", "mode", "tap"]),
        "vlan" => ip(space, &[&below[..], &["id", "5"]].concat()),
        "vrf" => ip(space, &[&alone[..], &["table", "10"]].concat()),
        "vxlan" => ip(
            space,
            &[&alone[..], &["id", "1", "dstport", "4789"]].concat(),
        ),
        _ => ip(space, &alone),
    }
}

fn ip(space: &Space, args: &[&str]) -> Result {
    space.command("ip").args(args).ok().map(drop)
}
