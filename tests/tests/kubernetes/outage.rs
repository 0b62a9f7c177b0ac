//! The API server away for two minutes, and a node that reboots in that time.
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use lab::kubernetes::Worker;
use lab::probe::{TcpEcho, exchange, ping};
use lab::{Daemon, Processes, Result, find, wait};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::shared::{self, NODES, PATIENCE, pod_spec};
use crate::upgrade::without_loss;

/// How long it is away.
const AWAY: Duration = Duration::from_secs(120);

/// A pod that kubelet starts by itself, and where it is.
const STATIC: &str = "/etc/kubernetes/manifests/own.json";

/// kubelet cannot start a DaemonSet's pods on a rebooted node while it cannot ask for them. Where that matters, the daemon
/// is a service of the node's (conf/heddle.service), as here; pods that come back by themselves are kubelet's static ones.
pub fn api_server_away() -> Result {
    shared::with(|lab| {
        let pods = lab.pods("app=web", NODES.len())?;
        let own = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "own", "namespace": "default", "labels": {"app": "own"}},
            "spec": pod_spec(json!({})),
        });
        let n3 = lab.cluster.worker("n3");
        n3.node().run(|| fs::write(STATIC, own.to_string()))?;
        lab.pods("app=own", 1)?;

        without_loss(&pods[0], &[&pods[1]], || {
            let away = Instant::now();
            lab.cluster.control.kill_api();
            let n3 = lab.cluster.worker_mut("n3");
            n3.power_off();
            let reboot = Instant::now();
            n3.boot()?;
            let mut daemon = service(n3)?;
            let address = wait::until(PATIENCE, "a pod on the rebooted node", || own_address(n3))?;
            wait::until(PATIENCE, "packet to the rebooted node", || {
                ping(&pods[0].space, address)
            })?;
            println!(
                "reboot without an API server -> first packet to a pod there {:.1} s",
                reboot.elapsed().as_secs_f64()
            );
            let server =
                TcpEcho::start(&n3.container_named("web")?, SocketAddr::new(address, 7000))?;
            let seen = exchange(&pods[1].space, server.address(), b"hello")?;
            ensure!(seen.seen.ip() == pods[1].ip, "seen as {}", seen.seen);
            ensure!(away.elapsed() < AWAY, "the API server would be back by now");
            std::thread::sleep(AWAY.saturating_sub(away.elapsed()));
            lab.cluster.control.start_api()?;
            Processes::signal(&daemon, Signal::SIGTERM)?;
            daemon.wait();
            Ok(())
        })?;
        lab.cluster
            .worker("n3")
            .node()
            .run(|| fs::remove_file(STATIC))?;
        lab.wait_ready()?;
        lab.pods("app=web", NODES.len()).map(drop)
    })
}

/// The daemon as a service manager starts it, with what the DaemonSet's ConfigMap says.
fn service(node: &Worker) -> Result<Daemon> {
    let program = fs::read(find::heddle()?)?;
    node.node().run(|| -> Result {
        fs::create_dir_all("/etc/heddle")?;
        fs::create_dir_all("/opt/heddle")?;
        fs::write(
            "/etc/heddle/heddle.toml",
            format!(
                "node_name = \"{}\"\nmembership = \"kubernetes\"\ncluster_cidrs = [\"10.244.0.0/16\"]\n\
                 kubeconfig = \"/etc/kubernetes/heddle.kubeconfig\"\n",
                node.name()
            ),
        )?;
        fs::write("/opt/heddle/heddle", program)?;
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        Ok(fs::set_permissions("/opt/heddle/heddle", executable)?)
    })?;
    node.processes().daemon(&["/opt/heddle/heddle", "daemon"])
}

/// The address that the plugin gave to the one pod of the node.
fn own_address(node: &Worker) -> Result<IpAddr> {
    let space = node.container_named("web")?;
    let addresses = lab::inspect::addresses(&space, "eth0")?;
    let first = addresses.first().context("no address yet")?;
    Ok(first.split('/').next().unwrap_or_default().parse()?)
}
