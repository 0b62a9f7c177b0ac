//! A node of the cluster: kubelet, containerd and kube-proxy in namespaces of their own, on a disk that outlives them.
use std::fs;
use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::Signal;

use super::certificates::kubeconfig;
use super::cgroups::Cgroups;
use super::image::{self, BUSYBOX};
use super::{DIR, Programs};
use crate::{Daemon, Disk, Fabric, Node, Processes, Result, Space, wait};

const CONTAINERD: &str = r#"
version = 2
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs"]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/busybox:lab"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
"#;

const KUBELET: &str = r#"
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
readOnlyPort: 0
healthzPort: 0
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
cgroupsPerQOS: false
enforceNodeAllocatable: []
failSwapOn: false
evictionHard: {memory.available: "1Mi", nodefs.available: "1%", imagefs.available: "1%"}
nodeStatusUpdateFrequency: 2s
clusterDNS: ["10.96.0.10"]
staticPodPath: /etc/kubernetes/manifests
maxPods: 110
"#;

const PROXY: &str = r#"
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
clusterCIDR: 10.244.0.0/16
clientConnection: {kubeconfig: /etc/kubernetes/proxy.kubeconfig}
conntrack: {maxPerCore: 0, min: 0}
"#;

/// What kubelet wants of the machine: it would write these for all if it did not find them so.
const TUNABLES: [&str; 4] = [
    "vm/overcommit_memory=1",
    "vm/panic_on_oom=0",
    "kernel/panic=10",
    "kernel/panic_on_oops=1",
];

const SOCKET: &str = "/run/containerd/containerd.sock";

/// A node. It is gone, with all that it started, when this is dropped.
#[derive(Debug)]
pub struct Worker {
    name: String,
    /// Its switch and host there.
    place: (u8, u8),
    fabric: Fabric,
    programs: Programs,
    disk: Disk,
    running: Option<Running>,
}

/// What a node has while it is on, in the order in which it ends.
#[derive(Debug)]
struct Running {
    proxy: Daemon,
    kubelet: Daemon,
    containerd: Daemon,
    processes: Processes,
    node: Node,
    _cgroups: Cgroups,
}

impl Worker {
    /// A node that is switched off; its disk holds what kubelet needs to join.
    pub(super) fn new(
        fabric: &Fabric,
        programs: &Programs,
        name: &str,
        place: (u8, u8),
        authority: &str,
    ) -> Result<Worker> {
        let disk = Disk::new()?;
        Node::on_disk(name, &disk)?.run(|| -> Result {
            fs::create_dir_all(format!("{DIR}/manifests"))?;
            let client = kubeconfig(&format!("system:node:{name}"));
            let by_hand = kubeconfig("system:serviceaccount:heddle:heddle");
            for (file, text) in [
                ("ca.crt", authority),
                ("kubelet.kubeconfig", &client),
                ("proxy.kubeconfig", &kubeconfig("system:kube-proxy")),
                ("heddle.kubeconfig", &by_hand),
                ("containerd.toml", CONTAINERD),
                ("kubelet.yaml", KUBELET),
                ("proxy.yaml", PROXY),
            ] {
                fs::write(format!("{DIR}/{file}"), text)?;
            }
            image::busybox(format!("{DIR}/busybox.tar").as_ref())
        })?;
        Ok(Worker {
            name: name.to_owned(),
            place,
            fabric: fabric.clone(),
            programs: programs.clone(),
            disk,
            running: None,
        })
    }

    /// Switches it on: a network namespace with a cable, then containerd, kubelet and kube-proxy.
    pub fn boot(&mut self) -> Result {
        let node = Node::on_disk(&self.name, &self.disk)?;
        let (switch, host) = self.place;
        // The kernel takes a namespace apart in its own time: the old cable may still hang out of the switch.
        wait::until(Duration::from_secs(20), "end of the old cable", || {
            self.fabric.join(&node, switch, host)
        })?;
        let processes = Processes::new(&node)?;
        let cgroups = Cgroups::new(&processes, &self.name)?;
        processes.sh("mount --make-rshared /\nmkdir /run/tunables")?;
        for tunable in TUNABLES {
            let (name, value) = tunable.split_once('=').unwrap_or_default();
            let file = format!("/run/tunables/{}", name.replace('/', "."));
            processes.sh(&format!(
                "printf {value} >{file}\nmount --bind {file} /proc/sys/{name}"
            ))?;
        }
        let containerd = containerd(&processes)?;
        let kubelet = self.kubelet(&processes)?;
        let flags = [
            "--config=/etc/kubernetes/proxy.yaml",
            &format!("--hostname-override={}", self.name),
        ];
        let proxy = start(&processes, &self.programs.words("kube-proxy", flags))?;
        self.running = Some(Running {
            proxy,
            kubelet,
            containerd,
            processes,
            node,
            _cgroups: cgroups,
        });
        Ok(())
    }

    /// Pulls its plug: every process and namespace is gone, the disk stays.
    pub fn power_off(&mut self) {
        self.running = None;
    }

    /// Where it is plugged in when it boots next.
    pub fn move_to(&mut self, switch: u8, host: u8) {
        self.place = (switch, host);
    }

    /// Its address.
    pub fn address(&self) -> String {
        format!("192.0.{}.{}", self.place.0, self.place.1)
    }

    /// The name it is registered by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The namespaces. Panics while it is off.
    pub fn node(&self) -> &Node {
        &self.on().node
    }

    /// What runs on it. Panics while it is off.
    pub fn processes(&self) -> &Processes {
        &self.on().processes
    }

    /// Kills containerd and starts it again; the containers go on.
    pub fn restart_containerd(&mut self) -> Result {
        let running = self.running.as_mut().context("the node is off")?;
        end(&mut running.containerd)?;
        running.containerd = containerd(&running.processes)?;
        Ok(())
    }

    /// Kills kubelet; the containers go on.
    pub fn stop_kubelet(&mut self) -> Result {
        let running = self.running.as_mut().context("the node is off")?;
        end(&mut running.kubelet)
    }

    /// Starts kubelet again.
    pub fn start_kubelet(&mut self) -> Result {
        let kubelet = self.kubelet(self.processes())?;
        let running = self.running.as_mut().context("the node is off")?;
        running.kubelet = kubelet;
        Ok(())
    }

    /// containerd's own client.
    pub fn ctr(&self, words: &str) -> Result<String> {
        ctr(self.processes(), words)
    }

    /// The network of a running container's pod.
    pub fn container(&self, id: &str) -> Result<Space> {
        let tasks = self.ctr("task list")?;
        let mut rows = tasks.lines().map(|row| row.split_whitespace());
        let pid = rows.find_map(|mut row| (row.next() == Some(id)).then(|| row.next())?);
        let pid = pid.with_context(|| format!("{id} does not run on {}:\n{tasks}", self.name))?;
        let file = self.processes().path(&format!("/proc/{pid}/ns/net"));
        let net = fs::File::open(&file).context(file)?;
        Ok(self
            .node()
            .space()
            .with_net(id.get(..12).unwrap_or(id), net))
    }

    /// The same of the first running container with that name in its pod's specification, for when no API server knows
    /// its identifier.
    pub fn container_named(&self, name: &str) -> Result<Space> {
        let filter = format!("labels.\"io.kubernetes.container.name\"=={name}");
        let ids = self.ctr(&format!("containers list --quiet {filter}"))?;
        let mut found = ids.lines().filter_map(|id| self.container(id).ok());
        found
            .next()
            .with_context(|| format!("no {name} runs on {}: {ids}", self.name))
    }

    /// Gives containerd an image from an archive on the machine.
    pub fn import(&self, archive: &std::path::Path) -> Result {
        let bytes = fs::read(archive).with_context(|| format!("{}", archive.display()))?;
        self.node().run(|| fs::write("/run/image.tar", bytes))?;
        self.ctr("image import /run/image.tar")?;
        Ok(self.node().run(|| fs::remove_file("/run/image.tar"))?)
    }

    /// The end of its programs' logs.
    pub fn log(&self) -> String {
        let Some(running) = &self.running else {
            return format!("\n{} is off", self.name);
        };
        let all = [&running.containerd, &running.kubelet, &running.proxy];
        all.map(|daemon| super::tail(daemon, 3)).concat()
    }

    fn on(&self) -> &Running {
        let running = self.running.as_ref();
        running.unwrap_or_else(|| panic!("{} is off", self.name))
    }

    fn kubelet(&self, processes: &Processes) -> Result<Daemon> {
        let flags = [
            "--config=/etc/kubernetes/kubelet.yaml",
            "--kubeconfig=/etc/kubernetes/kubelet.kubeconfig",
            "--container-runtime=remote",
            &format!("--container-runtime-endpoint=unix://{SOCKET}"),
            &format!("--hostname-override={}", self.name),
            &format!("--node-ip={}", self.address()),
            "--runtime-cgroups=/",
            "--kubelet-cgroups=/",
        ];
        start(processes, &self.programs.words("kubelet", flags))
    }
}

fn start(processes: &Processes, words: &[String]) -> Result<Daemon> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    processes.daemon(&words)
}

/// Kills a program that was started in the node's process namespace, and waits for its end.
fn end(daemon: &mut Daemon) -> Result {
    Processes::signal(daemon, Signal::SIGKILL)?;
    daemon.wait();
    Ok(())
}

/// Starts containerd, with the image of sandboxes.
fn containerd(processes: &Processes) -> Result<Daemon> {
    let daemon =
        processes.daemon(&["containerd", "--config", "/etc/kubernetes/containerd.toml"])?;
    let answers = wait::until(Duration::from_secs(30), "containerd", || {
        ctr(processes, "version")
    });
    answers.with_context(|| super::tail(&daemon, 10))?;
    if !ctr(processes, "image list --quiet")?.contains(BUSYBOX) {
        ctr(processes, "image import /etc/kubernetes/busybox.tar")?;
    }
    Ok(daemon)
}

fn ctr(processes: &Processes, words: &str) -> Result<String> {
    let mut command = processes.command("ctr");
    command.args(["--address", SOCKET, "--namespace", "k8s.io"]);
    command.args(words.split_whitespace()).ok()
}
