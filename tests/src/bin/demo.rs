//! `make demo`: three nodes find each other, pods are added through CNI, packets cross, a daemon dies, and then nothing is
//! left.

#![allow(clippy::print_stdout)]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use lab::overlay::{Cluster, Member, Placed};
use lab::probe::{Capture, LossMeter, TcpEcho, UdpEcho, exchange, ping};
use lab::report::{Picture, Table, time};
use lab::{Result, Snapshot};
use serde_json::Value;

/// The three nodes are each other's electors.
const CONFIG: &str = r#"
    membership = "gossip"
    peers = ["192.0.1.11", "192.0.1.12", "192.0.2.13"]
    keys = ["a secret for a demonstration"]
"#;
/// What crosses by TCP in each direction, in bytes.
const LOAD: usize = 256 << 10;

fn main() -> ExitCode {
    match demo() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo() -> Result {
    let start = Instant::now();
    let mut cluster = Cluster::new(CONFIG)?;
    let before = traces(&cluster)?;
    cluster.start()?;
    cluster.ready()?;
    let ready = start.elapsed();
    let added = Instant::now();
    let pods = cluster
        .members
        .iter()
        .map(|member| ["web", "client"].map(|name| member.add_pod(name)));
    let pods: Vec<Vec<Placed>> = pods
        .map(|pair| pair.into_iter().collect())
        .collect::<Result<_>>()?;
    let each = added.elapsed() / 6;

    println!("{}", picture(&cluster, &pods)?);
    println!(
        "Three nodes found each other, took a pod CIDR each and were ready after {}; an ADD took {}.\n",
        time(ready),
        time(each)
    );
    println!("{}", packets(&cluster, &pods)?);
    println!(
        "On the wire behind the router: {}\n",
        on_the_wire(&cluster, &pods)?
    );
    println!("{}", killed(&mut cluster, &pods)?);
    println!("{}", cluster.members[0].heddle("peers").ok()?);

    for (member, pods) in cluster.members.iter().zip(&pods) {
        pods.iter().try_for_each(|placed| {
            member.delete_pod(&placed.pod)?;
            placed.pod.unmount(false)
        })?;
    }
    for member in &mut cluster.members {
        member.stop(false)?;
        member.heddle("cleanup").ok()?;
    }
    let left: Vec<String> = traces(&cluster)?
        .into_iter()
        .filter(|line| !before.contains(line))
        .collect();
    ensure!(left.is_empty(), "something was left behind: {left:#?}");
    println!(
        "Pods deleted, nodes cleaned up: no device, route, rule, lease or conflist is left. All of it took {}.",
        time(start.elapsed())
    );
    Ok(())
}

/// What could be left on the nodes: everything but the bridge that waits for the next pod, and sysctls.
fn traces(cluster: &Cluster) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for member in &cluster.members {
        let snapshot = Snapshot::of(member.node.space())?.without(&[
            "sysctl",
            "cbr0",
            "last_reserved_ip",
            "/lock",
            "/results/ ",
            "networks/heddle",
            ".heddle",
        ]);
        lines.extend(snapshot.lines().map(str::to_owned));
    }
    Ok(lines)
}

fn picture(cluster: &Cluster, pods: &[Vec<Placed>]) -> Result<Picture> {
    const WIDTH: usize = 30;
    let mut picture = Picture::new(3 * (WIDTH + 1), 14);
    for (index, (member, pods)) in cluster.members.iter().zip(pods).enumerate() {
        let left = index * (WIDTH + 1);
        let status = member.status()?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        picture.boxed(left, 0, WIDTH, 8, member.node.name());
        for (row, placed) in pods.iter().enumerate() {
            let addresses: Vec<String> = placed.addresses.iter().map(ToString::to_string).collect();
            picture.text(
                left + 2,
                1 + row,
                &format!("{:<7}{}", placed.pod.name(), addresses[0]),
            );
            picture.text(left + 2, 3 + row, &format!("{:<7}{}", "", addresses[1]));
        }
        picture.text(
            left + 2,
            6,
            &format!("{:<7}{}", "CIDR", text(&status["pod_cidrs"][0])),
        );
        picture.down(left + WIDTH / 2, 7, 10);
        picture.text(left + WIDTH / 2 + 2, 8, &text(&status["endpoints"][0]));
    }
    let (wide, third) = (2 * WIDTH + 1, 2 * (WIDTH + 1));
    picture.boxed(0, 10, wide, 3, "switch 1");
    picture.boxed(third, 10, WIDTH, 3, "switch 2");
    picture.centred(WIDTH, 11, "direct between n1 and n2");
    picture.centred(third + WIDTH / 2, 11, "VXLAN to and from n3");
    for index in 0..3 {
        picture.text(WIDTH / 2 + index * (WIDTH + 1), 10, "┴");
    }
    let (left, router) = (wide - 11, "└────── router ──────┘");
    picture.text(left, 12, "┬").text(left, 13, router);
    picture.text(left + router.chars().count() - 1, 12, "┬");
    Ok(picture)
}

/// Every pod to every other, of both families: ICMP and TCP, a line for each pair of nodes.
fn packets(cluster: &Cluster, pods: &[Vec<Placed>]) -> Result<Table> {
    let mut table = Table::new(&[
        "from",
        "to",
        "path",
        "pairs",
        "ICMP echo",
        "TCP connect",
        "TCP 256 KiB there and back",
        "source seen as is",
    ]);
    let load = vec![7; LOAD];
    for (from, senders) in cluster.members.iter().zip(pods) {
        for (to, receivers) in cluster.members.iter().zip(pods) {
            let (mut echoes, mut connects, mut totals, mut own) =
                (Vec::new(), Vec::new(), Vec::new(), 0);
            for sender in senders {
                for receiver in receivers
                    .iter()
                    .filter(|receiver| receiver.addresses != sender.addresses)
                {
                    for address in &receiver.addresses {
                        echoes.push(ping(sender.pod.space(), *address)?.time);
                        let server = TcpEcho::start(receiver.pod.space(), (*address, 0).into())?;
                        let tcp = exchange(sender.pod.space(), server.address(), &load)?;
                        connects.push(tcp.connected);
                        totals.push(tcp.total);
                        own += usize::from(tcp.seen == tcp.local);
                    }
                }
            }
            ensure!(own == echoes.len(), "a pod was seen under another address");
            table.row([
                from.node.name(),
                to.node.name(),
                &path(from, to)?,
                &echoes.len().to_string(),
                &time(median(&mut echoes)),
                &time(median(&mut connects)),
                &time(median(&mut totals)),
                "yes",
            ]);
        }
    }
    Ok(table)
}

fn path(from: &Member, to: &Member) -> Result<String> {
    if from.node.name() == to.node.name() {
        return Ok("cbr0".into());
    }
    let status = from.status()?;
    let path = status["peers"][to.node.name()]["path"].as_str();
    Ok(path.context("a peer has a path")?.to_owned())
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// A packet between two pods as the switch behind the router sees it.
fn on_the_wire(cluster: &Cluster, pods: &[Vec<Placed>]) -> Result<String> {
    let (from, to) = (&pods[0][0], &pods[2][0]);
    let capture = Capture::start(cluster.fabric.space(), Some("sw2"))?;
    ping(from.pod.space(), to.addresses[0])?;
    let packets = capture.stop()?;
    let carried = packets.iter().find(|packet| {
        let inner = packet.vxlan.as_ref().map(|vxlan| &vxlan.inner);
        inner.is_some_and(|inner| inner.is_between(from.addresses[0], to.addresses[0]))
    });
    Ok(carried
        .context("no VXLAN packet with the pod's own address was seen")?
        .to_string())
}

/// The daemon of the third node dies under traffic and comes back.
fn killed(cluster: &mut Cluster, pods: &[Vec<Placed>]) -> Result<String> {
    let (from, to) = (&pods[0][0], &pods[2][0]);
    let echo = UdpEcho::start(to.pod.space(), (to.addresses[0], 0).into())?;
    let meter = LossMeter::start(from.pod.space(), echo.address())?;
    let third = &mut cluster.members[2];
    third.stop(true)?;
    std::thread::sleep(Duration::from_millis(500));
    third.start()?;
    let status = third.wait_ready(2)?;
    let loss = meter.stop()?;
    ensure!(
        loss.lost.is_empty(),
        "{} of {} packets were lost",
        loss.lost.len(),
        loss.sent
    );
    Ok(format!(
        "The daemon of n3 was killed and came back: {} packets lost of {} at 1 kHz, {} changes in the kernel.\n",
        loss.lost.len(),
        loss.sent,
        status["writes"]
    ))
}
