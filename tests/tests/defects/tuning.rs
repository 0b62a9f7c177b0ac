//! `tuning`.
use lab::inspect::{ip_one, sh};
use lab::{Case, Result, conf};
use serde_json::{Value, json};

use crate::{Side, any_version, defects};

pub fn cases() -> Vec<Case> {
    defects!(
        "tuning",
        any_version,
        [
            sysctls_are_put_back,
            both_ends_have_the_mtu,
            sysctls_of_args_alone_are_no_panic,
            a_backup_goes_when_the_pod_is_gone,
            check_does_not_mind_a_listener,
        ]
    )
}

fn tuning(changes: Value) -> Value {
    conf::with(json!({"name": "lab", "type": "tuning"}), changes)
}

fn sysctls_are_put_back(side: &Side) -> Result<bool> {
    let pod = side.chain.attach("pod")?;
    let read = || {
        sh(
            pod.pod.space(),
            "cat /proc/sys/net/ipv4/ip_unprivileged_port_start",
        )
    };
    let before = read()?;
    let conf = tuning(json!({"sysctl": {"net.ipv4.ip_unprivileged_port_start": "7"}}));
    side.done("ADD", &conf, &pod)?;
    anyhow::ensure!(read()?.trim() == "7", "the premise");
    side.done("DEL", &conf, &pod)?;
    Ok(read()? == before)
}

fn both_ends_have_the_mtu(side: &Side) -> Result<bool> {
    let pod = side.chain.attach("pod")?;
    side.done("ADD", &tuning(json!({"mtu": 1400})), &pod)?;
    let shown = ip_one(
        side.chain.node.space(),
        &format!("link show dev {}", pod.host_link()?),
    )?;
    Ok(shown["mtu"] == 1400)
}

fn sysctls_of_args_alone_are_no_panic(side: &Side) -> Result<bool> {
    let pod = side.chain.attach("pod")?;
    let conf =
        tuning(json!({"args": {"cni": {"sysctl": {"net.ipv4.conf.IFNAME.arp_filter": "1"}}}}));
    Ok(side.send("ADD", &conf, &pod)?.is_success())
}

fn a_backup_goes_when_the_pod_is_gone(side: &Side) -> Result<bool> {
    let pod = side.chain.attach("pod")?;
    let conf = tuning(json!({"mtu": 1400}));
    side.done("ADD", &conf, &pod)?;
    side.call("DEL", &conf, &pod)
        .netns("/run/netns/gone")
        .send()?
        .done()?;
    Ok(sh(side.chain.node.space(), "ls /run/cni/tuning")?
        .trim()
        .is_empty())
}

/// Such as `tcpdump`, which makes the link promiscuous while it runs.
fn check_does_not_mind_a_listener(side: &Side) -> Result<bool> {
    let pod = side.chain.attach("pod")?;
    let conf = tuning(json!({"mtu": 1400}));
    side.done("ADD", &conf, &pod)?;
    side.done("CHECK", &conf, &pod)?;
    sh(pod.pod.space(), "ip link set eth0 promisc on")?;
    Ok(side.send("CHECK", &conf, &pod)?.is_success())
}
