//! The network that podman generates (bridge, portmap, firewall and tuning, cniVersion 0.4.0), on our plugins, beside a
//! FORWARD chain that drops: who reaches a published port, and what is left when the container is gone.
use std::net::{SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use lab::inspect::{ruleset, sh};
use lab::podman::{IMAGE, Podman};
use lab::probe::{TcpEcho, UdpEcho, exchange};
use lab::{Case, Need, Node, Plugins, Pod, Result, Snapshot, Space, chain};
use serde_json::Value;

fn main() -> ExitCode {
    let needs = [
        "busybox", "runc", "podman", "ip", "nft", "iptables", "setpriv",
    ]
    .map(Need::Program);
    let case = |name, body| Case::new(name, body).needs(needs).needs([Need::HeddleCni]);
    lab::main([
        case("published_ports", published_ports),
        case("addresses_asked_for", addresses_asked_for),
        case("two_networks", two_networks),
        case("connect_and_disconnect", connect_and_disconnect),
        case("nothing_is_left", nothing_is_left),
    ])
}

/// A node on which `podman network create` has been, and Docker before.
struct Host {
    node: Node,
    world: Pod,
    podman: Podman,
}

impl Host {
    fn new() -> Result<Host> {
        let node = Node::new("podman")?;
        let world = chain::world(&node)?;
        Plugins::heddle(&node)?;
        sh(
            node.space(),
            "iptables -P FORWARD DROP; ip6tables -P FORWARD DROP",
        )?;
        let podman = Podman::new(&node)?;
        let host = Host {
            node,
            world,
            podman,
        };
        host.network("lab", "10.99.0.0/24", "fd99::/64")?;
        Ok(host)
    }

    fn network(&self, name: &str, v4: &str, v6: &str) -> Result {
        let words = [
            "network", "create", "--ipv6", "--subnet", v4, "--subnet", v6, name,
        ];
        self.podman.run(&words)?;
        let text = self
            .node
            .run(|| std::fs::read(format!("/etc/cni/net.d/{name}.conflist")))?;
        let generated: Value = serde_json::from_slice(&text)?;
        let types: Vec<_> = generated["plugins"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|plugin| &plugin["type"])
            .collect();
        ensure!(
            types == ["bridge", "portmap", "firewall", "tuning"]
                && generated["cniVersion"] == "0.4.0",
            "podman generates something else now: {generated}"
        );
        Ok(())
    }

    /// A container on a network, with other words for `podman run`.
    fn start(&self, name: &str, network: &str, words: &[&str]) -> Result<Space> {
        let common = ["run", "--detach", "--name", name, "--network", network];
        self.podman.run(&[&common[..], words, &[IMAGE]].concat())?;
        self.podman.network_of(name)
    }

    fn remove(&self, names: &[&str]) -> Result {
        let words = ["rm", "--force", "--time", "0"];
        self.podman.run(&[&words[..], names].concat()).map(drop)
    }

    /// The node without podman's own files.
    fn snapshot(&self) -> Result<Snapshot> {
        let own = [
            "/run/containers",
            "/run/podman",
            "/run/libpod",
            "/run/runc",
            "/run/netns",
            "/run/crun",
            "last_reserved_ip",
        ];
        Ok(Snapshot::of(self.node.space())?.without(&own))
    }
}

fn at(ip: &str, port: u16) -> Result<SocketAddr> {
    Ok(SocketAddr::new(ip.parse()?, port))
}

/// Whether a UDP server at this address answers within a second.
fn answers(from: &Space, to: SocketAddr) -> Result<bool> {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    from.run(|| {
        let socket = UdpSocket::bind(any)?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        socket.send_to(b"hello", to)?;
        Ok(socket.recv(&mut [0; 16]).is_ok())
    })
}

fn published_ports() -> Result {
    let host = Host::new()?;
    let words = [
        "--publish",
        "8080:80",
        "--publish",
        "5353:53/udp",
        "--publish",
        "127.0.0.1:9090:90",
    ];
    let web = host.start("web", "lab", &words)?;
    let other = host.start("other", "lab", &[])?;
    let _servers = (
        TcpEcho::start(&web, at("::", 80)?)?,
        TcpEcho::start(&web, at("::", 90)?)?,
        UdpEcho::start(&web, at("::", 53)?)?,
    );
    let (world, node) = (host.world.space(), host.node.space());
    for round in ["run", "network reload", "network reload again"] {
        for ip in ["192.0.2.1", "2001:db8::1"] {
            for from in [world, node, &web, &other] {
                let what = || format!("{ip} from {} after {round}", from.name());
                exchange(from, at(ip, 8080)?, b"hello").with_context(what)?;
                ensure!(answers(from, at(ip, 5353)?)?, "udp, {}", what());
            }
        }
        exchange(node, at("127.0.0.1", 8080)?, b"hello")?;
        ensure!(
            answers(node, at("127.0.0.1", 5353)?)?,
            "udp, 127.0.0.1 after {round}"
        );
        exchange(node, at("127.0.0.1", 9090)?, b"hello")?;
        ensure!(
            exchange(world, at("192.0.2.1", 9090)?, b"hello").is_err(),
            "9090 is for 127.0.0.1"
        );
        host.podman.run(&["network", "reload", "web"])?;
    }
    host.remove(&["web", "other"])?;
    ensure!(
        exchange(world, at("192.0.2.1", 8080)?, b"hello").is_err(),
        "still reached"
    );
    Ok(())
}

fn addresses_asked_for() -> Result {
    let host = Host::new()?;
    let words = [
        "--ip",
        "10.99.0.50",
        "--ip6",
        "fd99::50",
        "--mac-address",
        "02:00:00:00:00:05",
        "--publish",
        "8080:80",
    ];
    for round in ["first", "second"] {
        let web = host.start("web", "lab", &words)?;
        let shown = sh(&web, "ip address show dev eth0")?;
        for part in ["10.99.0.50/24", "fd99::50/64", "02:00:00:00:00:05"] {
            ensure!(shown.contains(part), "{round}: no {part} in {shown}");
        }
        let _server = TcpEcho::start(&web, at("10.99.0.50", 80)?)?;
        exchange(host.world.space(), at("192.0.2.1", 8080)?, b"hello").context(round)?;
        host.remove(&["web"])?;
    }
    let _web = host.start("web", "lab", &words)?;
    let refused = host.start("late", "lab", &["--publish", "8080:80"]);
    let message = refused
        .err()
        .map(|error| format!("{error:#}"))
        .unwrap_or_default();
    ensure!(message.contains("8080"), "a port that is taken: {message}");
    Ok(())
}

/// podman gives the published ports to each network of a container.
fn two_networks() -> Result {
    let host = Host::new()?;
    host.network("second", "10.98.0.0/24", "fd98::/64")?;
    let words = ["--publish", "8080:80"];
    host.start("first", "lab,second", &words)?;
    host.remove(&["first"])?;
    let before = host.snapshot()?;
    let web = host.start("web", "lab,second", &words)?;
    let _server = TcpEcho::start(&web, at("::", 80)?)?;
    for ip in ["192.0.2.1", "2001:db8::1"] {
        exchange(host.world.space(), at(ip, 8080)?, b"hello").context(ip)?;
    }
    host.remove(&["web"])?;
    host.snapshot()?.same_as(&before)
}

fn connect_and_disconnect() -> Result {
    let host = Host::new()?;
    host.network("second", "10.98.0.0/24", "fd98::/64")?;
    let web = host.start("web", "lab", &["--publish", "8080:80"])?;
    let _server = TcpEcho::start(&web, at("::", 80)?)?;
    let reached = |after: &str| -> Result {
        let seen = exchange(host.world.space(), at("192.0.2.1", 8080)?, b"hello");
        seen.map(drop).with_context(|| format!("after {after}"))
    };
    reached("run")?;
    host.podman.run(&["network", "connect", "second", "web"])?;
    ensure!(
        sh(&web, "ip -4 address show dev eth1")?.contains("10.98.0."),
        "no address on the second network"
    );
    reached("connect")?;
    host.podman.run(&["network", "disconnect", "lab", "web"])?;
    reached("disconnect of the first")?;
    host.podman.run(&["network", "connect", "lab", "web"])?;
    host.podman
        .run(&["network", "disconnect", "second", "web"])?;
    reached("disconnect of the second")
}

/// By `rm -f`, and by `stop` and `rm`.
fn nothing_is_left() -> Result {
    let host = Host::new()?;
    let words = ["--publish", "8080:80", "--publish", "5353:53/udp"];
    // The first leaves what is there to stay: the bridge, directories, settings.
    host.start("first", "lab", &words)?;
    host.remove(&["first"])?;
    let before = host.snapshot()?;
    for stop in [true, false] {
        let web = host.start("web", "lab", &words)?;
        drop(web);
        ensure!(host.snapshot()? != before, "nothing was there");
        match stop {
            true => {
                host.podman.run(&["stop", "--time", "0", "web"])?;
                host.snapshot()?.same_as(&before).context("stop")?;
                host.podman.run(&["rm", "web"])?;
            }
            false => host.remove(&["web"])?,
        }
        host.snapshot()?.same_as(&before)?;
    }
    let left = ruleset(host.node.space())?;
    ensure!(!left.to_lowercase().contains("heddle"), "{left}");
    Ok(())
}
