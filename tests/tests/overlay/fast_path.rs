//! The fast path: what it carries, what it leaves alone, and how soon it notices.
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use lab::inspect::{ip_one, sh};
use lab::overlay::{Cluster, Placed};
use lab::probe::{LossMeter, TcpEcho, UdpEcho, exchange};
use lab::{Node, Pod, Result, wait};

const ON: &str = "fast_path = true";
/// A flow that takes the fast path still sends a packet a second each way over the bridge, and the bridge has its own few.
const FEW: u64 = 100;
const TURNS: u64 = 3000;

/// Three nodes with a fast path and a pod each; the programs are at the pods' links.
fn cluster() -> Result<(Cluster, Vec<Placed>)> {
    let cluster = Cluster::fixed(ON)?;
    let pods = cluster.pods()?;
    for member in &cluster.members {
        links(member, 1)?;
    }
    Ok((cluster, pods))
}

fn links(member: &lab::overlay::Member, count: u64) -> Result {
    let what = format!("a fast path at {count} links");
    member
        .wait_for(&what, |status| status["fast_path"]["links"] == count)
        .map(drop)
}

/// Frames that a node's bridge has taken from its pods so far.
fn bridged(node: &Node) -> Result<u64> {
    let link = ip_one(node.space(), "-s link show dev cbr0")?;
    link["stats64"]["rx"]["packets"]
        .as_u64()
        .with_context(|| format!("{link:#}"))
}

/// A UDP flow from a pod to an echo.
struct Flow(UdpSocket);

impl Flow {
    fn new(pod: &Pod, to: SocketAddr) -> Result<Flow> {
        let any: IpAddr = match to.is_ipv4() {
            true => [0; 4].into(),
            false => [0; 16].into(),
        };
        let socket = pod.space().run(|| -> Result<UdpSocket> {
            let socket = UdpSocket::bind((any, 0))?;
            socket.connect(to)?;
            Ok(socket)
        })?;
        socket.set_read_timeout(Some(Duration::from_millis(500)))?;
        Ok(Flow(socket))
    }

    /// Sends a datagram and has it echoed.
    fn turn(&self, bytes: &[u8]) -> Result {
        let mut echo = vec![0; bytes.len()];
        self.0.send(bytes)?;
        let length = self.0.recv(&mut echo).context("no echo")?;
        ensure!(echo[..length] == *bytes, "another echo");
        Ok(())
    }

    /// So many of them, and how many frames the bridge of `node` took meanwhile.
    fn turns(&self, node: &Node) -> Result<u64> {
        let before = bridged(node)?;
        for _ in 0..TURNS {
            self.turn(&[7; 64])?;
        }
        Ok(bridged(node)? - before)
    }
}

pub fn carries() -> Result {
    let (mut cluster, pods) = cluster()?;
    let (from, to) = (&pods[0], &pods[2]);
    for member in &cluster.members {
        // As kube-proxy and many hosts have it: what connection tracking does not understand is dropped.
        let rules = "table inet strict { chain c { type filter hook forward priority 0; ct state invalid drop; }; }";
        member.node.command("nft").arg(rules).ok()?;
    }
    let nodes = [&cluster.members[0].node, &cluster.members[2].node];
    for address in &to.addresses {
        let echo = UdpEcho::start(to.pod.space(), (*address, 0).into())?;
        let flow = Flow::new(&from.pod, echo.address())?;
        for node in nodes {
            let slow = flow.turns(node)?;
            ensure!(
                slow < FEW,
                "UDP to {address}: {slow} of {TURNS} frames over the bridge of {}",
                node.name()
            );
        }
        // Longer than any that went before: it takes the slow path, and is cut up there.
        flow.turn(&[9; 4000])?;
        let echo = TcpEcho::start(to.pod.space(), (*address, 0).into())?;
        let before = bridged(nodes[0])?;
        let bytes: Vec<u8> = (0..64 << 20)
            .map(|number: u32| (number >> 8) as u8)
            .collect();
        exchange(from.pod.space(), echo.address(), &bytes)?;
        let slow = bridged(nodes[0])? - before;
        ensure!(slow < FEW * 3, "TCP to {address}: {slow} frames");
    }
    // Without the daemon all of it goes on the slow way, and with it again the fast one.
    let echo = UdpEcho::start(to.pod.space(), (to.addresses[0], 0).into())?;
    let flow = Flow::new(&from.pod, echo.address())?;
    let meter = LossMeter::start(from.pod.space(), echo.address())?;
    cluster.members[0].stop(true)?;
    let slow = flow.turns(&cluster.members[0].node)?;
    ensure!(slow >= TURNS, "{slow} frames without a daemon");
    cluster.members[0].start()?;
    links(&cluster.members[0], 1)?;
    let fast = flow.turns(&cluster.members[0].node)?;
    let loss = meter.stop()?;
    ensure!(loss.lost.is_empty(), "{loss:?}");
    // The meter's own 1,000 a second are on the fast path too.
    ensure!(fast < FEW, "{fast} frames with the daemon again");
    Ok(())
}

pub fn leaves_alone() -> Result {
    let (cluster, pods) = cluster()?;
    let (from, to) = (&pods[0], &pods[2]);
    let node = &cluster.members[0].node;
    let IpAddr::V4(target) = to.addresses[0] else {
        anyhow::bail!("IPv4 first");
    };
    // A Service: translated connections need the slow path both ways.
    let echo = UdpEcho::start(to.pod.space(), (target, 7000).into())?;
    let rules = format!(
        "table ip services {{ chain c {{ type nat hook prerouting priority dstnat; ip daddr 10.96.0.1 udp dport 80 dnat to {target}:7000; }}; }}"
    );
    node.command("nft").arg(rules).ok()?;
    let service = Flow::new(&from.pod, "10.96.0.1:80".parse()?)?;
    ensure!(service.turns(node)? >= TURNS, "a Service on the fast path");
    // A shaped pod: its packets have to queue.
    let flow = Flow::new(&from.pod, echo.address())?;
    ensure!(flow.turns(node)? < FEW, "a plain flow is slow");
    let port = lab::inspect::ip(node.space(), "link show master cbr0")?;
    let name = port[0]["ifname"].as_str().context("a port")?;
    sh(
        node.space(),
        &format!("tc qdisc add dev {name} root handle 1: tbf rate 1gbit burst 1mb limit 10mb"),
    )?;
    links(&cluster.members[0], 0)?;
    ensure!(flow.turns(node)? >= TURNS, "a shaped pod on the fast path");
    sh(node.space(), &format!("tc qdisc delete dev {name} root"))?;
    links(&cluster.members[0], 1)?;
    ensure!(flow.turns(node)? < FEW, "no longer shaped, and slow");
    // A rule that is added under a connection: noticed with the next packet that takes the slow path.
    let rules = format!(
        "table inet deny {{ chain c {{ type filter hook forward priority 0; ip daddr {target} udp dport 7000 drop; }}; }}"
    );
    node.command("nft").arg(rules).ok()?;
    let start = Instant::now();
    wait::until(Duration::from_secs(5), "the rule", || {
        ensure!(flow.turn(&[7; 64]).is_err(), "still through");
        Ok(())
    })?;
    let took = start.elapsed();
    ensure!(took < Duration::from_millis(2500), "noticed after {took:?}");
    node.command("nft").arg("delete table inet deny").ok()?;
    flow.turn(&[7; 64])?;
    // What leaves the cluster has the node's address, as without a fast path.
    let outside = cluster.fabric.space();
    let echo = TcpEcho::start(outside, ("192.0.1.1".parse::<IpAddr>()?, 0).into())?;
    let seen = exchange(from.pod.space(), echo.address(), b"from a pod")?.seen;
    ensure!(seen.ip().to_string() == "192.0.1.11", "seen as {seen}");
    Ok(())
}

pub fn without_rights() -> Result {
    let mut cluster = Cluster::fixed(ON)?;
    let member = &mut cluster.members[0];
    member.stop(false)?;
    let words = "setpriv --bounding-set -all,+net_admin,+dac_override --inh-caps -all /opt/cni/heddle daemon";
    let words: Vec<&str> = words.split(' ').collect();
    let mut daemon = lab::Daemon::start(member.node.space(), &words)?;
    member.wait_ready(2)?;
    member.wait_for("the reason", |status| {
        let problem = status["fast_path"]["problem"].as_str();
        problem
            .is_some_and(|why| why.contains("Operation not permitted") && why.contains("CAP_BPF"))
    })?;
    let screen = member.heddle("status").ok()?;
    ensure!(screen.contains("fast path: none"), "{screen}");
    let doctor = member.heddle("doctor").output()?;
    ensure!(doctor.stdout.contains("fast path"), "{doctor:?}");
    daemon.signal(nix::sys::signal::SIGTERM)?;
    daemon.wait();
    Ok(())
}
