//! Packets: who reaches a pod by a port of the host, from where, and whom the pod sees.
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, ensure};
use lab::Result;
use lab::chain::{Attached, Chain};
use lab::inspect::sh;
use lab::probe::{TcpEcho, UdpEcho};
use serde_json::json;

use crate::{at, portmap, seen, serve};

pub fn reached_from_everywhere() -> Result {
    let chain = Chain::new()?;
    let (pod, other) = (chain.attach("pod")?, chain.attach("other")?);
    let _servers = serve(&pod, 80)?;
    let conf = portmap(&[(8080, 80, "tcp", "")], json!({}));
    let before = chain.snapshot()?;
    let printed = chain.add(&conf, &pod)?;
    assert_eq!(printed, pod.result, "the result is passed through");
    for (host, outside) in [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")] {
        let to = at(host, 8080)?;
        let from = seen(chain.world.space(), to).context("from the world")?;
        assert_eq!(from, outside.parse::<IpAddr>()?, "the pod sees the client");
        seen(chain.node.space(), to).context("from the host")?;
        seen(other.pod.space(), to).context("from another pod")?;
        seen(pod.pod.space(), to).context("from the pod itself")?;
    }
    seen(chain.node.space(), at("127.0.0.1", 8080)?).context("from 127.0.0.1")?;
    chain.check(&conf, &pod)?;
    // A second network of the same pod, and an ADD for the second time.
    chain.add(&conf, &pod)?;
    chain.check(&conf, &pod)?;
    chain.del(&conf, &pod)?;
    chain.snapshot()?.same_as(&before)?;
    ensure!(
        seen(chain.world.space(), at("192.0.2.1", 8080)?).is_err(),
        "still reached"
    );
    Ok(())
}

pub fn only_the_host_address_asked_for() -> Result {
    let chain = Chain::new()?;
    sh(chain.node.space(), "ip address add 192.0.2.9/24 dev up0")?;
    let (pod, other) = (chain.attach("pod")?, chain.attach("other")?);
    let _servers = (serve(&pod, 80)?, serve(&other, 80)?);
    let one = portmap(&[(8080, 80, "tcp", "192.0.2.9")], json!({}));
    chain.add(&one, &pod)?;
    seen(chain.world.space(), at("192.0.2.9", 8080)?)?;
    ensure!(
        seen(chain.world.space(), at("192.0.2.1", 8080)?).is_err(),
        "another address"
    );
    ensure!(
        seen(chain.world.space(), at("2001:db8::1", 8080)?).is_err(),
        "another family"
    );
    // The wildcard is for the rest: what is for one address goes before it.
    chain.add(&portmap(&[(8080, 80, "TCP", "0.0.0.0")], json!({})), &other)?;
    let told = |ip: &str| -> Result<bool> {
        let before = conntrack(&chain, pod.address(0)?)?;
        seen(chain.world.space(), at(ip, 8080)?)?;
        Ok(conntrack(&chain, pod.address(0)?)? > before)
    };
    ensure!(told("192.0.2.9")?, "192.0.2.9 leads elsewhere");
    ensure!(!told("192.0.2.1")?, "192.0.2.1 leads to the first pod");
    chain.check(&one, &pod)
}

/// How many connections are tracked that a pod answers.
fn conntrack(chain: &Chain, pod: IpAddr) -> Result<usize> {
    let table = chain
        .node
        .run(|| std::fs::read_to_string("/proc/thread-self/net/nf_conntrack"))?;
    Ok(table.matches(&format!("src={pod} ")).count())
}

pub fn transit_is_not_captured() -> Result {
    let chain = Chain::new()?;
    let (pod, other) = (chain.attach("pod")?, chain.attach("other")?);
    chain.add(&portmap(&[(8080, 80, "tcp", "")], json!({})), &pod)?;
    // The same port of somebody else, by way of the node.
    let server = TcpEcho::start(chain.world.space(), at("192.0.2.2", 8080)?)?;
    seen(other.pod.space(), server.address())?;
    let server = TcpEcho::start(other.pod.space(), SocketAddr::new(other.address(0)?, 8080))?;
    seen(chain.world.space(), server.address())?;
    Ok(())
}

pub fn sources_are_kept_or_hidden() -> Result {
    let gateway: IpAddr = "10.88.0.1".parse()?;
    for (changes, from_pod, from_world) in [
        (json!({}), Some(gateway), "192.0.2.2"),
        (json!({"markMasqBit": 3}), Some(gateway), "192.0.2.2"),
        (json!({"snat": false}), None, "192.0.2.2"),
        (json!({"masqAll": true}), Some(gateway), "10.88.0.1"),
        (
            json!({"backend": "iptables", "externalSetMarkChain": "KUBE-MARK-MASQ"}),
            Some(gateway),
            "192.0.2.2",
        ),
    ] {
        let chain = Chain::new()?;
        let (pod, other) = (chain.attach("pod")?, chain.attach("other")?);
        let _servers = serve(&pod, 80)?;
        let conf = portmap(&[(8080, 80, "tcp", "")], changes.clone());
        chain.add(&conf, &pod)?;
        chain.check(&conf, &pod)?;
        let to = at("192.0.2.1", 8080)?;
        assert_eq!(
            seen(chain.world.space(), to)?,
            from_world.parse::<IpAddr>()?,
            "{changes}"
        );
        match from_pod {
            Some(expected) => assert_eq!(seen(other.pod.space(), to)?, expected, "{changes}"),
            None => ensure!(
                seen(chain.node.space(), at("127.0.0.1", 8080)?).is_err(),
                "127.0.0.1 needs snat"
            ),
        }
    }
    Ok(())
}

pub fn conditions_decide_packet_by_packet() -> Result {
    let chain = Chain::new()?;
    sh(chain.world.space(), "ip address add 192.0.2.66/32 dev lo")?;
    let pod = chain.attach("pod")?;
    let _servers = serve(&pod, 80)?;
    let before = chain.snapshot()?;
    for words in [
        json!(["ip", "saddr", "!=", "192.0.2.2/32"]),
        json!(["!", "-s", "192.0.2.2/32"]),
    ] {
        let conf = portmap(
            &[(8080, 80, "tcp", "")],
            json!({"conditionsV4": words, "conditionsV6": ["ip6 saddr 2001:db8::2"]}),
        );
        chain.add(&conf, &pod)?;
        chain.check(&conf, &pod)?;
        ensure!(
            seen(chain.world.space(), at("192.0.2.1", 8080)?).is_err(),
            "the condition is not met"
        );
        seen(chain.world.space(), at("2001:db8::1", 8080)?)?;
        seen(chain.node.space(), at("192.0.2.1", 8080)?)?;
        chain.del(&conf, &pod)?;
        chain.snapshot()?.same_as(&before)?;
    }
    Ok(())
}

pub fn a_taken_port_is_refused_with_its_owner() -> Result {
    let chain = Chain::new()?;
    let (pod, other) = (chain.attach("pod")?, chain.attach("other")?);
    let conf = portmap(&[(8080, 80, "tcp", ""), (8081, 81, "udp", "")], json!({}));
    chain.add(&conf, &pod)?;
    let wants = portmap(&[(9000, 80, "tcp", ""), (8080, 80, "tcp", "")], json!({}));
    let (code, message) = chain.refused(&wants, &other)?;
    ensure!(code == 7, "{code}");
    for part in ["8080/tcp", "container pod", "network lab"] {
        ensure!(message.contains(part), "{part:?} is not in {message:?}");
    }
    // Another protocol and another address are other ports.
    chain.add(
        &portmap(
            &[(8080, 80, "udp", ""), (8080, 80, "tcp", "127.0.0.1")],
            json!({}),
        ),
        &other,
    )?;
    chain.check(&conf, &pod)?;
    chain.del(&conf, &pod)?;
    chain
        .add(
            &portmap(&[(8080, 80, "tcp", "")], json!({"name": "second"})),
            &other,
        )
        .map(drop)
}

pub fn localhost_is_guarded() -> Result {
    let chain = Chain::new()?;
    let (pod, other) = (chain.attach("pod")?, chain.attach("other")?);
    let secret = TcpEcho::start(chain.node.space(), at("127.0.0.1", 7777)?)?;
    chain.add(&portmap(&[(8080, 80, "tcp", "")], json!({})), &pod)?;
    let open = chain
        .node
        .run(|| std::fs::read_to_string("/proc/sys/net/ipv4/conf/cbr0/route_localnet"))?;
    assert_eq!(open.trim(), "1");
    // A neighbour that sends to 127.0.0.1 on the wire (CVE-2020-8558).
    sh(
        other.pod.space(),
        "ip link set lo down; ip address flush dev lo; echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet\n\
         ip route del local 127.0.0.0/8 table local 2>/dev/null || true\n\
         ip route del local 127.0.0.1 table local 2>/dev/null || true\n\
         ip route add 127.0.0.1/32 via 10.88.0.1 dev eth0",
    )?;
    ensure!(
        seen(other.pod.space(), secret.address()).is_err(),
        "the host's 127.0.0.1 is open to pods"
    );
    sh(
        chain.node.space(),
        "nft flush chain inet heddle_cni hostports_guard",
    )?;
    seen(other.pod.space(), secret.address()).context("nothing else keeps pods out")?;
    // What somebody else has opened stays open.
    let third = chain.attach("third")?;
    chain.del(&portmap(&[], json!({})), &pod)?;
    let key = "/proc/sys/net/ipv4/conf/cbr0/route_localnet";
    assert_eq!(chain.node.run(|| std::fs::read_to_string(key))?.trim(), "0");
    chain.node.run(|| std::fs::write(key, "1"))?;
    let conf = portmap(&[(8080, 80, "tcp", "")], json!({}));
    chain.add(&conf, &third)?;
    chain.del(&conf, &third)?;
    assert_eq!(chain.node.run(|| std::fs::read_to_string(key))?.trim(), "1");
    Ok(())
}

/// One client keeps its port and goes on sending: to the host, to a pod, to the next pod.
pub fn udp_follows_the_mapping() -> Result {
    let chain = Chain::new()?;
    let (one, two) = (chain.attach("one")?, chain.attach("two")?);
    let udp = |pod: &Attached| -> Result<UdpEcho> {
        UdpEcho::start(pod.pod.space(), SocketAddr::new(pod.address(0)?, 53))
    };
    let _servers = (udp(&one)?, udp(&two)?);
    let client = chain
        .world
        .run(|| std::net::UdpSocket::bind("192.0.2.2:5555"))?;
    let bystander = chain
        .world
        .run(|| std::net::UdpSocket::bind("192.0.2.2:5556"))?;
    client.set_read_timeout(Some(std::time::Duration::from_secs(1)))?;
    let answered = || -> Result<bool> {
        client.send_to(b"hello", "192.0.2.1:5353")?;
        Ok(client.recv(&mut [0; 64]).is_ok())
    };
    // A connection that has nothing to do with the mapping but its port.
    bystander.send_to(b"x", SocketAddr::new(two.address(0)?, 5353))?;
    let tracked = |needle: &str| -> Result<bool> {
        let path = "/proc/thread-self/net/nf_conntrack";
        Ok(chain
            .node
            .run(|| std::fs::read_to_string(path))?
            .contains(needle))
    };
    let conf = portmap(&[(5353, 53, "udp", "")], json!({}));
    // Tracked only while rules look at connections: keep some there.
    sh(
        chain.node.space(),
        "nft 'add table inet x; add chain inet x c { type filter hook prerouting priority 0; }; add rule inet x c ct state new counter'",
    )?;
    bystander.send_to(b"x", SocketAddr::new(two.address(0)?, 5353))?;
    ensure!(!answered()?, "nobody is there yet");
    chain.add(&conf, &one)?;
    ensure!(answered()?, "the flow to the host itself went on");
    ensure!(tracked("sport=5556")?, "another's flow was forgotten");
    chain.del(&conf, &one)?;
    ensure!(!answered()?, "the flow went on to the old pod");
    chain.add(&conf, &two)?;
    ensure!(answered()?, "the flow did not go over to the new pod");
    chain.del(&conf, &two)?;
    ensure!(tracked("sport=5556")?, "another's flow was forgotten");
    Ok(())
}
