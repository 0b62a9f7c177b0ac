//! Who reaches whom, under which address, and what of it is seen on the wire.
use std::net::IpAddr;

use anyhow::{Context, ensure};
use lab::inspect::sh;
use lab::probe::{Capture, TcpEcho, exchange, ping};
use lab::{Result, Space};

use lab::overlay::Cluster;

/// Connects, and returns the address that the other side saw.
fn seen_as(from: &Space, to: &Space, address: IpAddr) -> Result<(IpAddr, IpAddr)> {
    let server = TcpEcho::start(to, (address, 0).into())?;
    let tcp = exchange(from, server.address(), b"through the overlay")?;
    Ok((tcp.seen.ip(), tcp.local.ip()))
}

pub fn every_pair() -> Result {
    let cluster = Cluster::fixed("")?;
    let mut pods = cluster.pods()?;
    pods.extend(
        cluster
            .members
            .iter()
            .map(|member| member.add_pod("second"))
            .collect::<Result<Vec<_>>>()?,
    );
    for from in &pods {
        let others = pods.iter().filter(|to| to.addresses != from.addresses);
        for address in others.clone().flat_map(|to| to.addresses.iter()) {
            ping(from.pod.space(), *address)?;
        }
        for to in others {
            for address in &to.addresses {
                let (seen, own) = seen_as(from.pod.space(), to.pod.space(), *address)?;
                ensure!(seen == own, "{own} was seen as {seen} by {address}");
            }
        }
    }
    let status = cluster.members[0].status()?;
    ensure!(status["peers"]["n2"]["path"] == "direct", "{status:#}");
    ensure!(status["peers"]["n3"]["path"] == "vxlan", "{status:#}");
    ensure!(status["peers"]["n3"]["mtu"] == 1450, "{status:#}");
    let screen = cluster.members[0].heddle("status").ok()?;
    ensure!(screen.contains("state: ready"), "{screen}");
    let peers = cluster.members[0].heddle("peers").ok()?;
    let rows = |name: &str| peers.lines().filter(|line| line.starts_with(name)).count();
    ensure!(rows("n2 ") == 1 && rows("n3 ") == 1, "{peers}");
    Ok(())
}

pub fn vxlan_on_the_wire() -> Result {
    let cluster = Cluster::fixed("")?;
    let pods = cluster.pods()?;
    let (from, across, beside) = (
        pods[0].addresses[0],
        pods[2].addresses[0],
        pods[1].addresses[0],
    );
    let seen_on = |switch: &str, to: IpAddr| -> Result<(usize, usize)> {
        let capture = Capture::start(cluster.fabric.space(), Some(switch))?;
        ping(pods[0].pod.space(), to)?;
        let packets = capture.stop()?;
        let inner = packets
            .iter()
            .filter_map(|packet| packet.vxlan.as_ref())
            .map(|vxlan| &vxlan.inner);
        let carried = inner.filter(|inner| inner.is_between(from, to)).count();
        let naked = packets
            .iter()
            .filter(|packet| packet.is_between(from, to))
            .count();
        Ok((carried, naked))
    };
    let (carried, naked) = seen_on("sw2", across)?;
    ensure!(
        carried > 0 && naked == 0,
        "{carried} packets in VXLAN, {naked} outside of it"
    );
    let (carried, naked) = seen_on("n2", beside)?;
    ensure!(
        carried == 0 && naked > 0,
        "{carried} packets in VXLAN, {naked} outside of it, on one switch"
    );
    Ok(())
}

/// A host in the router's place, which knows no pod: it can answer the node only.
pub fn egress() -> Result {
    let cluster = Cluster::fixed("masquerade_exclude = [\"198.51.100.0/24\"]")?;
    let pods = cluster.pods()?;
    let world = cluster.fabric.space();
    sh(
        world,
        "ip address add 203.0.113.1/32 dev lo\n\
         ip address add 198.51.100.1/32 dev lo\n\
         ip -6 address add 2001:db8::1/128 dev lo\n\
         ip route add 10.32.1.0/24 via 192.0.1.11\n\
         ip -6 route add fd32:0:0:1::/64 via fd00:1::11",
    )?;
    let pod = pods[0].pod.space();
    for (address, node) in [("203.0.113.1", "192.0.1.11"), ("2001:db8::1", "fd00:1::11")] {
        let (seen, own) = seen_as(pod, world, address.parse()?)?;
        ensure!(
            seen == node.parse::<IpAddr>()?,
            "{own} was seen as {seen} by {address}, not as {node}"
        );
    }
    let (seen, own) = seen_as(pod, world, "198.51.100.1".parse()?)?;
    ensure!(
        seen == own,
        "{own} was seen as {seen}, though the destination is excluded"
    );
    Ok(())
}

pub fn nodes_and_pods() -> Result {
    let cluster = Cluster::fixed("")?;
    let pods = cluster.pods()?;
    for (member, (switch, host)) in cluster.members.iter().zip([(1, 11), (1, 12), (2, 13)]) {
        for placed in &pods {
            for address in &placed.addresses {
                ping(member.node.space(), *address)
                    .with_context(|| format!("{} to {address}", member.node.name()))?;
                let server = TcpEcho::start(placed.pod.space(), (*address, 0).into())?;
                exchange(member.node.space(), server.address(), b"from a node")?;
            }
            for text in [
                format!("192.0.{switch}.{host}"),
                format!("fd00:{switch}::{host}"),
            ] {
                let node: IpAddr = text.parse()?;
                ping(placed.pod.space(), node).with_context(|| format!("a pod to node {node}"))?;
            }
        }
    }
    Ok(())
}

pub fn ipv6_underlay() -> Result {
    let cluster = Cluster::on_ipv6()?;
    let pods = cluster.pods()?;
    for from in &pods {
        for to in pods.iter().filter(|to| to.addresses != from.addresses) {
            for address in &to.addresses {
                ping(from.pod.space(), *address)?;
            }
        }
    }
    let status = cluster.members[0].status()?;
    // 40 bytes of IPv6, 8 of UDP, 8 of VXLAN, 14 of Ethernet.
    ensure!(status["mtu"] == 1430, "{status:#}");
    ensure!(status["peers"]["n3"]["mtu"] == 1430, "{status:#}");
    Ok(())
}

/// A host on the switch that is no member sends well-formed VXLAN packets to a pod.
pub fn strangers() -> Result {
    let mut cluster = Cluster::fixed("")?;
    let pods = cluster.pods()?;
    let (pod, address) = (pods[0].pod.clone(), pods[0].addresses[0]);
    let mac = sh(
        cluster.members[0].node.space(),
        "cat /sys/class/net/vxlan.heddle/address",
    )?;
    let inject = format!(
        "ip link add name evil up type vxlan id 1 local 192.0.1.1 dstport 8472 nolearning\n\
         ip address add 10.99.0.1/32 dev evil\n\
         ip route add 10.32.1.0/24 via 10.99.0.2 dev evil onlink\n\
         ip neighbour add 10.99.0.2 lladdr {mac} dev evil nud permanent\n\
         bridge fdb append {mac} dev evil dst 192.0.1.11 self",
        mac = mac.trim()
    );
    sh(cluster.fabric.space(), &inject)?;
    let stranger: IpAddr = "10.99.0.1".parse()?;
    let injected = |near: IpAddr| -> Result<usize> {
        let capture = Capture::start(pod.space(), Some("eth0"))?;
        cluster.fabric.space().run(|| -> Result {
            let socket = std::net::UdpSocket::bind("10.99.0.1:0")?;
            for _ in 0..10 {
                socket.send_to(b"injected", (address, 7))?;
            }
            Ok(())
        })?;
        // What comes later from a member is through: so would be what came before.
        ping(pods[1].pod.space(), near)?;
        let packets = capture.stop()?;
        Ok(packets
            .iter()
            .filter(|packet| packet.is_between(stranger, address))
            .count())
    };
    let through = injected(address)?;
    ensure!(
        through == 0,
        "{through} packets of a stranger reached the pod"
    );
    // And they do arrive where nobody keeps them out.
    let member = &mut cluster.members[0];
    member.stop(false)?;
    sh(member.node.space(), "nft delete table inet heddle")?;
    let through = injected(address)?;
    ensure!(
        through == 10,
        "only {through} of 10 packets arrived without the rules: this test shows nothing"
    );
    Ok(())
}

/// The way to the third node is narrower than the rest.
pub fn narrow_path() -> Result {
    let cluster = Cluster::fixed("")?;
    let first = &cluster.members[0];
    sh(
        first.node.space(),
        "ip route add 192.0.2.0/24 via 192.0.1.1 mtu 1400",
    )?;
    first.wait_for("the narrow path", |status| {
        status["peers"]["n3"]["mtu"] == 1350
    })?;
    let routes = sh(
        first.node.space(),
        "ip route show 10.32.3.0/24; ip -6 route show fd32:0:0:3::/64; ip route show 10.32.2.0/24",
    )?;
    ensure!(routes.matches("mtu 1350").count() == 2, "{routes}");
    sh(first.node.space(), "ip route delete 192.0.2.0/24")?;
    first.wait_for("the wide path", |status| {
        status["peers"]["n3"]["mtu"] == 1450
    })?;
    Ok(())
}
