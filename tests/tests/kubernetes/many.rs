//! Many pods at once, and pods that go while what should take them down does not run: no address twice, nothing left.
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::ensure;
use lab::kubernetes::Kubectl;
use lab::{Result, Snapshot};
use serde_json::{Value, json};

use crate::shared::{self, Lab, NODES, PATIENCE, Pod, pod_spec, snapshot};

/// How many come at once.
const MANY: usize = 100;

/// Pods that only sleep, on all nodes or on one.
fn sleepers(name: &str, count: usize, node: Option<&str>) -> Value {
    let mut spec = pod_spec(json!({"command": ["sleep", "86400"]}));
    if let Some(node) = node {
        spec["nodeName"] = node.into();
    }
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": count,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": spec},
        },
    })
}

/// What is on the nodes, but for the place at which the allocator goes on.
fn all(lab: &Lab) -> Result<Vec<Snapshot>> {
    let nodes = lab.cluster.workers.iter();
    nodes
        .map(|worker| Ok(snapshot(worker)?.without(&["last_reserved_ip"])))
        .collect()
}

/// Waits until the nodes are as they were.
fn wait_same(lab: &Lab, before: &[Snapshot]) -> Result {
    Kubectl::until(PATIENCE, "nodes as they were", || {
        let pairs = all(lab)?;
        let mut pairs = pairs.iter().zip(before);
        pairs.try_for_each(|(now, before)| now.same_as(before))
    })
}

fn addresses(pods: &[Pod]) -> BTreeSet<std::net::IpAddr> {
    pods.iter().map(|pod| pod.ip).collect()
}

/// A hundred pods at once: every one runs, each with an address of its own; deleted, nothing of them is left.
pub fn hundred() -> Result {
    shared::with(|lab| {
        lab.pods("app=web", NODES.len())?;
        let before = all(lab)?;
        let mut start = Instant::now();
        lab.with_objects(&[sleepers("many", MANY, None)], || {
            let mut pods = Kubectl::until(PATIENCE * 3, "pods", || lab.pods("app=many", MANY))?;
            println!(
                "{MANY} pods created and running after {:.1} s",
                start.elapsed().as_secs_f64()
            );
            pods.extend(lab.pods("app=web", NODES.len())?);
            ensure!(
                addresses(&pods).len() == pods.len(),
                "an address twice: {pods:?}"
            );
            start = Instant::now();
            Ok(())
        })?;
        wait_same(lab, &before)?;
        println!(
            "{MANY} pods deleted and nothing left after {:.1} s",
            start.elapsed().as_secs_f64()
        );
        Ok(())
    })
}

/// Pods deleted while their kubelet is down, and while their containerd is killed.
pub fn deleted_meanwhile() -> Result {
    shared::with(|lab| {
        lab.pods("app=web", NODES.len())?;
        let before = all(lab)?;
        for kubelet in [true, false] {
            let kubectl = lab.kubectl();
            kubectl.apply(sleepers("going", 5, Some("n2")).to_string())?;
            lab.pods("app=going", 5)?;
            let delete = || {
                kubectl
                    .run("delete deployment going --wait=false")
                    .map(drop)
            };
            let n2 = lab.cluster.worker_mut("n2");
            match kubelet {
                true => {
                    n2.stop_kubelet()?;
                    delete()?;
                    std::thread::sleep(Duration::from_secs(3));
                    n2.start_kubelet()?;
                }
                false => {
                    delete()?;
                    n2.restart_containerd()?;
                }
            }
            wait_same(lab, &before)?;
        }
        lab.wait_ready()
    })
}
