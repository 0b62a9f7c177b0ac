//! podman on a node, with its CNI backend and the plugins in `/opt/cni/bin`: containers that are real ones.
use std::fs::File;

use anyhow::{Context, ensure};

use crate::{Node, Processes, Result, Space, find, oci};

/// The image that containers are made of: busybox, which sleeps unless told otherwise.
pub const IMAGE: &str = "localhost/busybox:lab";

const CONFIG: &str = r#"
    [network]
    network_backend = "cni"
    cni_plugin_dirs = ["/opt/cni/bin"]
    network_config_dir = "/etc/cni/net.d"
    [engine]
    cgroup_manager = "cgroupfs"
    events_logger = "file"
    runtime = "runc"
    [containers]
    default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
    log_driver = "k8s-file"
"#;

/// podman with a store of its own; its containers end with it.
#[derive(Debug)]
pub struct Podman {
    processes: Processes,
    node: Node,
}

impl Podman {
    /// Sets it up, with [`IMAGE`] loaded. Needs `podman`, `runc` and `busybox`.
    pub fn new(node: &Node) -> Result<Podman> {
        let archive = busybox(node)?;
        node.run(|| std::fs::write("/run/containers.conf", CONFIG))?;
        let podman = Podman {
            processes: Processes::new(node)?,
            node: node.clone(),
        };
        podman.run(&["load", "--input", archive])?;
        Ok(podman)
    }

    /// Runs `podman` with these words and returns what it printed.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        let mut command = self.processes.command("podman");
        command.env("CONTAINERS_CONF", "/run/containers.conf");
        command.args(["--root", "/run/podman/root", "--runroot", "/run/containers"]);
        command.args(["--tmpdir", "/run/libpod", "--storage-driver", "vfs"]);
        Ok(command.args(words).ok()?.trim().to_owned())
    }

    /// A container's network, to serve in and to call from, with the node's files.
    pub fn network_of(&self, container: &str) -> Result<Space> {
        let key = "{{.NetworkSettings.SandboxKey}}";
        let path = self.run(&["inspect", "--format", key, container])?;
        ensure!(
            path.starts_with('/'),
            "{container} has no network: {path:?}"
        );
        let file = self.processes.path(&path);
        let net = File::open(&file).with_context(|| file.clone())?;
        Ok(self.node.space().with_net(container, net))
    }
}

/// An image of busybox in the node's `/run`, for a runtime to load as [`IMAGE`].
pub fn busybox(node: &Node) -> Result<&'static str> {
    const FILE: &str = "/run/image.tar";
    let busybox = find::program("busybox").context("busybox")?;
    let links = ["sh", "sleep", "ip", "ping", "cat"];
    node.run(|| oci::archive(FILE.as_ref(), IMAGE, &busybox, &links))?;
    Ok(FILE)
}
