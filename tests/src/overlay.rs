//! Nodes that run `heddle daemon`, on a fabric.
mod cluster;

use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

pub use cluster::{Cluster, NODES};

use crate::{Command, Daemon, Fabric, Need, Node, Plugins, Pod, Result, find, wait};

/// What every case with a daemon needs.
pub const NEEDS: [Need; 5] = [
    Need::HeddleCni,
    Need::Heddle,
    Need::Link("vxlan"),
    Need::Program("setpriv"),
    Need::Program("nft"),
];
/// The cluster's ranges in the lab.
pub const CLUSTER: [&str; 2] = ["10.32.0.0/16", "fd32::/48"];
/// Long enough for anything that the daemon promises within a second, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A node of an overlay: its plugins are installed, its daemon runs unless it was stopped.
#[derive(Debug)]
pub struct Member {
    /// The node.
    pub node: Node,
    /// What its runtimes call.
    pub plugins: Plugins,
    daemon: Option<Daemon>,
}

/// A pod with its addresses, IPv4 first.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The pod.
    pub pod: Pod,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

impl Member {
    /// A node called `name` at host `host` of switch `switch`, with `config` (TOML) beside the cluster's ranges; its daemon
    /// is not started yet.
    pub fn new(fabric: &Fabric, name: &str, switch: u8, host: u8, config: &str) -> Result<Member> {
        let node = Node::new(name)?;
        fabric.join(&node, switch, host)?;
        let plugins = Plugins::heddle(&node)?;
        let program = fs::read(find::heddle()?)?;
        let text = format!("node_name = \"{name}\"\ncluster_cidrs = {CLUSTER:?}\n{config}\n");
        node.run(|| -> Result {
            fs::create_dir_all("/etc/heddle")?;
            fs::write("/etc/heddle/heddle.toml", text)?;
            fs::write("/opt/cni/heddle", program)?;
            let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            Ok(fs::set_permissions("/opt/cni/heddle", executable)?)
        })?;
        Ok(Member {
            node,
            plugins,
            daemon: None,
        })
    }

    /// Starts the daemon.
    pub fn start(&mut self) -> Result {
        self.start_by(&[])
    }

    /// Starts the daemon by another program, `setpriv` for instance, which takes its command line.
    pub fn start_by(&mut self, before: &[&str]) -> Result {
        let words = [before, &["/opt/cni/heddle", "daemon"]].concat();
        self.daemon = Some(Daemon::start(self.node.space(), &words)?);
        Ok(())
    }

    /// The daemon's process id, while it runs.
    pub fn pid(&self) -> Result<nix::unistd::Pid> {
        let daemon = self.running()?;
        ensure!(daemon.is_running(), "the daemon has ended: {}", self.log());
        Ok(daemon.pid())
    }

    /// Ends the daemon, as by `kill -9` or as by `systemctl stop`.
    pub fn stop(&mut self, kill: bool) -> Result {
        let mut daemon = self.daemon.take().context("no daemon runs")?;
        let signal = if kill {
            nix::sys::signal::SIGKILL
        } else {
            nix::sys::signal::SIGTERM
        };
        daemon.signal(signal)?;
        daemon.wait();
        Ok(())
    }

    /// Stops the daemon where it is, or lets it go on.
    pub fn pause(&self, pause: bool) -> Result {
        let daemon = self.running()?;
        let signal = match pause {
            true => nix::sys::signal::SIGSTOP,
            false => nix::sys::signal::SIGCONT,
        };
        daemon.signal(signal)
    }

    /// What the daemon has logged since it was started.
    pub fn log(&self) -> String {
        self.daemon
            .as_ref()
            .and_then(|daemon| daemon.log().ok())
            .unwrap_or_default()
    }

    /// See [`Daemon::memory`].
    pub fn memory(&self) -> Result<f64> {
        self.running()?.memory()
    }

    /// See [`Daemon::peak_memory`].
    pub fn peak_memory(&self) -> Result<f64> {
        self.running()?.peak_memory()
    }

    /// The daemon, while it was not stopped.
    pub fn running(&self) -> Result<&Daemon> {
        self.daemon.as_ref().context("no daemon runs")
    }

    /// The operator's command line.
    pub fn heddle(&self, words: &str) -> Command {
        let mut command = self.node.command("/opt/cni/heddle");
        command.args(words.split_whitespace());
        command
    }

    /// What the daemon says of itself.
    pub fn status(&self) -> Result<Value> {
        let output = self.heddle("status --json").output()?;
        serde_json::from_str(&output.stdout).with_context(|| format!("{output:?}"))
    }

    /// Waits until the status is as `good` wants it.
    pub fn wait_for(&self, what: &str, good: impl Fn(&Value) -> bool) -> Result<Value> {
        let waited = wait::until(PATIENCE, what, || {
            let status = self.status()?;
            ensure!(good(&status), "{status:#}");
            Ok(status)
        });
        waited.with_context(|| format!("{}: {}", self.node.name(), tail(&self.log())))
    }

    /// Waits until the node is ready and has `peers` established peers.
    pub fn wait_ready(&self, peers: usize) -> Result<Value> {
        self.wait_for(&format!("readiness with {peers} peers"), |status| {
            let all = status["peers"].as_object();
            let established = all.map_or(0, |all| {
                all.values()
                    .filter(|peer| peer["state"] == "established")
                    .count()
            });
            status["ready"] == true && established == peers
        })
    }

    /// Adds a pod by the conflist that the daemon wrote, as kubelet's runtime would.
    pub fn add_pod(&self, name: &str) -> Result<Placed> {
        let pod = self.node.pod(name)?;
        let result = self
            .cnitool("add", &pod)
            .with_context(|| format!("a pod on {}", self.node.name()))?;
        let result: Value = serde_json::from_str(&result)?;
        let ips = result["ips"].as_array().into_iter().flatten();
        let text = ips.map(|ip| ip["address"].as_str().unwrap_or_default());
        let addresses = text.map(|text| Ok(text.split('/').next().unwrap_or_default().parse()?));
        Ok(Placed {
            addresses: addresses.collect::<Result<_>>()?,
            pod,
        })
    }

    /// Deletes a pod's attachment.
    pub fn delete_pod(&self, pod: &Pod) -> Result {
        self.cnitool("del", pod).map(drop)
    }

    fn cnitool(&self, verb: &str, pod: &Pod) -> Result<String> {
        let netns = pod.netns().to_string_lossy().into_owned();
        let mut command = self.node.command("/opt/cni/bin/heddle-cni");
        command
            .env("CNI_PATH", "/opt/cni/bin")
            .args(["cnitool", verb, "heddle", &netns])
            .ok()
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
