//! Who may do what, and what the daemon itself may.
use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;

use anyhow::ensure;
use lab::inspect::sh;
use lab::overlay::Cluster;
use lab::probe::{Capture, ping};
use lab::{Fabric, Result};

use crate::resources::gossip;

/// `CAP_NET_ADMIN` of capabilities(7).
const NET_ADMIN: u64 = 1 << 12;

/// With `CAP_NET_ADMIN` and nothing else a cluster comes up, carries pods, and heals.
pub fn capabilities() -> Result {
    let mut cluster = Cluster::new(&gossip(""))?;
    for member in &mut cluster.members {
        member.start_by(&[
            "setpriv",
            "--bounding-set",
            "-all,+net_admin",
            "--inh-caps",
            "-all",
            "--no-new-privs",
            "--",
        ])?;
    }
    cluster.ready()?;
    let third = &cluster.members[2];
    let status = std::fs::read_to_string(format!("/proc/{}/status", third.pid()?))?;
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{set}:")));
        let held = u64::from_str_radix(line.unwrap_or_default().trim(), 16)?;
        ensure!(held == NET_ADMIN, "{set} is {held:x}");
    }
    let pods = cluster.pods()?;
    ping(pods[0].pod.space(), pods[2].addresses[0])?;
    sh(
        third.node.space(),
        "ip link delete vxlan.heddle; nft flush ruleset",
    )?;
    third.wait_ready(2)?;
    ping(pods[2].pod.space(), pods[0].addresses[0]).map(drop)
}

/// Nobody but root asks, forgets or reads a secret; what the daemon makes for itself no other may write.
pub fn socket() -> Result {
    let mut cluster = Cluster::new(&gossip(""))?;
    cluster.start()?;
    cluster.ready()?;
    let first = &cluster.members[0];
    first.node.run(|| -> Result {
        for (path, mode) in [
            ("/run/heddle/heddle.sock", 0o600),
            ("/run/heddle/cni-calls", 0o600),
        ] {
            let found = std::fs::metadata(path)?.permissions().mode() & 0o777;
            ensure!(found == mode, "{path} has mode {found:o}");
        }
        for path in [
            "/run/heddle",
            "/var/lib/heddle",
            "/var/lib/heddle/gossip.json",
        ] {
            let found = std::fs::metadata(path)?.permissions().mode();
            ensure!(found & 0o022 == 0, "{path} has mode {found:o}");
        }
        Ok(())
    })?;
    let mut command = first.node.command("setpriv");
    command
        .args("--reuid 65534 --clear-groups --bounding-set -all /opt/cni/heddle status".split(' '));
    let output = command.output()?;
    ensure!(
        !output.status.success() && output.stderr.contains("Permission denied"),
        "{output:?}"
    );
    // The configuration of the laboratory may be read by all: the daemon says so, and nobody says what stands in it.
    let events = first.heddle("events --json").ok()?;
    ensure!(
        events.contains("chmod 600 /etc/heddle/heddle.toml"),
        "{events}"
    );
    let secret = "secret of this laboratory";
    let shown = first.heddle("config check").ok()?;
    for text in [first.log(), events, shown, first.status()?.to_string()] {
        ensure!(!text.contains(secret), "the secret is shown: {text}");
    }
    Ok(())
}

/// A host that is no member sends VXLAN with our number to a node on an IPv6 underlay: by the kernel's own device, and again
/// with everything as a member has it but the outer address.
pub fn forged() -> Result {
    let cluster = Cluster::on_ipv6()?;
    let pods = cluster.pods()?;
    let (pod, address) = (pods[0].pod.clone(), pods[0].addresses[0]);
    let mac = |member: usize| {
        let text = sh(
            cluster.members[member].node.space(),
            "cat /sys/class/net/vxlan.heddle/address",
        );
        text.map(|text| text.trim().to_owned())
    };
    // The inner addresses are those of the third node, MAC and all.
    let spoofed: IpAddr = "10.32.3.0".parse()?;
    sh(
        cluster.fabric.space(),
        &format!(
            "ip link add name evil address {own} up type vxlan id 1 local fd00:1::1 dstport 8472 nolearning\n\
             ip address add {spoofed}/32 dev evil\n\
             ip route add 10.32.1.0/24 via 10.99.0.2 dev evil onlink src {spoofed}\n\
             ip neighbour add 10.99.0.2 lladdr {to} dev evil nud permanent\n\
             bridge fdb append {to} dev evil dst fd00:1::11 self",
            own = mac(2)?,
            to = mac(0)?,
        ),
    )?;
    let injected = || -> Result<usize> {
        let capture = Capture::start(pod.space(), Some("eth0"))?;
        cluster.fabric.space().run(|| -> Result {
            let socket = std::net::UdpSocket::bind((spoofed, 0))?;
            for _ in 0..10 {
                socket.send_to(b"injected", (address, 7))?;
            }
            Ok(())
        })?;
        ping(pods[1].pod.space(), address)?;
        let packets = capture.stop()?;
        let forged = packets
            .iter()
            .filter(|packet| packet.is_between(spoofed, address));
        Ok(forged
            .filter(|packet| packet.ports.is_some_and(|(_, to)| to == 7))
            .count())
    };
    let through = injected()?;
    ensure!(
        through == 0,
        "{through} packets of a stranger reached the pod"
    );
    cluster.members[0].pause(true)?;
    sh(
        cluster.members[0].node.space(),
        "nft delete table inet heddle",
    )?;
    let through = injected()?;
    ensure!(
        through == 10,
        "only {through} of 10 arrived without the rules: this test shows nothing"
    );
    cluster.members[0].pause(false)
}

/// A page of somebody else's, whose name has come to mean this host, gets nothing; nor may a page tell to forget a node.
pub fn rebinding() -> Result {
    let fabric = Fabric::new()?;
    fabric.switch(1)?;
    let config = "membership = \"static\"\nhttp = \"127.0.0.1:9946\"";
    let mut member = lab::overlay::Member::new(&fabric, "n1", 1, 11, config)?;
    member
        .node
        .run(|| std::fs::write("/etc/heddle/nodes.toml", ""))?;
    member.start()?;
    member.wait_for("a first pass", |status| status["passes"].as_u64() > Some(0))?;
    let ask = |stream: &mut dyn ReadWrite, head: &str| -> Result<String> {
        stream.write_all(format!("{head}\r\nConnection: close\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.lines().next().unwrap_or_default().to_owned())
    };
    member.node.run(|| -> Result {
        for (head, code) in [
            ("GET /status HTTP/1.1\r\nHost: localhost:9946", "200"),
            ("GET /status HTTP/1.1\r\nHost: 127.0.0.1:9946", "200"),
            ("GET /status HTTP/1.1\r\nHost: evil.example:9946", "421"),
            ("GET / HTTP/1.1\r\nHost: 127.0.0.1.evil.example", "421"),
            ("GET /metrics HTTP/1.1\r\nHost: evil.example", "421"),
            ("GET /../../etc/passwd HTTP/1.1\r\nHost: localhost", "404"),
            ("\x00\x01\x02 nonsense", "400"),
        ] {
            let mut port = TcpStream::connect("127.0.0.1:9946")?;
            let answer = ask(&mut port, head)?;
            ensure!(answer.contains(code), "{head}: {answer}");
            let mut socket = std::os::unix::net::UnixStream::connect("/run/heddle/heddle.sock")?;
            let answer = ask(&mut socket, head)?;
            ensure!(answer.contains(code), "{head}: {answer}");
        }
        // From the port nobody is forgotten, and on the socket no page asks for it.
        let mut port = TcpStream::connect("127.0.0.1:9946")?;
        let forget = "POST /forget/n2 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0";
        let answer = ask(&mut port, forget)?;
        ensure!(answer.contains("404"), "{answer}");
        let mut socket = std::os::unix::net::UnixStream::connect("/run/heddle/heddle.sock")?;
        let answer = ask(
            &mut socket,
            &format!("{forget}\r\nOrigin: http://localhost"),
        )?;
        ensure!(answer.contains("403"), "{answer}");
        Ok(())
    })
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}
