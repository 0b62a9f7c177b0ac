//! What a bridge network is to its pods: addresses, gateways, routes, masquerading.
use crate::{Lab, address};
use anyhow::Context;
use lab::inspect::{addresses, ip, ip_one, sh};
use lab::probe::{TcpEcho, exchange, ping};
use lab::{Result, Snapshot, conf};
use serde_json::{Value, json};
use std::net::{IpAddr, UdpSocket};
use std::time::Instant;

pub fn pods_reach_each_other_and_the_gateway() -> Result {
    let lab = Lab::new()?;
    let conf = conf::bridge(json!({"isDefaultGateway": true, "ipam": conf::dual_stack()}));
    let (one, first) = lab.add(&conf, "one")?;
    let (two, second) = lab.add(&conf, "two")?;

    let names: Vec<_> = (0..3)
        .map(|index| first["interfaces"][index]["name"].as_str())
        .collect();
    assert_eq!((names[0], names[2]), (Some("cbr0"), Some("eth0")));
    assert_eq!(first["interfaces"][2]["sandbox"], "/run/netns/one");
    assert_eq!(
        first["ips"][0],
        json!({"address": "10.88.0.2/24", "gateway": "10.88.0.1", "interface": 2})
    );
    assert_eq!(
        first["ips"][1],
        json!({"address": "fd88::2/64", "gateway": "fd88::1", "interface": 2})
    );
    for (index, place) in [
        (0, lab.node.space()),
        (1, lab.node.space()),
        (2, one.space()),
    ] {
        let interface = &first["interfaces"][index];
        let link = ip_one(
            place,
            &format!(
                "link show dev {}",
                interface["name"].as_str().context("a name")?
            ),
        )?;
        assert_eq!(
            (&link["address"], &link["mtu"]),
            (&interface["mac"], &interface["mtu"])
        );
    }
    assert_eq!(
        addresses(lab.node.space(), "cbr0")?,
        ["10.88.0.1/24", "fd88::1/64"]
    );

    for index in 0..2 {
        let to = address(&second, index)?;
        ping(one.space(), to)?;
        let server = TcpEcho::start(two.space(), (to, 0).into())?;
        let tcp = exchange(one.space(), server.address(), &[1; 100_000])?;
        assert_eq!(tcp.local, tcp.seen, "pods see each other's own addresses");
        ping(
            one.space(),
            first["ips"][index]["gateway"]
                .as_str()
                .context("a gateway")?
                .parse()?,
        )?;
    }
    for key in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
        assert_eq!(
            lab.node
                .run(|| std::fs::read_to_string(format!("/proc/sys/{key}")))?
                .trim(),
            "1",
            "{key}"
        );
    }
    lab.plugins.check(&conf, &one, &first)?.done()?;
    lab.plugins.del(&conf, &one)?.done()?;
    lab.plugins.del(&conf, &two)?.done()
}

pub fn a_bridge_that_is_there_is_used_as_it_is() -> Result {
    let lab = Lab::new()?;
    sh(
        lab.node.space(),
        "ip link add cbr0 mtu 1400 type bridge ageing_time 12345",
    )?;
    let before = ip_one(lab.node.space(), "link show dev cbr0")?;
    let (_, result) = lab.add(&conf::bridge(json!({"isGateway": true})), "one")?;
    let after = ip_one(lab.node.space(), "link show dev cbr0")?;
    for key in ["ifindex", "mtu", "ifalias"] {
        assert_eq!(before[key], after[key], "{key}");
    }
    assert_eq!(after["operstate"], "UP");
    assert_eq!(
        result["interfaces"][2]["mtu"], 1400,
        "the pod's MTU is the bridge's"
    );
    // Somebody else's device of that name is left alone, and named.
    sh(
        lab.node.space(),
        "ip link add notabridge type veth peer name other",
    )?;
    let pod = lab.node.pod("two")?;
    let before = Snapshot::of(lab.node.space())?;
    let (code, message) = lab
        .plugins
        .add(&conf::bridge(json!({"bridge": "notabridge"})), &pod)?
        .failure()?;
    assert!(
        code == 7 && message.contains("notabridge") && message.contains("veth"),
        "{code}: {message}"
    );
    Snapshot::of(lab.node.space())?.same_as(&before)
}

pub fn layer_2_needs_no_ipam() -> Result {
    let lab = Lab::new()?;
    let conf = conf::bridge(json!({"ipam": null}));
    let (one, result) = lab.add(&conf, "one")?;
    assert_eq!(result["ips"], Value::Null);
    lab.plugins.check(&conf, &one, &result)?.done()?;
    lab.plugins.status(&conf)?.done()?;
    assert_eq!(
        ip_one(one.space(), "link show dev eth0")?["operstate"],
        "UP"
    );
    assert_eq!(addresses(lab.node.space(), "cbr0")?, [""; 0]);
    lab.plugins.del(&conf, &one)?.done()
}

pub fn several_gateways_live_on_one_bridge() -> Result {
    let lab = Lab::new()?;
    let ipam = json!({"type": "host-local", "ranges": [[{"subnet": "10.88.0.0/24"}], [{"subnet": "10.89.0.0/24"}], [{"subnet": "fd88::/64"}]]});
    let conf = conf::bridge(json!({"isGateway": true, "ipam": ipam}));
    let (one, result) = lab.add(&conf, "one")?;
    assert_eq!(
        addresses(lab.node.space(), "cbr0")?,
        ["10.88.0.1/24", "10.89.0.1/24", "fd88::1/64"]
    );
    for gateway in ["10.88.0.1", "10.89.0.1", "fd88::1"] {
        ping(one.space(), gateway.parse()?)?;
    }
    lab.plugins.check(&conf, &one, &result)?.done()
}

pub fn a_default_route_is_not_added_twice() -> Result {
    let lab = Lab::new()?;
    let mut ipam = conf::dual_stack();
    ipam["routes"] = json!([{"dst": "0.0.0.0/0"}]);
    let conf = conf::bridge(json!({"isDefaultGateway": true, "ipam": ipam}));
    let (one, result) = lab.add(&conf, "one")?;
    for family in ["-4", "-6"] {
        let routes = ip(one.space(), &format!("{family} route show default"))?;
        assert_eq!(routes.len(), 1, "{family}: {routes:?}");
    }
    lab.plugins.check(&conf, &one, &result)?.done()
}

pub fn a_conflicting_gateway_is_refused_or_replaced() -> Result {
    let lab = Lab::new()?;
    sh(
        lab.node.space(),
        "ip link add cbr0 type bridge; ip address add 10.88.0.254/24 dev cbr0; ip address add 192.0.2.1/24 dev cbr0",
    )?;
    let pod = lab.node.pod("one")?;
    let before = Snapshot::of(lab.node.space())?;
    let (code, message) = lab
        .plugins
        .add(&conf::bridge(json!({"isGateway": true})), &pod)?
        .failure()?;
    assert_eq!(code, 7);
    for part in [
        "cbr0",
        "already has an IP address different from 10.88.0.1/24",
        "10.88.0.254/24",
        "forceAddress",
    ] {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
    // Up is what adopting a bridge leaves; everything else is as it was.
    let ours = ["\"cbr0\"", "/var/lib/cni"];
    Snapshot::of(lab.node.space())?
        .without(&ours)
        .same_as(&before.without(&ours))?;
    lab.plugins
        .add(
            &conf::bridge(json!({"isGateway": true, "forceAddress": true})),
            &pod,
        )?
        .done()?;
    assert_eq!(
        addresses(lab.node.space(), "cbr0")?,
        ["192.0.2.1/24", "10.88.0.1/24"],
        "the disjoint subnet stays"
    );
    Ok(())
}

pub fn routes_keep_their_attributes() -> Result {
    let lab = Lab::new()?;
    let mut ipam = conf::dual_stack();
    ipam["routes"] = json!([
        {"dst": "192.0.2.0/24", "gw": "10.88.0.9", "mtu": 1280, "advmss": 1200, "priority": 77},
        {"dst": "198.51.100.0/24", "table": 100},
        {"dst": "203.0.113.0/24", "scope": 253},
        {"dst": "2001:db8::/32", "priority": 5},
    ]);
    let conf = conf::bridge(json!({"isGateway": true, "ipam": ipam}));
    let (one, result) = lab.add(&conf, "one")?;
    let route = ip_one(one.space(), "route show 192.0.2.0/24")?;
    assert_eq!(
        (&route["gateway"], &route["metric"]),
        (&json!("10.88.0.9"), &json!(77)),
        "{route}"
    );
    let metrics = route["metrics"].to_string();
    assert!(
        metrics.contains("1280") && metrics.contains("1200"),
        "{route}"
    );
    assert_eq!(
        ip_one(one.space(), "route show table 100")?["gateway"],
        "10.88.0.1"
    );
    assert_eq!(
        ip_one(one.space(), "-6 route show 2001:db8::/32")?["metric"],
        5
    );
    lab.plugins.check(&conf, &one, &result)?.done()?;
    sh(one.space(), "ip route delete 198.51.100.0/24 table 100")?;
    let (_, message) = lab.plugins.check(&conf, &one, &result)?.failure()?;
    assert!(message.contains("198.51.100.0/24"), "{message}");
    Ok(())
}

pub fn only_what_leaves_the_subnet_is_masqueraded() -> Result {
    let lab = Lab::new()?;
    let world = lab.node.pod("world")?;
    sh(
        lab.node.space(),
        "ip link add up0 type veth peer name eth0 netns world; ip link set up0 up; ip address add 192.0.2.1/24 dev up0; ip address add 2001:db8::1/64 dev up0 nodad",
    )?;
    // The world has no way back to the pods: without masquerading nothing is answered.
    sh(
        world.space(),
        "ip link set eth0 up; ip address add 192.0.2.2/24 dev eth0; ip address add 2001:db8::2/64 dev eth0 nodad",
    )?;
    let conf =
        conf::bridge(json!({"isDefaultGateway": true, "ipMasq": true, "ipam": conf::dual_stack()}));
    let (one, result) = lab.add(&conf, "one")?;
    let (two, second) = lab.add(&conf, "two")?;
    for (index, (outside, host)) in [("192.0.2.2", "192.0.2.1"), ("2001:db8::2", "2001:db8::1")]
        .into_iter()
        .enumerate()
    {
        let server = TcpEcho::start(world.space(), (outside.parse::<IpAddr>()?, 0).into())?;
        let tcp = exchange(one.space(), server.address(), b"hello")?;
        assert_eq!(
            tcp.seen.ip(),
            host.parse::<IpAddr>()?,
            "the world sees the host"
        );
        let server = TcpEcho::start(two.space(), (address(&second, index)?, 0).into())?;
        let tcp = exchange(one.space(), server.address(), b"hello")?;
        assert_eq!(tcp.seen, tcp.local, "a pod sees the pod");
    }
    lab.plugins.check(&conf, &one, &result)?.done()?;
    lab.plugins.del(&conf, &two)?.done()?;
    let server = TcpEcho::start(world.space(), "192.0.2.2:0".parse()?)?;
    exchange(one.space(), server.address(), b"still")?;
    sh(lab.node.space(), "nft flush ruleset")?;
    let (_, message) = lab.plugins.check(&conf, &one, &result)?.failure()?;
    assert!(message.contains("not masqueraded"), "{message}");
    lab.plugins.del(&conf, &one)?.done()?;
    assert_eq!(
        lab::inspect::ruleset(lab.node.space())?.trim(),
        "",
        "the last pod takes the table along"
    );
    Ok(())
}

pub fn ipv6_is_usable_when_add_returns() -> Result {
    for probing in [false, true] {
        let lab = Lab::new()?;
        let conf = conf::bridge(
            json!({"isDefaultGateway": true, "enabledad": probing, "ipam": conf::dual_stack()}),
        );
        let pod = lab.node.pod("one")?;
        sh(
            pod.space(),
            "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6",
        )?;
        let result = lab.plugins.add(&conf, &pod)?.result()?;
        let own = address(&result, 1)?;
        pod.run(|| UdpSocket::bind((own, 0)))
            .with_context(|| format!("enabledad {probing}: {own} cannot be bound"))?;
        let shown = ip_one(pod.space(), "-6 address show dev eth0 scope global")?.to_string();
        assert_eq!(shown.contains("nodad"), !probing, "{shown}");
        ping(pod.space(), "fd88::1".parse()?)?;
    }
    Ok(())
}

/// The kernel waits for each link that goes; for many they are not one after the other.
pub fn gc_of_many_waits_for_few() -> Result {
    const STALE: u32 = 32;
    const SINGLE: u32 = 4;
    let lab = Lab::new()?;
    let conf = conf::bridge(json!({}));
    let pods = (0..SINGLE).map(|number| lab.add(&conf, &format!("single{number}")));
    let pods: Vec<_> = pods.collect::<Result<_>>()?;
    let start = Instant::now();
    for (pod, _) in &pods {
        lab.plugins.del(&conf, pod)?.done()?;
    }
    let single = start.elapsed() / SINGLE;
    let (living, result) = lab.add(&conf, "living")?;
    for number in 0..STALE {
        lab.add(&conf, &format!("stale{number}"))?;
    }
    let start = Instant::now();
    lab.plugins.gc(&conf, &[("living", "eth0")])?.done()?;
    let all = start.elapsed();
    let left = sh(lab.node.space(), "ip -br link show type veth")?;
    assert_eq!(left.lines().count(), 1, "{left}");
    lab.plugins.check(&conf, &living, &result)?.done()?;
    let at_most = single * STALE / 2;
    assert!(all < at_most, "{all:?} for {STALE}, {single:?} for one");
    Ok(())
}
