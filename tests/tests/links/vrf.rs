//! `vrf`: where the kernel has it, its packets and tables; where it has not, that it says so.
use std::net::SocketAddr;

use anyhow::{Context, ensure};
use lab::chain::Chain;
use lab::inspect::{ip, ip_one, sh};
use lab::{Case, Need, Result, Snapshot, conf, with_prev};
use serde_json::{Value, json};

pub fn cases() -> Vec<Case> {
    let kernel = [Need::Link("vrf")];
    vec![
        Case::new("vrf_where_the_kernel_has_none", lacking),
        Case::new("vrf_bad_configurations", bad_configurations),
        Case::new("vrf_an_interface_of_a_bridge_is_refused", enslaved),
        Case::new("vrf_del_without_anything_there", del_of_nothing),
        Case::new("vrf_packets_go_by_its_table", packets).needs(kernel),
        Case::new("vrf_goes_with_its_last_member", last_member).needs(kernel),
        Case::new("vrf_check_sees_what_is_missing", check).needs(kernel),
        Case::new("vrf_del_in_every_condition", || {
            Chain::new()?.del_in_every_condition(&vrf(json!({})))
        })
        .needs(kernel),
        Case::new("vrf_many_at_once", || {
            Chain::new()?.many_at_once(|_| vrf(json!({})))
        })
        .needs(kernel),
        Case::new("vrf_add_with_each_call_failing", || {
            Chain::new()?.add_with_each_call_failing(&vrf(json!({})))
        })
        .needs(kernel)
        .needs([Need::Program("strace")]),
    ]
}

fn vrf(changes: Value) -> Value {
    let plain = json!({"cniVersion": "1.1.0", "name": "lab", "type": "vrf", "vrfname": "blue"});
    conf::with(plain, changes)
}

fn lacking() -> Result {
    let chain = Chain::new()?;
    let pod = chain.attach("pod")?;
    if Need::Link("vrf").missing().is_none() {
        chain.add(&vrf(json!({})), &pod)?;
        return chain.plugins.status(&vrf(json!({})))?.done();
    }
    let before = Snapshot::of(pod.pod.space())?;
    let sentence = "this kernel has no vrf: ";
    let (code, message) = chain.refused(&vrf(json!({})), &pod)?;
    ensure!(
        code == 999 && message.starts_with(sentence),
        "{code}: {message}"
    );
    let (code, message) = chain.plugins.status(&vrf(json!({})))?.failure()?;
    ensure!(
        code == 50 && message.starts_with(sentence),
        "{code}: {message}"
    );
    Snapshot::of(pod.pod.space())?.same_as(&before)
}

fn bad_configurations() -> Result {
    let chain = Chain::new()?;
    let pod = chain.attach("pod")?;
    for (changes, part) in [
        (json!({"vrfname": null}), "\"vrfname\" is missing"),
        (
            json!({"vrfname": "a name that is long"}),
            "cannot name a device",
        ),
        (json!({"vrfname": "eth0"}), "is no VRF, it is a veth"),
        (json!({"table": -1}), "table"),
    ] {
        let (code, message) = chain.refused(&vrf(changes), &pod)?;
        ensure!(
            code == 7 && message.contains(part),
            "{code}: {message} lacks {part:?}"
        );
    }
    let (code, message) = chain.plugins.add(&vrf(json!({})), &pod.pod)?.failure()?;
    ensure!(
        code == 7 && message.contains("chained"),
        "{code}: {message}"
    );
    sh(pod.pod.space(), "ip link delete eth0")?;
    let (code, message) = chain.refused(&vrf(json!({})), &pod)?;
    ensure!(
        code == 4 && message.contains("no interface eth0"),
        "{code}: {message}"
    );
    Ok(())
}

/// What stands in the way is found before the kernel is asked for a VRF.
fn enslaved() -> Result {
    let chain = Chain::new()?;
    let pod = chain.attach("pod")?;
    sh(
        pod.pod.space(),
        "ip link add br7 type bridge; ip link set eth0 master br7",
    )?;
    let before = Snapshot::of(pod.pod.space())?;
    let (code, message) = chain.refused(&vrf(json!({})), &pod)?;
    ensure!(
        code == 7 && message.contains("eth0 is in br7 already"),
        "{code}: {message}"
    );
    Snapshot::of(pod.pod.space())?.same_as(&before)
}

fn del_of_nothing() -> Result {
    let chain = Chain::new()?;
    let pod = chain.attach("pod")?;
    let before = Snapshot::of(pod.pod.space())?;
    for conf in [
        vrf(json!({})),
        vrf(json!({"vrfname": null})),
        vrf(json!({"vrfname": "eth0", "table": -1})),
    ] {
        for netns in ["/run/netns/pod", "", "/run/netns/nowhere", "/etc/hosts"] {
            let call = chain.plugins.call("DEL", &conf).pod(&pod.pod);
            call.netns(netns).send()?.done()?;
        }
        chain.plugins.gc(&conf, &[])?.done()?;
    }
    Snapshot::of(pod.pod.space())?.same_as(&before)
}

fn packets() -> Result {
    let chain = Chain::new()?;
    let pod = chain.attach("pod")?;
    let before = Snapshot::of(pod.pod.space())?;
    let conf = vrf(json!({"table": 1000}));
    chain.add(&conf, &pod)?;
    for family in ["-4", "-6"] {
        let default = ip(
            pod.pod.space(),
            &format!("{family} route show table 1000 default"),
        )?;
        assert_eq!(default.len(), 1, "{default:?}");
        let main = ip(pod.pod.space(), &format!("{family} route show default"))?;
        ensure!(main.is_empty(), "{main:?}");
    }
    for index in [0, 1] {
        let to = SocketAddr::new(pod.address(index)?, 0);
        sh(pod.pod.space(), "sysctl -qw net.ipv4.tcp_l3mdev_accept=1")?;
        let echo = lab::probe::TcpEcho::start(pod.pod.space(), to)?;
        lab::probe::exchange(chain.world.space(), echo.address(), b"some bytes")?;
    }
    chain.check(&conf, &pod)?;
    chain.check_bridge(&pod, &pod.result)?;
    chain.del(&conf, &pod)?;
    Snapshot::of(pod.pod.space())?.same_as(&before)
}

fn last_member() -> Result {
    let chain = Chain::new()?;
    let pod = chain.attach("pod")?;
    sh(pod.pod.space(), "ip link add eth1 type veth peer name eth2")?;
    let mut result = pod.result.clone();
    result["interfaces"][2]["name"] = "eth1".into();
    let conf = with_prev(&vrf(json!({})), &result);
    let second = |verb: &str| chain.plugins.call(verb, &conf).pod(&pod.pod).ifname("eth1");
    chain.add(&vrf(json!({})), &pod)?;
    second("ADD").send()?.done()?;
    chain.add(&vrf(json!({})), &pod)?;
    let shown = || ip_one(pod.pod.space(), "link show dev blue");
    assert_eq!(shown()?["ifalias"], "heddle");
    chain.del(&vrf(json!({})), &pod)?;
    shown().context("it went with its first member")?;
    second("CHECK").send()?.done()?;
    second("DEL").send()?.done()?;
    ensure!(shown().is_err(), "it stayed");
    // One of somebody else's stays.
    sh(
        pod.pod.space(),
        "ip link add blue type vrf table 77; ip link set blue up",
    )?;
    let (code, message) = chain.refused(&vrf(json!({"table": 78})), &pod)?;
    ensure!(
        code == 7 && message.contains("table 77"),
        "{code}: {message}"
    );
    chain.add(&vrf(json!({})), &pod)?;
    chain.del(&vrf(json!({})), &pod)?;
    shown().map(drop)
}

fn check() -> Result {
    let chain = Chain::new()?;
    for (number, damage) in [
        "ip link set eth0 nomaster",
        "ip link set blue down",
        "ip link delete blue",
        "ip link delete eth0",
    ]
    .into_iter()
    .enumerate()
    {
        let pod = chain.attach(&format!("pod{number}"))?;
        chain.add(&vrf(json!({})), &pod)?;
        chain.check(&vrf(json!({})), &pod)?;
        sh(pod.pod.space(), damage)?;
        chain.complaint(&vrf(json!({})), &pod).context(damage)?;
        chain.del(&vrf(json!({})), &pod).context(damage)?;
    }
    Ok(())
}
