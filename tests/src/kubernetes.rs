//! A real Kubernetes cluster on a fabric: a control plane, and nodes with containerd, kubelet and kube-proxy of their own.
//!
//! Kubernetes' programs come from the directory in `HEDDLE_K8S_BIN`, etcd, containerd and runc from the `PATH`. No plugin
//! and no network configuration is there: a node is what its owner has before `kubectl apply`.
mod certificates;
mod cgroups;
mod control;
mod image;
mod kubectl;
mod liar;
mod many_nodes;
mod server;
mod worker;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;

pub use control::Control;
pub use image::BUSYBOX;
pub use kubectl::Kubectl;
pub use liar::{Answer, Liar, node};
pub use many_nodes::ManyNodes;
pub use worker::Worker;

use crate::{Daemon, Fabric, Need, Result};

/// Where the API server listens, port 6443.
const API_SERVER: &str = "192.0.1.10";
/// The first address of the services' range, by which pods reach it.
const SERVICE_OF_API: &str = "10.96.0.1";
/// Keys and client configurations on every node.
const DIR: &str = "/etc/kubernetes";
/// Where pods get their addresses from.
pub const CLUSTER_CIDR: &str = "10.244.0.0/16";

/// What a case needs to make a cluster.
pub const NEEDS: [Need; 14] = [
    Need::Kubernetes,
    Need::Heddle,
    Need::HeddleCni,
    Need::Program("etcd"),
    Need::Program("containerd"),
    Need::Program("ctr"),
    Need::Program("runc"),
    Need::Program("iptables"),
    Need::Program("conntrack"),
    Need::Program("busybox"),
    Need::Program("setpriv"),
    Need::Program("nsenter"),
    Need::Program("nft"),
    Need::Link("vxlan"),
];

/// The cluster. All of it ends when this is dropped, or with the process.
#[derive(Debug)]
pub struct Cluster {
    /// Two switches and the router between them.
    pub fabric: Fabric,
    /// The control plane, on switch 1.
    pub control: Control,
    /// The nodes.
    pub workers: Vec<Worker>,
}

impl Cluster {
    /// A cluster in which these nodes, each with its switch and host, are registered; none is ready.
    pub fn start(nodes: &[(&str, u8, u8)]) -> Result<Cluster> {
        let programs = Programs::find()?;
        let fabric = Fabric::new()?;
        fabric.switch(1)?;
        fabric.switch(2)?;
        let names: Vec<&str> = nodes.iter().map(|(name, ..)| *name).collect();
        let control = Control::start(&fabric, &programs, &names)?;
        let authority = control.authority()?;
        let workers = nodes.iter().map(|(name, switch, host)| {
            let mut worker = Worker::new(&fabric, &programs, name, (*switch, *host), &authority)?;
            worker.boot()?;
            Ok(worker)
        });
        let cluster = Cluster {
            workers: workers.collect::<Result<_>>()?,
            fabric,
            control,
        };
        let all = cluster.workers.len();
        let registered = cluster
            .kubectl()
            .wait(Duration::from_secs(60), "nodes", |nodes| {
                let nodes = nodes["items"].as_array().into_iter().flatten();
                nodes
                    .filter(|node| node["spec"]["podCIDR"].is_string())
                    .count()
                    == all
            });
        registered.map_err(|error| error.context(cluster.log()))?;
        Ok(cluster)
    }

    /// kubectl for its administrator.
    pub fn kubectl(&self) -> Kubectl {
        Kubectl::new(self.control.node(), self.control.programs())
    }

    /// The node with this name.
    pub fn worker(&self, name: &str) -> &Worker {
        let found = self.workers.iter().find(|worker| worker.name() == name);
        found.unwrap_or_else(|| panic!("no node {name}"))
    }

    /// The same, to be switched off and on.
    pub fn worker_mut(&mut self, name: &str) -> &mut Worker {
        let found = self.workers.iter_mut().find(|worker| worker.name() == name);
        found.unwrap_or_else(|| panic!("no node {name}"))
    }

    /// The end of every program's log, for a message.
    pub fn log(&self) -> String {
        let workers = self.workers.iter().map(Worker::log);
        std::iter::once(self.control.log()).chain(workers).collect()
    }
}

/// The directory of Kubernetes' programs.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    dir: PathBuf,
}

impl Programs {
    /// `$HEDDLE_K8S_BIN`, if it has all of them.
    pub(crate) fn find() -> Result<Programs> {
        let Some(dir) = std::env::var_os("HEDDLE_K8S_BIN").filter(|dir| !dir.is_empty()) else {
            bail!(
                "HEDDLE_K8S_BIN is not set: it names the directory with kube-apiserver, kubelet and the others, \
                 as in `make test-k8s HEDDLE_K8S_BIN=dir`"
            );
        };
        let programs = Programs { dir: dir.into() };
        for name in [
            "kube-apiserver",
            "kube-controller-manager",
            "kube-proxy",
            "kube-scheduler",
            "kubectl",
            "kubelet",
        ] {
            if !Path::new(&programs.path(name)).is_file() {
                bail!(
                    "{} is not there, where HEDDLE_K8S_BIN points",
                    programs.path(name)
                );
            }
        }
        Ok(programs)
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).to_string_lossy().into_owned()
    }

    /// A command line of one of them, which asks no proxy.
    fn words<'a>(&self, name: &str, flags: impl IntoIterator<Item = &'a str>) -> Vec<String> {
        let program = ["env".to_owned(), "NO_PROXY=*".to_owned(), self.path(name)];
        let flags = flags.into_iter().map(str::to_owned);
        program.into_iter().chain(flags).collect()
    }
}

/// The end of a program's log, for a message.
fn tail(daemon: &Daemon, lines: usize) -> String {
    let log = daemon.log().unwrap_or_default();
    let all = log.lines().filter(|line| !line.contains("perf_event"));
    let all: Vec<&str> = all.collect();
    let last = all[all.len().saturating_sub(lines)..].join("\n");
    format!("\n--- {}\n{last}", daemon.name())
}
