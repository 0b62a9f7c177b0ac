//! The runtimes that people have: the real cnitool, containerd and podman, with our plugins under them.
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use lab::podman::{IMAGE, Podman, busybox};
use lab::probe::ping;
use lab::{Case, Daemon, Need, Node, Plugins, Processes, Result, Snapshot, find, wait};
use serde_json::Value;

const CONF: &str = "10-heddle.conflist";

fn main() -> ExitCode {
    let containers = [
        Need::HeddleCni,
        Need::Program("busybox"),
        Need::Program("setpriv"),
        Need::Program("runc"),
    ];
    lab::main([
        Case::new("cnitool", cnitool).needs([Need::HeddleCni, Need::Program("cnitool")]),
        Case::new("containerd", containerd)
            .needs(containers)
            .needs([Need::Program("containerd"), Need::Program("ctr")]),
        Case::new("podman", podman)
            .needs(containers)
            .needs([Need::Program("podman")]),
    ])
}

/// A node with our plugins and the conflist that we ship.
fn node(name: &str) -> Result<Node> {
    let node = Node::new(name)?;
    Plugins::heddle(&node)?;
    let conf = std::fs::read(find::workspace().join("conf").join(CONF))?;
    node.run(|| std::fs::write(format!("/etc/cni/net.d/{CONF}"), conf))?;
    Ok(node)
}

/// The one address of a result in the runtime's cache whose name contains `part`.
fn address(node: &Node, part: &str) -> Result<std::net::IpAddr> {
    let cached = node.run(|| -> Result<Value> {
        let files = std::fs::read_dir("/var/lib/cni/results")?;
        let files = files
            .map(|file| Ok(file?.path()))
            .collect::<Result<Vec<PathBuf>>>()?;
        let file = files
            .iter()
            .find(|file| file.to_string_lossy().contains(part));
        let file = file.with_context(|| format!("no cached result of {part} in {files:?}"))?;
        Ok(serde_json::from_slice(&std::fs::read(file)?)?)
    })?;
    let address = cached["result"]["ips"][0]["address"].as_str();
    let address = address.with_context(|| format!("no address in {cached}"))?;
    Ok(address.split('/').next().unwrap_or_default().parse()?)
}

/// What is left of attachments on the node: host ends of veth pairs, and leases.
fn left(node: &Node) -> Result<Vec<String>> {
    let snapshot = Snapshot::of(node.space())?;
    let is_left = |line: &&str| {
        line.contains("veth")
            || (line.contains("networks/heddle/10.") || line.contains("results/heddle-"))
    };
    Ok(snapshot
        .lines()
        .filter(is_left)
        .map(str::to_owned)
        .collect())
}

/// `cnitool` 1.3.0 with every verb it has.
fn cnitool() -> Result {
    let node = node("cnitool")?;
    let pods = [node.pod("a")?, node.pod("b")?];
    let cnitool = |verb: &str, pod: usize| -> Result<String> {
        let netns = pods[pod].netns().to_string_lossy().into_owned();
        let mut command = node.command("cnitool");
        command
            .env("CNI_PATH", "/opt/cni/bin")
            .env("NETCONFPATH", "/etc/cni/net.d");
        command.args([verb, "heddle", &netns]).ok()
    };
    // The first attachment leaves the bridge and its gateway to those after it, and last_reserved_ip moves on.
    cnitool("add", 0)?;
    cnitool("del", 0)?;
    let snapshot =
        || Ok::<_, anyhow::Error>(Snapshot::of(node.space())?.without(&["last_reserved_ip"]));
    let before = snapshot()?;
    cnitool("status", 0)?;
    let results: Vec<Value> = [0, 1]
        .into_iter()
        .map(|pod| Ok(serde_json::from_str(&cnitool("add", pod)?)?))
        .collect::<Result<_>>()?;
    let address = results[1]["ips"][0]["address"]
        .as_str()
        .context("an address")?;
    ping(
        pods[0].space(),
        address.split('/').next().unwrap_or_default().parse()?,
    )?;
    for pod in [0, 1] {
        cnitool("check", pod)?;
    }
    // No attachment is valid for it: both pods are collected, and their DEL still succeeds.
    cnitool("gc", 0)?;
    ensure!(
        !left(&node)?.iter().any(|line| line.contains("veth")),
        "gc left {:?}",
        left(&node)?
    );
    for pod in [0, 1, 0] {
        cnitool("del", pod)?;
    }
    snapshot()?.same_as(&before)
}

/// `ctr run --cni`: a container that stays, one that comes, pings it and goes.
fn containerd() -> Result {
    let node = node("containerd")?;
    let image = busybox(&node)?;
    let config = r#"
        version = 2
        root = "/run/containerd/root"
        state = "/run/containerd/state"
        disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.btrfs",
            "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
        [grpc]
          address = "/run/containerd.sock"
    "#;
    node.run(|| std::fs::write("/run/containerd.toml", config))?;
    let processes = Processes::new(&node)?;
    let daemon = processes.daemon(&["containerd", "--config", "/run/containerd.toml"])?;
    let ctr = |words: &[&str]| -> Result<String> {
        let mut command = processes.command("ctr");
        command.args(["--address", "/run/containerd.sock", "--namespace", "lab"]);
        let said = command.args(words).ok();
        said.with_context(|| format!("containerd said: {}", tail(&daemon)))
    };
    wait::until(Duration::from_secs(20), "containerd", || ctr(&["version"]))?;
    ctr(&["image", "import", "--snapshotter", "native", image])?;
    let run = |words: &[&str]| {
        let common = ["run", "--snapshotter", "native", "--cni"];
        ctr(&[&common, words].concat())
    };

    run(&["--detach", IMAGE, "stays"])?;
    let there = address(&node, "lab-stays")?.to_string();
    let seen = run(&["--rm", IMAGE, "comes", "/bin/ip", "address"])?;
    ensure!(seen.contains("eth0"), "no eth0 in the container: {seen}");
    let ping = ["/bin/ping", "-c", "1", "-W", "2", &there];
    let echo = run(&[&["--rm", IMAGE, "pings"], &ping[..]].concat())?;
    ensure!(echo.contains("1 packets received"), "{echo}");

    // ctr deletes the attachment of a foreground container with --rm only: that of `stays` is what must be left.
    let left = left(&node)?;
    let links = left.iter().filter(|line| line.contains("alias")).count();
    let leases: Vec<_> = left
        .iter()
        .filter(|line| line.contains("networks/"))
        .collect();
    ensure!(
        leases.len() == 1 && leases[0].contains(&there),
        "leases: {leases:?}"
    );
    ensure!(links <= 1, "links: {left:?}");
    ctr(&["task", "kill", "--signal", "KILL", "stays"])?;
    Ok(())
}

/// podman's CNI backend with the conflist that we ship: two containers that reach each other, then none.
fn podman() -> Result {
    let node = node("podman")?;
    let podman = Podman::new(&node)?;
    let run = |name| {
        let words = ["run", "--detach", "--name", name, "--network", "heddle"];
        podman.run(&[&words[..], &[IMAGE]].concat())
    };
    run("a")?;
    let there = address(&node, &run("b")?)?.to_string();
    let ping = ["exec", "a", "ping", "-c", "1", "-W", "2", &there];
    for _ in 0..2 {
        let echo = podman.run(&ping)?;
        ensure!(echo.contains("1 packets received"), "{echo}");
        // DEL and ADD again, for the container that goes on.
        podman.run(&["network", "reload", "a"])?;
    }
    podman.run(&["rm", "--force", "--time", "0", "a", "b"])?;
    ensure!(left(&node)?.is_empty(), "left behind: {:?}", left(&node)?);
    Ok(())
}

/// The end of a daemon's log, for a message.
fn tail(daemon: &Daemon) -> String {
    let log = daemon.log().unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}
