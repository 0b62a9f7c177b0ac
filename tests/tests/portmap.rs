//! `portmap`: who reaches a pod by a port of the host, from where, and what is left of it afterwards.
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use lab::chain::{Attached, Chain};
use lab::inspect::{ruleset, sh};
use lab::probe::{TcpEcho, UdpEcho, exchange};
use lab::{Case, Need, Result, Space, conf, with_prev};
use serde_json::{Value, json};

fn main() -> ExitCode {
    let needs = [Need::HeddleCni, Need::Program("ip"), Need::Program("nft")];
    let case = |name, body| Case::new(name, body).needs(needs);
    lab::main([
        case("reached_from_everywhere", reached_from_everywhere),
        case(
            "only_the_host_address_asked_for",
            only_the_host_address_asked_for,
        ),
        case("transit_is_not_captured", transit_is_not_captured),
        case("sources_are_kept_or_hidden", sources_are_kept_or_hidden),
        case(
            "conditions_decide_packet_by_packet",
            conditions_decide_packet_by_packet,
        ),
        case(
            "a_taken_port_is_refused_with_its_owner",
            a_taken_port_is_refused_with_its_owner,
        ),
        case("localhost_is_guarded", localhost_is_guarded),
        case("udp_follows_the_mapping", udp_follows_the_mapping),
        case("no_ports_no_work", no_ports_no_work),
        case("bad_configurations", bad_configurations),
        case("check_sees_what_is_missing", check_sees_what_is_missing),
        case(
            "gc_removes_the_stale_and_nothing_else",
            gc_removes_the_stale_and_nothing_else,
        ),
        case("beside_masquerading", beside_masquerading),
        case("del_in_every_condition", del_in_every_condition),
        case("add_with_each_call_failing", add_with_each_call_failing)
            .needs([Need::Program("strace")]),
        case(
            "an_add_does_not_grow_with_the_ports",
            an_add_does_not_grow_with_the_ports,
        )
        .needs([Need::Program("strace")]),
    ])
}

/// The plugin with ports `[hostPort, containerPort, protocol, hostIP]` and other keys.
fn portmap(ports: &[(u16, u16, &str, &str)], changes: Value) -> Value {
    let ports: Vec<_> = ports
        .iter()
        .map(|(host, container, protocol, ip)| {
            json!({"hostPort": host, "containerPort": container, "protocol": protocol, "hostIP": ip})
        })
        .collect();
    let plain = json!({
        "cniVersion": "1.1.0", "name": "lab", "type": "portmap", "capabilities": {"portMappings": true},
        "runtimeConfig": {"portMappings": ports},
    });
    conf::with(plain, changes)
}

fn at(ip: &str, port: u16) -> Result<SocketAddr> {
    Ok(SocketAddr::new(ip.parse()?, port))
}

/// Whom the pod sees when `from` talks to an address.
fn seen(from: &Space, to: SocketAddr) -> Result<IpAddr> {
    Ok(exchange(from, to, b"hello")?.seen.ip())
}

fn serve(pod: &Attached, port: u16) -> Result<[TcpEcho; 2]> {
    Ok([
        TcpEcho::start(pod.pod.space(), at("0.0.0.0", port)?)?,
        TcpEcho::start(pod.pod.space(), SocketAddr::new(pod.address(1)?, port))?,
    ])
}

fn reached_from_everywhere() -> Result {
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

fn only_the_host_address_asked_for() -> Result {
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

fn transit_is_not_captured() -> Result {
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

fn sources_are_kept_or_hidden() -> Result {
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

fn conditions_decide_packet_by_packet() -> Result {
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

fn a_taken_port_is_refused_with_its_owner() -> Result {
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

fn localhost_is_guarded() -> Result {
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
fn udp_follows_the_mapping() -> Result {
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

fn no_ports_no_work() -> Result {
    let chain = Chain::new()?;
    let pod = chain.attach("pod")?;
    let before = chain.snapshot()?;
    for conf in [
        portmap(&[], json!({})),
        portmap(&[], json!({"runtimeConfig": null})),
    ] {
        let call = chain
            .plugins
            .call("ADD", &with_prev(&conf, &pod.result))
            .pod(&pod.pod);
        let reply = if Need::Program("strace").missing().is_none() {
            call.traced()
        } else {
            call
        }
        .send()?;
        assert_eq!(reply.result()?, pod.result);
        assert_eq!(
            (reply.trace.count(&["socket"]), reply.trace.programs()),
            (0, 0)
        );
        chain.check(&conf, &pod)?;
        chain.del(&conf, &pod)?;
    }
    chain.snapshot()?.same_as(&before)
}

fn bad_configurations() -> Result {
    let chain = Chain::new()?;
    let pod = chain.attach("pod")?;
    for (conf, part) in [
        (portmap(&[(0, 80, "tcp", "")], json!({})), "hostPort 0"),
        (portmap(&[(80, 80, "icmp", "")], json!({})), "icmp"),
        (
            portmap(&[(80, 80, "tcp", "here")], json!({})),
            "hostIP \"here\"",
        ),
        (
            portmap(&[(80, 80, "tcp", "")], json!({"markMasqBit": 32})),
            "markMasqBit",
        ),
        (
            portmap(
                &[(80, 80, "tcp", "")],
                json!({"markMasqBit": 3, "externalSetMarkChain": "X"}),
            ),
            "externalSetMarkChain",
        ),
        (
            portmap(&[(80, 80, "tcp", "")], json!({"backend": "ipfw"})),
            "ipfw",
        ),
        (
            portmap(
                &[(80, 80, "tcp", "")],
                json!({"conditionsV4": ["-m", "set"]}),
            ),
            "ip saddr [!=] ADDRESS",
        ),
        (
            portmap(&[(80, 80, "tcp", ""), (80, 81, "tcp", "")], json!({})),
            "80/tcp is to lead to two places",
        ),
        (
            portmap(
                &[],
                json!({"runtimeConfig": {"portMappings": [{"hostPort": 70000, "containerPort": 1}]}}),
            ),
            "70000",
        ),
    ] {
        let (code, message) = chain.refused(&conf, &pod)?;
        ensure!(
            code == 7 && message.contains(part),
            "{code}: {message} lacks {part:?}"
        );
    }
    let alone = portmap(&[(80, 80, "tcp", "")], json!({}));
    let (code, message) = chain.plugins.add(&alone, &pod.pod)?.failure()?;
    ensure!(
        code == 7 && message.contains("chained"),
        "{code}: {message}"
    );
    chain.plugins.status(&alone)?.done()
}

fn check_sees_what_is_missing() -> Result {
    for damage in [
        "nft flush map inet heddle_cni hostports4",
        "nft flush map inet heddle_cni hostport_policies4",
        "nft flush chain inet heddle_cni hostports_prerouting",
        "nft flush chain inet heddle_cni hostports_masquerade",
        "nft flush chain inet heddle_cni hostports_guard",
        "nft flush chain inet heddle_cni portmap-masquerade-13",
        "echo 0 > /proc/sys/net/ipv4/conf/cbr0/route_localnet",
        "nft flush ruleset",
    ] {
        let chain = Chain::new()?;
        let pod = chain.attach("pod")?;
        let conf = portmap(&[(8080, 80, "tcp", "")], json!({}));
        chain.add(&conf, &pod)?;
        chain.check(&conf, &pod)?;
        sh(chain.node.space(), damage)?;
        let before = chain.snapshot()?;
        let message = chain.complaint(&conf, &pod).with_context(|| damage)?;
        ensure!(message.contains("port"), "{damage}: {message}");
        chain.snapshot()?.same_as(&before)?;
        chain.del(&conf, &pod).with_context(|| damage)?;
    }
    Ok(())
}

fn gc_removes_the_stale_and_nothing_else() -> Result {
    let chain = Chain::new()?;
    let pods = ["live", "stale1", "stale2", "elsewhere"];
    let pods: Vec<_> = pods
        .iter()
        .map(|name| chain.attach(name))
        .collect::<Result<_>>()?;
    let ports = |port| [(port, 80, "tcp", ""), (port, 80, "udp", "192.0.2.1")];
    let other = portmap(&ports(2000), json!({"name": "other"}));
    chain.add(&portmap(&ports(1000), json!({})), &pods[0])?;
    chain.add(&other, &pods[3])?;
    let before = chain.snapshot()?;
    chain.add(
        &portmap(
            &ports(1001),
            json!({"conditionsV4": ["ip saddr 10.0.0.0/8"]}),
        ),
        &pods[1],
    )?;
    chain.add(&portmap(&ports(1002), json!({"snat": false})), &pods[2])?;
    let full = chain.snapshot()?;
    let conf = portmap(&[], json!({}));
    chain.plugins.call("GC", &conf).send()?.done()?;
    chain.snapshot()?.same_as(&full)?;
    for _ in 0..2 {
        chain.plugins.gc(&conf, &[("live", "eth0")])?.done()?;
        chain.snapshot()?.same_as(&before)?;
    }
    chain.plugins.gc(&conf, &[])?.done()?;
    chain.del(&other, &pods[3])?;
    assert_eq!(ruleset(chain.node.space())?.trim(), "");
    Ok(())
}

/// Both have parts of one table: neither takes the other's along.
fn beside_masquerading() -> Result {
    let masquerading = conf::bridge(json!({
        "name": "masq", "bridge": "cbr1", "isDefaultGateway": true, "ipMasq": true,
        "ipam": {"type": "host-local", "subnet": "10.99.0.0/24"},
    }));
    let conf = portmap(&[(8080, 80, "tcp", "")], json!({}));
    for ports_first in [true, false] {
        let chain = Chain::new()?;
        let (pod, masqueraded) = (chain.attach("pod")?, chain.node.pod("masqueraded")?);
        if ports_first {
            chain.add(&conf, &pod)?;
        }
        let result = chain.plugins.add(&masquerading, &masqueraded)?.result()?;
        if ports_first {
            chain.plugins.del(&masquerading, &masqueraded)?.done()?;
            chain.check(&conf, &pod)?;
            chain.del(&conf, &pod)?;
        } else {
            chain.add(&conf, &pod)?;
            chain.del(&conf, &pod)?;
            chain
                .plugins
                .check(&masquerading, &masqueraded, &result)?
                .done()?;
            chain.plugins.del(&masquerading, &masqueraded)?.done()?;
        }
        assert_eq!(
            ruleset(chain.node.space())?.trim(),
            "",
            "the last takes the table along"
        );
    }
    Ok(())
}

fn everything() -> Value {
    portmap(
        &[
            (8080, 80, "tcp", ""),
            (8080, 80, "udp", "192.0.2.1"),
            (9090, 90, "sctp", "2001:db8::1"),
        ],
        json!({"conditionsV4": ["ip", "saddr", "!=", "10.0.0.0/8"]}),
    )
}

fn del_in_every_condition() -> Result {
    Chain::new()?.del_in_every_condition(&everything())?;
    // Beside a pod that stays.
    let chain = Chain::new()?;
    chain.add(
        &portmap(&[(1, 1, "tcp", "")], json!({})),
        &chain.attach("stays")?,
    )?;
    chain.del_in_every_condition(&everything())
}

fn add_with_each_call_failing() -> Result {
    Chain::new()?.add_with_each_call_failing(&everything())
}

fn an_add_does_not_grow_with_the_ports() -> Result {
    let chain = Chain::new()?;
    let (many, pod) = (chain.attach("many")?, chain.attach("pod")?);
    let cost = |port| -> Result<usize> {
        let conf = with_prev(&portmap(&[(port, 80, "tcp", "")], json!({})), &pod.result);
        let reply = chain
            .plugins
            .call("ADD", &conf)
            .pod(&pod.pod)
            .traced()
            .send()?;
        reply.done()?;
        chain.plugins.del(&conf, &pod.pod)?.done()?;
        Ok(reply.trace.names().count())
    };
    let ports: Vec<_> = (10_000..12_000).map(|port| (port, 80, "tcp", "")).collect();
    chain.add(&portmap(&ports[..10], json!({})), &many)?;
    let few = cost(1)?;
    let conf = portmap(&ports, json!({}));
    chain.add(&conf, &many)?;
    chain.check(&conf, &many)?;
    let lots = cost(1)?;
    ensure!(
        few.abs_diff(lots) < 10,
        "{few} calls beside 10 ports, {lots} beside 2000"
    );
    chain.del(&conf, &many)?;
    assert_eq!(ruleset(chain.node.space())?.trim(), "");
    Ok(())
}
