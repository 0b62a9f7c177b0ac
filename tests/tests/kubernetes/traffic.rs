//! What pods can reach, and as whom they are seen.
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, ensure};
use lab::probe::{TcpEcho, exchange, ping};
use lab::{Result, Space, find, wait};
use serde_json::{Value, json};

use crate::shared::{self, NODES, PATIENCE, Pod, lone_pod};

/// The name that the web server at an address answers with.
fn get(from: &Space, to: SocketAddr) -> Result<String> {
    let attempt = || -> Result<String> {
        let patience = Duration::from_secs(3);
        let mut stream = TcpStream::connect_timeout(&to, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let body = answer.split_once("\r\n\r\n").context("no answer")?.1;
        Ok(body.trim().to_owned())
    };
    from.run(attempt)
        .with_context(|| format!("HTTP from {} to {to}", from.name()))
}

/// `kubectl apply` on empty nodes: all Ready, and how long it took.
pub fn apply() -> Result {
    shared::with(|lab| {
        println!(
            "kubectl apply -> all nodes Ready {:.1} s, -> first packet from pod to pod across nodes {:.1} s",
            lab.ready.as_secs_f64(),
            lab.first_packet.as_secs_f64()
        );
        lab.wait_ready()
    })
}

/// Every pod reaches every other, by ping and TCP, and is seen with its own address.
pub fn pods() -> Result {
    shared::with(|lab| {
        let pods = lab.pods("app=web", NODES.len())?;
        let echo = |pod: &Pod| TcpEcho::start(&pod.space, SocketAddr::new(pod.ip, 7000));
        let _servers: Vec<TcpEcho> = pods.iter().map(echo).collect::<Result<_>>()?;
        for from in &pods {
            for to in &pods {
                ping(&from.space, to.ip)?;
                let seen = exchange(&from.space, SocketAddr::new(to.ip, 7000), b"hello")?;
                ensure!(
                    seen.seen.ip() == from.ip,
                    "{} on {} is seen as {} by {}",
                    from.ip,
                    from.node,
                    seen.seen,
                    to.ip
                );
            }
        }
        Ok(())
    })
}

/// `kubectl exec` and `kubectl logs` on every node.
pub fn exec_and_logs() -> Result {
    shared::with(|lab| {
        let kubectl = lab.kubectl();
        for pod in lab.pods("app=web", NODES.len())? {
            let address = kubectl.exec(&pod.name, "ip address show dev eth0")?;
            ensure!(address.contains(&pod.ip.to_string()), "{address}");
            let logs = kubectl.run(&format!("logs {}", pod.name))?;
            ensure!(logs.trim() == "serving", "{logs}");
        }
        Ok(())
    })
}

/// `heddle trace` on a node, from a pod by its name, follows kube-proxy's own rules to every backend.
fn trace_to_service(lab: &shared::Lab, from: &Pod, address: &str, backends: usize) -> Result {
    let worker = lab.cluster.worker(&from.node);
    wait::until(Duration::from_secs(10), "a trace to every backend", || {
        let mut command = worker.node().command(find::heddle()?);
        let from = format!("default/{}", from.name);
        let output = command.args(["trace", &from, address, "--json"]).output()?;
        let trace: Value =
            serde_json::from_str(&output.stdout).with_context(|| format!("{output:?}"))?;
        let seen = trace["service"]["backends"].as_array().map_or(0, Vec::len);
        ensure!(
            output.status.success()
                && seen == backends
                && trace["service"]["name"] == "default/web",
            "{trace:#}"
        );
        Ok(())
    })
}

/// A Service through kube-proxy reaches the pods of every node, from pods of every node.
pub fn service() -> Result {
    shared::with(|lab| {
        let service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
        });
        lab.with_objects(&[service], || {
            let made = lab.kubectl().get("service web")?;
            let address = made["spec"]["clusterIP"].as_str().context("no address")?;
            let to = SocketAddr::new(address.parse()?, 80);
            let pods = lab.pods("app=web", NODES.len())?;
            for from in &pods {
                let mut answers: BTreeMap<String, usize> = BTreeMap::new();
                wait::until(Duration::from_secs(30), "answers of all pods", || {
                    *answers.entry(get(&from.space, to)?).or_default() += 1;
                    ensure!(answers.len() == pods.len(), "{answers:?}");
                    Ok(())
                })?;
                println!("a Service from a pod on {}: {answers:?}", from.node);
                trace_to_service(lab, from, address, pods.len())?;
            }
            Ok(())
        })
    })
}

/// A hostPort reaches its pod from outside, from another node's pod, and not after the pod has gone.
pub fn host_port() -> Result {
    shared::with(|lab| {
        let ports = json!({"ports": [{"containerPort": 80, "hostPort": 18080}]});
        let pod = lone_pod("port", "n1", ports);
        let to = SocketAddr::new(lab.cluster.worker("n1").address().parse()?, 18080);
        let outside = lab.cluster.fabric.space();
        let web = lab.pods("app=web", NODES.len())?;
        lab.with_objects(&[pod], || {
            lab.pods("app=port", 1)?;
            for from in [outside, &web[0].space, &web[2].space] {
                let answer = wait::until(Duration::from_secs(10), "answer", || get(from, to))?;
                ensure!(answer == "port", "{answer}");
            }
            Ok(())
        })?;
        // The API server forgets a pod without a grace period before its node has.
        wait::until(PATIENCE, "end of the port", || match get(outside, to) {
            Ok(answer) => anyhow::bail!("{answer} answers, which has gone"),
            Err(_) => Ok(()),
        })
    })
}

/// What a pod sends out of the cluster carries its node's address.
pub fn egress() -> Result {
    shared::with(|lab| {
        // The router's addresses are no node's: a server there is outside of the cluster.
        for (pod, switch) in lab.pods("app=web", NODES.len())?.iter().zip([2, 2, 1]) {
            let outside: IpAddr = format!("192.0.{switch}.1").parse()?;
            let server = TcpEcho::start(lab.cluster.fabric.space(), SocketAddr::new(outside, 0))?;
            let node: IpAddr = lab.cluster.worker(&pod.node).address().parse()?;
            let seen = exchange(&pod.space, server.address(), b"hello")?;
            ensure!(
                seen.seen.ip() == node,
                "{} is seen as {}",
                pod.node,
                seen.seen
            );
        }
        Ok(())
    })
}
