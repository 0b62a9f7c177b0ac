//! The cluster that most cases share: three nodes, the third behind the router, with Heddle applied to them once.
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use lab::kubernetes::{BUSYBOX, Cluster, Kubectl};
use lab::probe::ping;
use lab::{Result, Snapshot, Space, find, inspect, oci, wait};
use serde_json::{Value, json};

/// The nodes with their switch and host on it.
pub const NODES: [(&str, u8, u8); 3] = [("n1", 1, 11), ("n2", 1, 12), ("n3", 2, 13)];
/// Another version of the image, which differs in a label only.
pub const NEXT: &str = "localhost/heddle:next";
/// Long enough for what Kubernetes takes its time for on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// The cluster and how it came up.
#[derive(Debug)]
pub struct Lab {
    /// The cluster.
    pub cluster: Cluster,
    /// Each node before anything of Heddle's was there.
    pub before: Vec<Snapshot>,
    /// From `kubectl apply` to all nodes Ready.
    pub ready: Duration,
    /// From `kubectl apply` to the first packet from pod to pod across nodes.
    pub first_packet: Duration,
}

/// A pod as the API server and its node have it.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// The node it is on.
    pub node: String,
    /// Its address.
    pub ip: std::net::IpAddr,
    /// Its network.
    pub space: Space,
}

static LAB: Mutex<Option<std::result::Result<Lab, String>>> = Mutex::new(None);

/// Does something with the cluster, which comes up for the first case that wants it.
pub fn with(body: impl FnOnce(&mut Lab) -> Result) -> Result {
    let mut lab = LAB.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    match lab.get_or_insert_with(|| Lab::start().map_err(|error| format!("{error:#}"))) {
        Ok(lab) => {
            let done = body(lab);
            done.with_context(|| lab.said())
        }
        Err(why) => anyhow::bail!("the cluster did not come up: {why}"),
    }
}

/// Ends the cluster, if there is one.
pub fn end() {
    let mut lab = LAB.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    *lab = None;
}

/// A directory or file of `conf/kubernetes`.
pub fn conf(name: &str) -> PathBuf {
    let conf = find::workspace().join("conf/kubernetes").join(name);
    conf.canonicalize().unwrap_or(conf)
}

impl Lab {
    fn start() -> Result<Lab> {
        let cluster = Cluster::start(&NODES)?;
        let images = tempfile::tempdir()?;
        for (file, name) in [("now.tar", oci::HEDDLE), ("next.tar", NEXT)] {
            let file = images.path().join(file);
            let mut image = oci::heddle()?;
            image
                .labels
                .push(("org.opencontainers.image.ref.name", name.to_owned()));
            image.write(&file, name)?;
            cluster
                .workers
                .iter()
                .try_for_each(|worker| worker.import(&file))?;
        }
        // kube-proxy changes the node too: first let it.
        for worker in &cluster.workers {
            wait::until(PATIENCE, "rules of kube-proxy", || {
                let rules = inspect::ruleset(worker.node().space())?;
                ensure!(rules.contains("KUBE-SEP"), "not yet on {}", worker.name());
                Ok(())
            })?;
        }
        let before = cluster
            .workers
            .iter()
            .map(snapshot)
            .collect::<Result<_>>()?;
        let mut lab = Lab {
            cluster,
            before,
            ready: Duration::ZERO,
            first_packet: Duration::ZERO,
        };
        lab.kubectl()
            .apply(daemon_set("web", json!({})).to_string())?;
        lab.apply().with_context(|| lab.said())?;
        Ok(lab)
    }

    /// Applies what we ship, and waits until every node is Ready and pods talk across nodes.
    pub fn apply(&mut self) -> Result {
        let kubectl = self.kubectl();
        kubectl.apply(daemon_set("web", json!({})).to_string())?;
        let start = Instant::now();
        let base = conf("base");
        kubectl.run(&format!("apply -k {}", base.display()))?;
        self.wait_ready()?;
        self.ready = start.elapsed();
        let pods = self.pods("app=web", NODES.len())?;
        wait::until(PATIENCE, "packet across nodes", || {
            ping(&pods[0].space, pods[2].ip)
        })?;
        self.first_packet = start.elapsed();
        kubectl
            .run("-n heddle rollout status daemonset heddle --timeout=90s")
            .map(drop)
    }

    /// kubectl for the administrator.
    pub fn kubectl(&self) -> Kubectl {
        self.cluster.kubectl()
    }

    /// Waits until every Node is Ready and its network available.
    pub fn wait_ready(&self) -> Result {
        let all_ready = |nodes: &Value| {
            let nodes = nodes["items"].as_array().map_or(&[][..], Vec::as_slice);
            nodes.len() == NODES.len()
                && nodes.iter().all(|node| {
                    condition(node, "Ready") == "True"
                        && condition(node, "NetworkUnavailable") == "False"
                })
        };
        self.kubectl().wait(PATIENCE, "nodes", all_ready).map(drop)
    }

    /// The running pods with a label, as many as there must be, in the order of their nodes.
    pub fn pods(&self, label: &str, count: usize) -> Result<Vec<Pod>> {
        let kubectl = self.kubectl();
        // The API server may know a container that its node has lost, and not yet the one in its place.
        Kubectl::until(PATIENCE, &format!("{count} pods with {label}"), || {
            let items = kubectl.list(&format!("pods -l {label}"))?;
            let is_running = |pod: &&Value| {
                pod["status"]["containerStatuses"][0]["ready"] == true
                    && pod["metadata"]["deletionTimestamp"].is_null()
            };
            let running = items.iter().filter(is_running).count();
            ensure!(
                running == count && items.len() == count,
                "{running} of {} run",
                items.len()
            );
            let pods = items.iter().map(|item| self.pod(item));
            let mut pods = pods.collect::<Result<Vec<Pod>>>()?;
            pods.sort_by(|a, b| (&a.node, &a.name).cmp(&(&b.node, &b.name)));
            Ok(pods)
        })
    }

    fn pod(&self, item: &Value) -> Result<Pod> {
        let text = |pointer: &str| {
            item.pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let node = text("/spec/nodeName").to_owned();
        let container =
            text("/status/containerStatuses/0/containerID").trim_start_matches("containerd://");
        Ok(Pod {
            name: text("/metadata/name").to_owned(),
            ip: text("/status/podIP").parse().context("the pod's address")?,
            space: self.cluster.worker(&node).container(container)?,
            node,
        })
    }

    /// Makes objects for the time of a case: they are deleted when `body` has ended.
    pub fn with_objects(&self, objects: &[Value], body: impl FnOnce() -> Result) -> Result {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
        self.kubectl().apply(list.clone())?;
        let done = body();
        let mut delete = self
            .kubectl()
            .command("delete --wait=true --ignore-not-found -f -");
        delete.deadline(PATIENCE * 2).stdin(list);
        done.and(delete.ok().map(drop))
    }

    /// What everyone has said last, for a message.
    fn said(&self) -> String {
        let kubectl = self.kubectl();
        let ask = |words: &str| match kubectl.attempt(words) {
            Ok(output) => format!("\n--- kubectl {words}\n{}{}", output.stdout, output.stderr),
            Err(error) => format!("\n--- kubectl {words}\n{error:#}"),
        };
        [
            self.cluster.log(),
            ask("get nodes,pods -A -o wide"),
            ask("-n heddle logs -l app.kubernetes.io/name=heddle --all-containers --prefix --tail=10"),
            ask("get events -A --field-selector type=Warning,reason!=InvalidDiskCapacity"),
        ]
        .concat()
    }
}

/// Status of a Node's condition.
pub fn condition<'a>(node: &'a Value, kind: &str) -> &'a str {
    let conditions = node["status"]["conditions"].as_array();
    let found = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == kind);
    found
        .and_then(|condition| condition["status"].as_str())
        .unwrap_or("absent")
}

/// A DaemonSet of pods that serve their name on port 80.
pub fn daemon_set(name: &str, changes: Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": pod_spec(changes)},
        },
    })
}

/// A pod of nobody's on a node, with its name as its label `app`.
pub fn lone_pod(name: &str, node: &str, container: Value) -> Value {
    let mut spec = pod_spec(container);
    spec["nodeName"] = node.into();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": name}},
        "spec": spec,
    })
}

/// A pod's specification: a web server that says its name, with these keys of its container.
pub fn pod_spec(container: Value) -> Value {
    let mut plain = json!({
        "name": "web", "image": BUSYBOX, "imagePullPolicy": "Never",
        "command": ["sh", "-c", "mkdir /www; hostname >/www/index.html; echo serving; exec httpd -f -p 80 -h /www"],
    });
    for (key, value) in container.as_object().into_iter().flatten() {
        plain[key] = value.clone();
    }
    json!({"terminationGracePeriodSeconds": 0, "containers": [plain]})
}

/// What Heddle might leave on a node: not what kubelet, containerd and kube-proxy do at the same time.
pub fn snapshot(worker: &lab::kubernetes::Worker) -> Result<Snapshot> {
    let roots = ["/etc/cni", "/opt/cni", "/var/lib/cni"];
    let snapshot = Snapshot::with_files(worker.node().space(), &roots)?;
    Ok(snapshot.without(&["KUBE-", "kube-proxy", "kubernetes"]))
}
