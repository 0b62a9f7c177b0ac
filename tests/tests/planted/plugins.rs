//! What the plugins, and the runtime that is built into them, write.
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure};
use lab::chain::Chain;
use lab::{Node, Plugins, Reply, Result, conf, with_prev};
use serde_json::{Value, json};

use crate::{DIRECTORY, FILE, SHARED, plant, scene, untouched};

/// A call ends by a result or by a sentence.
fn answered(reply: &Reply, what: &str) -> Result {
    if !reply.is_success() {
        let (code, message) = reply.failure()?;
        ensure!(!message.contains("panick"), "{what}: {code} {message}");
    }
    Ok(())
}

/// ADD, GC and DEL of host-local, with each of its names taken in its turn.
pub fn leases() -> Result {
    let conf = json!({
        "cniVersion": "1.1.0", "name": "lab", "type": "host-local",
        "ipam": {"type": "host-local", "dataDir": format!("{SHARED}/leases"), "ranges": [[{"subnet": "10.88.0.0/24"}]]},
    });
    for (planted, target) in [
        ("leases/lab/lock", FILE),
        ("leases/lab/last_reserved_ip.0", FILE),
        ("leases/lab/10.88.0.2", FILE),
        // The kernel makes what a link points to that is not there yet.
        ("leases/lab/lock", "/run/victims/lock"),
        ("leases/lab/last_reserved_ip.0", "/run/victims/last"),
        ("leases", DIRECTORY),
        ("leases/lab", DIRECTORY),
        ("leases/.heddle", DIRECTORY),
        ("leases/.heddle/lab", DIRECTORY),
    ] {
        let node = Node::new("node")?;
        let plugins = Plugins::heddle(&node)?;
        node.run(|| -> Result {
            scene()?;
            plant(&Path::new(SHARED).join(planted), target)
        })?;
        let pod = node.pod("x")?;
        let what = format!("{planted} -> {target}");
        answered(&plugins.add(&conf, &pod)?, &what)?;
        untouched(&node, &format!("ADD, {what}"))?;
        answered(&plugins.gc(&conf, &[])?, &what)?;
        answered(&plugins.del(&conf, &pod)?, &what)?;
        untouched(&node, &format!("GC and DEL, {what}"))?;
    }
    Ok(())
}

/// ADD and DEL of tuning; and a backup that somebody has made up sets nothing of the host's.
pub fn backups() -> Result {
    let conf = json!({
        "cniVersion": "1.1.0", "name": "lab", "type": "tuning", "dataDir": format!("{SHARED}/tuning"),
        "sysctl": {"net.core.somaxconn": "500"},
    });
    for (planted, target) in [
        ("tuning/x_eth0.new", FILE),
        ("tuning/x_eth0.json", FILE),
        ("tuning/x_eth0.new", "/run/victims/new"),
        ("tuning/x_eth0.json", "/run/victims/json"),
        ("tuning", DIRECTORY),
    ] {
        let chain = Chain::new()?;
        let pod = chain.attach("x")?;
        chain.node.run(|| -> Result {
            scene()?;
            plant(&Path::new(SHARED).join(planted), target)
        })?;
        let what = format!("{planted} -> {target}");
        let add = with_prev(&conf, &pod.result);
        answered(&chain.plugins.add(&add, &pod.pod)?, &what)?;
        untouched(&chain.node, &format!("ADD, {what}"))?;
        answered(&chain.plugins.del(&conf, &pod.pod)?, &what)?;
        untouched(&chain.node, &format!("DEL, {what}"))?;
    }
    let chain = Chain::new()?;
    let pod = chain.attach("x")?;
    let made_up: Value = json!({"sysctl": {FILE: "ours", "net/../../../run/victim": "ours"}});
    chain.node.run(|| -> Result {
        scene()?;
        std::fs::create_dir_all(format!("{SHARED}/tuning"))?;
        Ok(std::fs::write(
            format!("{SHARED}/tuning/x_eth0.json"),
            made_up.to_string(),
        )?)
    })?;
    answered(&chain.plugins.del(&conf, &pod.pod)?, "a backup")?;
    untouched(&chain.node, "a backup that was made up")
}

/// The runtime's cache: its temporary name has the process id, which can be guessed.
pub fn results() -> Result {
    let node = Node::new("node")?;
    Plugins::heddle(&node)?;
    let list = json!({"cniVersion": "1.1.0", "name": "lab", "plugins": [conf::bridge(json!({}))]});
    node.run(|| -> Result {
        scene()?;
        std::fs::create_dir_all("/etc/cni/net.d")?;
        std::fs::write("/etc/cni/net.d/lab.conflist", list.to_string())?;
        std::fs::create_dir_all("/var/lib/cni/results")?;
        Ok(())
    })?;
    let pod = node.pod("x")?;
    let netns = pod.netns().to_string_lossy().into_owned();
    let cnitool = |verb: &str| {
        let mut command = node.command("/opt/cni/bin/heddle-cni");
        command
            .env("CNI_PATH", "/opt/cni/bin")
            .args(["cnitool", verb, "lab", &netns])
            .ok()
    };
    cnitool("add")?;
    let name = node.run(|| -> Result<String> {
        let files = std::fs::read_dir("/var/lib/cni/results")?.flatten();
        let file = files.map(|file| file.file_name()).next();
        Ok(file.unwrap_or_default().to_string_lossy().into_owned())
    })?;
    ensure!(name.starts_with("lab-"), "{name}");
    cnitool("del")?;
    for _ in 0..5 {
        let planted = node.run(|| guesses(&name))?;
        cnitool("add")?;
        untouched(&node, "the cache's temporary name")?;
        cnitool("del")?;
        // The one that was in the way is gone; on a busy machine the process id may be none of them.
        let met = node.run(|| {
            let (left, gone): (Vec<_>, Vec<_>) = planted
                .iter()
                .partition(|link| link.symlink_metadata().is_ok());
            left.iter().try_for_each(std::fs::remove_file)?;
            Ok::<_, anyhow::Error>(gone.len())
        })?;
        if met > 0 {
            return Ok(());
        }
    }
    bail!("no process id was guessed")
}

/// A link in place of each temporary name that the next processes may use.
fn guesses(name: &str) -> Result<Vec<PathBuf>> {
    // Its last word is the last process id that was given.
    let load = std::fs::read_to_string("/proc/loadavg")?;
    let now: u32 = load.split_whitespace().last().unwrap_or_default().parse()?;
    let paths = (now..now + 1000)
        .map(|pid| PathBuf::from(format!("/var/lib/cni/results/{name}.{pid}.tmp")));
    let paths: Vec<PathBuf> = paths.collect();
    for path in &paths {
        std::os::unix::fs::symlink(FILE, path)?;
    }
    Ok(paths)
}
