//! Nodes that leave and come back as others: what the remaining ones have in the kernel is exact.
use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context, ensure};
use lab::kubernetes::Kubectl;
use lab::probe::ping;
use lab::{Result, inspect, wait};
use serde_json::{Value, json};

use crate::shared::{self, Lab, NODES, PATIENCE, lone_pod, snapshot};

/// The protocol number of the daemon's routes.
const PROTOCOL: &str = "176";

/// What a node's kernel says of its peers: the CIDRs routed, and the addresses in the FDB.
fn peers(lab: &Lab, node: &str) -> Result<(BTreeSet<String>, BTreeSet<String>)> {
    let space = lab.cluster.worker(node).node().space();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let routes = inspect::ip(space, &format!("route show proto {PROTOCOL}"))?;
    let fdb = space
        .command("bridge")
        .args(["-j", "fdb", "show", "dev", "vxlan.heddle"])
        .ok()?;
    let fdb: Vec<Value> = serde_json::from_str(&fdb).context("bridge -j fdb")?;
    Ok((
        routes.iter().map(|route| text(&route["dst"])).collect(),
        fdb.iter()
            .map(|row| text(&row["dst"]))
            .filter(|dst| !dst.is_empty())
            .collect(),
    ))
}

fn cidr(lab: &Lab, node: &str) -> Result<String> {
    let node = lab.kubectl().get(&format!("node {node}"))?;
    Ok(node["spec"]["podCIDR"]
        .as_str()
        .context("no pod CIDR")?
        .to_owned())
}

/// Waits until `node` knows exactly these CIDRs, and by VXLAN these addresses. After an absence of the API server a daemon
/// may need a minute until it tries again.
fn wait_for(lab: &Lab, node: &str, cidrs: &[&str], vxlan: &[&str]) -> Result {
    let wanted: (BTreeSet<String>, BTreeSet<String>) = (
        cidrs.iter().map(ToString::to_string).collect(),
        vxlan.iter().map(ToString::to_string).collect(),
    );
    wait::until(PATIENCE, &format!("exact rows on {node}"), || {
        let found = peers(lab, node)?;
        ensure!(found == wanted, "{found:?}, not {wanted:?}");
        Ok(())
    })
}

/// A Node deleted, and the machine joined again with another pod CIDR and another address.
pub fn joins_again() -> Result {
    shared::with(|lab| {
        let kubectl = lab.kubectl();
        let (one, two, old) = (cidr(lab, "n1")?, cidr(lab, "n2")?, cidr(lab, "n3")?);
        wait_for(lab, "n1", &[&two, &old], &["192.0.2.13"])?;
        lab.cluster.worker_mut("n3").power_off();
        kubectl.run("delete node n3")?;
        wait_for(lab, "n1", &[&two], &[])?;
        let n3 = lab.cluster.worker_mut("n3");
        n3.move_to(2, 23);
        n3.boot()?;
        let new = Kubectl::until(PATIENCE, "a pod CIDR for n3", || cidr(lab, "n3"))?;
        ensure!(new != old, "n3 has {old} again");
        move_pods(lab, &new)?;
        lab.wait_ready()?;
        wait_for(lab, "n1", &[&two, &new], &["192.0.2.23"])?;
        wait_for(lab, "n3", &[&one, &two], &["192.0.1.11", "192.0.1.12"])?;
        let pods = lab.pods("app=web", NODES.len())?;
        wait::until(PATIENCE, "packet to the node's new pod", || {
            ping(&pods[0].space, pods[2].ip)
        })?;
        Ok(())
    })
}

/// Waits until every pod of n3 has an address of its new CIDR. kubelet starts pods by the conflist of before as soon as it
/// runs; who has an address of the old CIDR has to go, as the Node's condition says.
fn move_pods(lab: &Lab, cidr: &str) -> Result {
    let cidr: ipnetwork::IpNetwork = cidr.parse()?;
    let kubectl = lab.kubectl();
    Kubectl::until(PATIENCE, "pods in the new CIDR", || {
        let pods = kubectl.list("pods -l app=web --field-selector spec.nodeName=n3")?;
        ensure!(!pods.is_empty(), "no pod yet");
        for pod in pods {
            let (name, ip) = (&pod["metadata"]["name"], &pod["status"]["podIP"]);
            let ip: IpAddr = ip.as_str().context("no address yet")?.parse()?;
            if !cidr.contains(ip) {
                let name = name.as_str().unwrap_or_default();
                kubectl.run(&format!("delete pod {name} --ignore-not-found"))?;
                anyhow::bail!("{name} has {ip}");
            }
        }
        Ok(())
    })
}

/// A node cordoned and drained: its pods go, and nothing changes on the others.
pub fn drained() -> Result {
    shared::with(|lab| {
        let kubectl = lab.kubectl();
        let others = |lab: &Lab| -> Result<Vec<_>> {
            let others = ["n1", "n3"].map(|name| lab.cluster.worker(name));
            others.iter().map(|worker| snapshot(worker)).collect()
        };
        lab.pods("app=web", NODES.len())?;
        let before = others(lab)?;
        let lone = ["one", "two"].map(|name| lone_pod(name, "n2", json!({})));
        lab.with_objects(&lone, || {
            lab.pods("app=one", 1)?;
            lab.pods("app=two", 1)?;
            kubectl.run("drain n2 --ignore-daemonsets --force --timeout=60s")?;
            let left = kubectl.list("pods -l app!=web")?;
            ensure!(left.is_empty(), "{} pods are left on n2", left.len());
            for (now, before) in others(lab)?.iter().zip(&before) {
                now.same_as(before)?;
            }
            kubectl.run("uncordon n2").map(drop)
        })
    })
}
