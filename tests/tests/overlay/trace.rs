//! `heddle trace`: every hop of a packet that arrives, and the one at which another is lost.

pub mod far;
pub mod live;
pub mod many;
pub mod service;

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use lab::inspect::sh;
use lab::overlay::{Cluster, Member, Placed};
use lab::{Result, wait};
use serde_json::Value;

/// A machine that does a lot at once may have no time for the other daemon's first answer.
pub const PATIENCE: Duration = Duration::from_secs(5);

pub fn trace(member: &Member, from: &str, to: &str) -> Result<(bool, Value)> {
    let output = member
        .heddle(&format!("trace {from} {to} --json"))
        .output()?;
    let trace = serde_json::from_str(&output.stdout).with_context(|| format!("{output:?}"))?;
    Ok((output.status.success(), trace))
}

/// The hop with the one mark of a trace.
fn only_mark(trace: &Value) -> Result<&Value> {
    let hops = trace["hops"].as_array().context("hops")?;
    let mut marked = hops.iter().filter(|hop| !hop["problem"].is_null());
    match (marked.next(), marked.next()) {
        (Some(only), None) => Ok(only),
        _ => anyhow::bail!("not one mark: {trace:#}"),
    }
}

fn objects(trace: &Value) -> Vec<String> {
    let hops = trace["hops"].as_array().into_iter().flatten();
    hops.map(|hop| hop["object"].as_str().unwrap_or_default().to_owned())
        .collect()
}

/// The kinds of objects, less names and numbers.
pub fn kinds(trace: &Value) -> Vec<String> {
    let objects = objects(trace).into_iter();
    objects
        .map(|object| object.split(' ').next().unwrap_or_default().to_owned())
        .collect()
}

pub fn arrives(member: &Member, from: &str, to: &str, wanted: &[&str]) -> Result<Value> {
    wait::until(PATIENCE, "every hop", || {
        let (good, trace) = trace(member, from, to)?;
        ensure!(
            good && trace["arrives"] == true && kinds(&trace) == wanted,
            "{trace:#}"
        );
        Ok(trace)
    })
}

pub fn every_way() -> Result {
    let cluster = Cluster::fixed("")?;
    let pods = cluster.pods()?;
    let member = &cluster.members[0];
    let beside = member.add_pod("beside")?;
    let v4 = |placed: &Placed| placed.addresses[0].to_string();
    let v6 = |placed: &Placed| placed.addresses[1].to_string();
    let from_pod = ["route", "veth", "veth", "bridge", "sysctl", "route"];
    let there = ["route", "sysctl", "bridge", "port", "pod"];
    let by_vxlan = [
        &from_pod[..],
        &["nexthop", "neighbour", "FDB", "vxlan", "veth"],
        &there,
    ]
    .concat();
    let direct = [&from_pod[..], &["nexthop", "veth"], &there].concat();
    let near = ["route", "veth", "veth", "bridge", "veth", "veth", "address"];
    for address in [v4, v6] {
        let own = address(&pods[0]);
        let over = arrives(member, &own, &address(&pods[2]), &by_vxlan)?;
        ensure!(over["mtu"] == 1450, "{over:#}");
        let fdb = &over["hops"][8];
        let eth = &over["hops"][1];
        ensure!(
            eth["counters"]["tx_packets"].is_u64() && fdb["counters"].is_null(),
            "{over:#}"
        );
        ensure!(
            fdb["what"] == "dst 192.0.2.13" && fdb["ours"] == true,
            "{fdb:#}"
        );
        arrives(member, &own, &address(&pods[1]), &direct)?;
        arrives(member, &own, &address(&beside), &near)?;
    }
    // Ends by their other names, the node as an end, and what is out of the cluster.
    let netns = pods[0].pod.netns().to_string_lossy().into_owned();
    arrives(member, &netns, &v6(&beside), &near)?;
    named(member, &pods[0])?;
    arrives(member, "shop/web-0", &v6(&beside), &near)?;
    let (_, back) = trace(member, &v6(&beside), "shop/web-0")?;
    ensure!(
        back["dst"] == pods[0].addresses[0].to_string() || back["dst"] == v6(&pods[0]),
        "{back:#}"
    );
    let elsewhere = member.heddle("trace node shop/web-1").output()?;
    ensure!(
        elsewhere
            .stderr
            .contains("shop/web-1 is no pod of this node")
            && elsewhere
                .stderr
                .contains("kubectl -n shop get pod web-1 -o wide"),
        "{elsewhere:?}"
    );
    arrives(
        member,
        "node",
        &v4(&beside),
        &["route", "bridge", "veth", "veth", "address"],
    )?;
    arrives(
        member,
        &v4(&pods[0]),
        "192.0.1.11",
        &["route", "veth", "veth", "bridge", "address"],
    )?;
    arrives(
        member,
        &v4(&pods[0]),
        "198.51.100.1",
        &[&from_pod[..], &["veth", "198.51.100.1"]].concat(),
    )?;
    let screen = member
        .heddle(&format!("trace {netns} {}", v4(&pods[2])))
        .ok()?;
    ensure!(
        screen
            .trim_end()
            .ends_with("arrives; packets of up to 1450 bytes"),
        "{screen}"
    );
    let stranger = member.heddle("trace 10.32.2.99 10.32.1.2").output()?;
    ensure!(
        !stranger.status.success()
            && stranger
                .stderr
                .contains("10.32.2.99 is no pod of this node"),
        "{stranger:?}"
    );
    Ok(())
}

/// Gives a pod a name, as kubelet's runtime keeps it beside the result of ADD.
fn named(member: &Member, placed: &Placed) -> Result {
    let args =
        "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=";
    let mut kept = serde_json::json!({
        "kind": "cniCacheV1", "containerId": "c0ffee", "config": "", "ifName": "eth0", "networkName": "heddle",
        "netns": placed.pod.netns(),
    });
    let pairs = args
        .split(';')
        .map(|pair| pair.split('=').collect::<Vec<_>>());
    kept["cniArgs"] = pairs.collect::<Vec<_>>().into();
    member.node.run(|| -> Result {
        let directory = "/var/lib/cni/results";
        std::fs::create_dir_all(directory)?;
        // A sandbox of the same name that has gone.
        let mut gone = kept.clone();
        gone["netns"] = "/run/netns/gone".into();
        std::fs::write(format!("{directory}/heddle-c0-eth0"), gone.to_string())?;
        Ok(std::fs::write(
            format!("{directory}/heddle-c0ffee-eth0"),
            kept.to_string(),
        )?)
    })
}

/// A fault on the first node, its daemon paused: what is done, where the packet is lost then, why, and what mends it.
struct Fault {
    inject: &'static str,
    to: usize,
    object: &'static str,
    reason: &'static str,
    mend: &'static str,
}

fn faults() -> Vec<Fault> {
    let fault = |inject, to, object, reason, mend| Fault {
        inject,
        to,
        object,
        reason,
        mend,
    };
    vec![
        fault(
            "ip netns exec pod ip route delete default",
            2,
            "route to",
            "the pod has no route",
            "ip netns exec pod ip route add default via 10.32.1.1",
        ),
        fault(
            "ip netns exec pod ip link set eth0 down",
            2,
            "route to",
            "the pod",
            "ip netns exec pod ip link set eth0 up; ip netns exec pod ip route add default via 10.32.1.1",
        ),
        fault(
            "ip link set dev cbr0 down",
            2,
            "bridge cbr0",
            "cbr0 is down",
            "ip link set dev cbr0 up",
        ),
        fault(
            "ip address delete 10.32.1.1/24 dev cbr0",
            2,
            "bridge cbr0",
            "does not have the gateway's address 10.32.1.1",
            "ip address add 10.32.1.1/24 dev cbr0",
        ),
        fault(
            "sysctl -qw net.ipv4.ip_forward=0",
            2,
            "sysctl net/ipv4/ip_forward",
            "does not forward",
            "sysctl -qw net.ipv4.ip_forward=1",
        ),
        fault(
            "nft 'table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }'",
            2,
            "iptables's chain FORWARD",
            "its policy is DROP",
            "nft delete table ip filter",
        ),
        fault(
            "ip route delete 10.32.3.0/24",
            2,
            "route 0.0.0.0/0",
            "is missing, and the packet leaves the cluster",
            "",
        ),
        fault(
            "ip route add blackhole 10.32.3.0/25",
            2,
            "route 10.32.3.0/25",
            "a blackhole route drops what goes to 10.32.3.0/25",
            "ip route delete blackhole 10.32.3.0/25",
        ),
        fault(
            "ip netns exec pod ip route add prohibit 10.32.0.0/16",
            2,
            "route 10.32.0.0/16",
            "a prohibit route drops",
            "ip netns exec pod ip route delete prohibit 10.32.0.0/16",
        ),
        fault(
            "ip route add unreachable 192.0.2.13",
            2,
            "route 192.0.2.13/32",
            "an unreachable route drops",
            "ip route delete unreachable 192.0.2.13",
        ),
        fault(
            "ip -6 neighbour flush nud permanent dev vxlan.heddle",
            2,
            "neighbour",
            "does not know the MAC",
            "",
        ),
        fault(
            "bridge fdb show dev vxlan.heddle | while read mac rest; do bridge fdb del $mac dev vxlan.heddle; done",
            2,
            "FDB",
            "does not know which peer",
            "",
        ),
        fault(
            "ip link set dev eth0 down",
            2,
            "route to",
            "has no route to 192.0.2.13",
            "ip link set dev eth0 up; ip route add default via 192.0.1.1",
        ),
        fault(
            "for port in /sys/class/net/cbr0/brif/*; do bridge link set dev ${port##*/} isolated on; done",
            3,
            "veth",
            "are isolated ports",
            "for port in /sys/class/net/cbr0/brif/*; do bridge link set dev ${port##*/} isolated off; done",
        ),
        fault(
            "sysctl -qw net.ipv4.conf.cbr0.proxy_arp=1",
            3,
            "sysctl net/ipv4/conf/cbr0/proxy_arp",
            "answers ARP",
            "sysctl -qw net.ipv4.conf.cbr0.proxy_arp=0",
        ),
    ]
}

pub fn every_fault() -> Result {
    let cluster = Cluster::fixed("")?;
    let mut pods = cluster.pods()?;
    let member = &cluster.members[0];
    pods.push(member.add_pod("beside")?);
    let from = pods[0].addresses[0].to_string();
    let to = |index: usize| -> IpAddr { pods[index].addresses[0] };
    for fault in faults() {
        member.pause(true)?;
        sh(member.node.space(), fault.inject).context(fault.inject)?;
        let (good, trace) = trace(member, &from, &to(fault.to).to_string())?;
        let hops = trace["hops"].as_array().context("hops")?;
        let last = hops.last().context("no hop")?;
        let has =
            |value: &Value, wanted: &str| value.as_str().is_some_and(|text| text.contains(wanted));
        ensure!(
            !good
                && has(&last["object"], fault.object)
                && has(&last["problem"]["reason"], fault.reason)
                && last["problem"]["remedy"].is_string(),
            "{}: {trace:#}",
            fault.inject
        );
        ensure!(
            hops[..hops.len() - 1]
                .iter()
                .all(|hop| hop["problem"].is_null()),
            "{}: {trace:#}",
            fault.inject
        );
        sh(member.node.space(), fault.mend).context(fault.mend)?;
        member.pause(false)?;
        wait::until(Duration::from_secs(20), fault.inject, || {
            let (good, trace) = self::trace(member, &from, &to(fault.to).to_string())?;
            ensure!(good, "{trace:#}");
            Ok(())
        })?;
    }
    Ok(())
}
