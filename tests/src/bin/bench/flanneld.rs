//! flanneld, as `make bench-peers` builds it, on a node of the lab, and what an API server tells it.
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Context;
use lab::kubernetes::{self, Liar};
use lab::{Daemon, Node, Result, find};
use netlink::{Mac, RouteFilter};
use serde_json::{Value, json};

use crate::peers;
use crate::side::said;

/// Why it is not measured.
pub const MISSING: &str = "no flanneld in target/tools/reference: `make bench-peers` brings it";
/// The device that it makes.
pub const DEVICE: &str = "flannel.1";

/// A node whose daemon it is.
pub struct Flanneld {
    pub node: Node,
    daemon: Option<Daemon>,
}

/// Its name with its version; `None` where it is not installed.
pub fn name() -> Option<String> {
    find::flanneld()?;
    let version = said("cat FLANNEL_VERSION", &find::latest_reference_dir());
    Some(format!("flanneld {}", version.trim_start_matches('v')))
}

/// A Node of a cluster that both it and ours are members of: each has written down where it is to be found.
pub fn node(name: &str, endpoint: Ipv4Addr, cidr: &str, mac: Mac) -> (String, Value) {
    let (name, mut node) = kubernetes::node(name, &endpoint.to_string(), cidr);
    let annotations = &mut node["metadata"]["annotations"];
    for (key, value) in [
        ("kube-subnet-manager", "true".to_owned()),
        ("backend-type", "vxlan".to_owned()),
        (
            "backend-data",
            json!({"VNI": 1, "VtepMAC": mac.to_string()}).to_string(),
        ),
        ("public-ip", endpoint.to_string()),
    ] {
        annotations[format!("flannel.alpha.coreos.com/{key}")] = value.into();
    }
    (name, node)
}

impl Flanneld {
    /// On a node that is joined to a network by its `eth0`, for pods of the network `range`; it is told by the API server
    /// at `server`.
    pub fn on(node: &Node, server: SocketAddr, range: &str) -> Result<Flanneld> {
        let config = json!({"Network": range, "Backend": {"Type": "vxlan"}}).to_string();
        node.run(|| -> Result {
            fs::create_dir_all("/etc/kube-flannel")?;
            fs::write("/etc/kube-flannel/net-conf.json", config)?;
            let kubeconfig = Liar::kubeconfig(server);
            Ok(fs::write("/etc/kube-flannel/kubeconfig", kubeconfig)?)
        })?;
        Ok(Flanneld {
            node: node.clone(),
            daemon: None,
        })
    }

    /// Starts it as its DaemonSet does, and waits for the routes to so many peers.
    pub fn start(&mut self, size: u16) -> Result<Duration> {
        let program = find::flanneld().context(MISSING)?;
        let own = format!("NODE_NAME={}", self.node.name());
        let start = Instant::now();
        self.daemon = Some(Daemon::start(
            self.node.space(),
            &[
                "env",
                &own,
                &program.to_string_lossy(),
                "--kube-subnet-mgr",
                "--kubeconfig-file=/etc/kube-flannel/kubeconfig",
                "--ip-masq",
                "--iface=eth0",
            ],
        )?);
        peers::until_routes(&self.node, size, |handle| {
            let link = handle.link(DEVICE)?.context(DEVICE)?;
            let of_device = RouteFilter {
                dev: Some(link.index),
                ..RouteFilter::default()
            };
            let routes = handle.routes(of_device)?;
            Ok(routes.iter().filter(|route| route.gw.is_some()).count())
        })
        .with_context(|| self.log())?;
        Ok(start.elapsed())
    }

    /// While it runs.
    pub fn running(&self) -> Result<&Daemon> {
        self.daemon.as_ref().context("flanneld was not started")
    }

    /// The end of what it has said.
    fn log(&self) -> String {
        let log = self.running().and_then(Daemon::log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}
