//! `make demo`: a node, two pods on its bridge, the packets between them, and then nothing again.

#![allow(clippy::print_stdout)]

use std::net::IpAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use lab::probe::{TcpEcho, exchange, ping};
use lab::report::{Picture, Table, time};
use lab::{Node, Plugins, Pod, Result, Snapshot, find};
use serde_json::Value;

/// The example that the node runs, and the network's name in it.
const CONF: &str = "10-heddle-dual-stack.conflist";
const NETWORK: &str = "heddle";
/// What crosses the bridge by TCP, in bytes.
const LOAD: usize = 1 << 20;

fn main() -> ExitCode {
    match demo() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A pod as its ADD left it.
struct Attached {
    pod: Pod,
    addresses: Vec<IpAddr>,
    gateways: Vec<IpAddr>,
    host_interface: String,
    took: Duration,
}

fn demo() -> Result {
    let start = Instant::now();
    let node = Node::new("node")?;
    Plugins::heddle(&node)?;
    let conf = std::fs::read(find::workspace().join("conf").join(CONF))?;
    node.run(|| std::fs::write(format!("/etc/cni/net.d/{CONF}"), conf))?;

    let names = ["web", "client"];
    let pods: Vec<Attached> = names
        .iter()
        .map(|name| attach(&node, name))
        .collect::<Result<_>>()?;
    println!("{}", picture(&pods));
    println!("{}", packets(&pods)?);

    let mut removed = Duration::ZERO;
    for Attached { pod, .. } in &pods {
        removed += cnitool(&node, "del", pod)?.1;
    }
    let left = Snapshot::of(node.space())?;
    let mut traces: Vec<&str> = pods.iter().map(|pod| pod.host_interface.as_str()).collect();
    traces.extend([
        "heddle_cni",
        "networks/heddle/10.",
        "networks/heddle/fd",
        "cni/results/heddle-",
    ]);
    let is_trace = |line: &&str| traces.iter().any(|trace| line.contains(trace));
    let leaked: Vec<&str> = left.lines().filter(is_trace).collect();
    ensure!(leaked.is_empty(), "something was left behind: {leaked:#?}");
    println!(
        "Both pods deleted in {}: no interface, rule or lease of theirs is left.",
        time(removed)
    );
    println!(
        "The node goes with this process. All of it took {}.",
        time(start.elapsed())
    );
    Ok(())
}

/// Adds a pod as a person would: `heddle-cni cnitool add heddle /run/netns/NAME`.
fn attach(node: &Node, name: &str) -> Result<Attached> {
    let pod = node.pod(name)?;
    let (stdout, took) = cnitool(node, "add", &pod)?;
    let result: Value = serde_json::from_str(&stdout).context("the result of ADD")?;
    let each = |key: &str| -> Result<Vec<IpAddr>> {
        let ips = result["ips"].as_array().into_iter().flatten();
        let text = ips.map(|ip| ip[key].as_str().unwrap_or_default());
        text.map(|text| Ok(text.split('/').next().unwrap_or_default().parse()?))
            .collect()
    };
    Ok(Attached {
        addresses: each("address")?,
        gateways: each("gateway")?,
        host_interface: result["interfaces"][1]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
        pod,
        took,
    })
}

fn cnitool(node: &Node, verb: &str, pod: &Pod) -> Result<(String, Duration)> {
    let start = Instant::now();
    let netns = pod.netns().to_string_lossy().into_owned();
    let words = ["cnitool", verb, NETWORK, &netns];
    let mut command = node.command("/opt/cni/bin/heddle-cni");
    let stdout = command.env("CNI_PATH", "/opt/cni/bin").args(words).ok()?;
    Ok((stdout, start.elapsed()))
}

fn picture(pods: &[Attached]) -> Picture {
    let mut picture = Picture::new(78, 13);
    picture.boxed(0, 0, 78, 13, "node");
    for (index, pod) in pods.iter().enumerate() {
        let left = 3 + index * 37;
        picture.boxed(left, 2, 35, 4, &format!("pod {}", pod.pod.name()));
        let addresses: Vec<String> = pod.addresses.iter().map(IpAddr::to_string).collect();
        picture.text(left + 2, 3, &format!("eth0 {}", addresses.join("  ")));
        picture.text(left + 2, 4, &format!("ADD took {}", time(pod.took)));
        picture
            .down(left + 8, 5, 9)
            .text(left + 10, 7, &pod.host_interface);
    }
    let gateways = pods
        .first()
        .map(|pod| &pod.gateways[..])
        .unwrap_or_default();
    let gateways: Vec<String> = gateways.iter().map(IpAddr::to_string).collect();
    picture.boxed(3, 9, 72, 3, "cbr0");
    picture.centred(39, 10, &format!("gateway {}", gateways.join("  ")));
    for index in 0..pods.len() {
        picture.text(3 + index * 37 + 8, 9, "┴");
    }
    picture
}

fn packets(pods: &[Attached]) -> Result<Table> {
    let mut table = Table::new(&[
        "from",
        "to",
        "",
        "ICMP echo",
        "TCP connect",
        "TCP 1 MiB there and back",
    ]);
    let load = vec![7; LOAD];
    for from in pods {
        for to in pods.iter().filter(|to| to.pod.name() != from.pod.name()) {
            for address in &to.addresses {
                let echo = ping(from.pod.space(), *address)?;
                let server = TcpEcho::start(to.pod.space(), (*address, 0).into())?;
                let tcp = exchange(from.pod.space(), server.address(), &load)?;
                ensure!(
                    tcp.seen == tcp.local,
                    "{} was seen as {}",
                    tcp.local,
                    tcp.seen
                );
                table.row([
                    from.pod.name(),
                    to.pod.name(),
                    &address.to_string(),
                    &time(echo.time),
                    &time(tcp.connected),
                    &time(tcp.total),
                ]);
            }
        }
        for gateway in &from.gateways {
            let echo = ping(from.pod.space(), *gateway)?;
            table.row([
                from.pod.name(),
                "gateway",
                &gateway.to_string(),
                &time(echo.time),
                "",
                "",
            ]);
        }
    }
    Ok(table)
}
