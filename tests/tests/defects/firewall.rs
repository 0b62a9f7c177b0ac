//! `firewall`.
use std::net::SocketAddr;

use lab::chain::Attached;
use lab::inspect::sh;
use lab::probe::{TcpEcho, exchange};
use lab::{Case, Result, Snapshot, conf};
use serde_json::{Value, json};

use crate::{Side, any_version, defects};

pub fn cases() -> Vec<Case> {
    defects!(
        "firewall",
        any_version,
        [
            policies_go_with_the_last_pod,
            an_address_used_again_keeps_its_rules,
            a_del_without_result_leaves_nothing,
            check_changes_nothing,
            host_ports_get_through_a_chain_that_drops,
            ipv4_needs_no_ip6tables,
            the_bridge_need_not_come_first,
        ]
    )
}

fn firewall(changes: Value) -> Value {
    conf::with(
        json!({"name": "lab", "type": "firewall", "backend": "iptables"}),
        changes,
    )
}

fn drop_what_is_forwarded(side: &Side) -> Result {
    sh(
        side.chain.node.space(),
        "iptables -P FORWARD DROP; ip6tables -P FORWARD DROP",
    )
    .map(drop)
}

fn goes_out(side: &Side, pod: &Attached) -> Result<bool> {
    let server = TcpEcho::start(side.chain.world.space(), "192.0.2.2:0".parse()?)?;
    Ok(exchange(pod.pod.space(), server.address(), b"hello").is_ok())
}

fn policies_go_with_the_last_pod(side: &Side) -> Result<bool> {
    let pod = side.chain.attach("pod")?;
    let conf = firewall(json!({"ingressPolicy": "same-bridge"}));
    side.done("ADD", &conf, &pod)?;
    side.done("DEL", &conf, &pod)?;
    Ok(!side.has_rule("cbr0")?)
}

/// The DEL of a container that is long gone comes when another one has its address.
fn an_address_used_again_keeps_its_rules(side: &Side) -> Result<bool> {
    drop_what_is_forwarded(side)?;
    let pod = side.chain.attach("pod")?;
    let conf = firewall(json!({}));
    side.call("ADD", &conf, &pod).id("old").send()?.done()?;
    side.done("ADD", &conf, &pod)?;
    side.call("DEL", &conf, &pod).id("old").send()?.done()?;
    goes_out(side, &pod)
}

fn a_del_without_result_leaves_nothing(side: &Side) -> Result<bool> {
    drop_what_is_forwarded(side)?;
    let pod = side.chain.attach("pod")?;
    let conf = firewall(json!({"cniVersion": "1.0.0"}));
    side.done("ADD", &conf, &pod)?;
    side.plugins
        .call("DEL", &conf)
        .pod(&pod.pod)
        .send()?
        .done()?;
    Ok(!side.has_rule(&pod.address(0)?.to_string())?)
}

/// Chains that are missing are made, and found.
fn check_changes_nothing(side: &Side) -> Result<bool> {
    drop_what_is_forwarded(side)?;
    let pod = side.chain.attach("pod")?;
    let conf = firewall(json!({}));
    side.done("ADD", &conf, &pod)?;
    sh(
        side.chain.node.space(),
        "iptables -F; iptables -X; ip6tables -F; ip6tables -X",
    )?;
    let before = Snapshot::of(side.chain.node.space())?;
    let complains = !side.send("CHECK", &conf, &pod)?.is_success();
    let after = Snapshot::of(side.chain.node.space())?;
    Ok(complains && after.same_as(&before).is_ok())
}

/// Only what belongs to a connection is let in to the pod.
fn host_ports_get_through_a_chain_that_drops(side: &Side) -> Result<bool> {
    drop_what_is_forwarded(side)?;
    let pod = side.chain.attach("pod")?;
    let _server = TcpEcho::start(pod.pod.space(), "0.0.0.0:80".parse()?)?;
    let ports = json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]);
    let portmap =
        json!({"name": "lab", "type": "portmap", "runtimeConfig": {"portMappings": ports}});
    side.done("ADD", &portmap, &pod)?;
    side.done("ADD", &firewall(json!({})), &pod)?;
    let to = SocketAddr::from(([192, 0, 2, 1], 8080));
    Ok(exchange(side.chain.world.space(), to, b"hello").is_ok())
}

/// On a `PATH` without it.
fn ipv4_needs_no_ip6tables(side: &Side) -> Result<bool> {
    let pod = side.attach_v4("pod")?;
    sh(
        side.chain.node.space(),
        "mkdir -p /run/programs; ln -s \"$(command -v iptables)\" /run/programs/iptables",
    )?;
    let call = side.call("ADD", &firewall(json!({})), &pod);
    Ok(call.env("PATH", "/run/programs").send()?.is_success())
}

/// The first interface of the result is taken for the bridge, whatever it is.
fn the_bridge_need_not_come_first(side: &Side) -> Result<bool> {
    let pod = side.chain.attach("pod")?;
    let mut result = pod.result.clone();
    let Some(interfaces) = result["interfaces"].as_array_mut() else {
        return Ok(false);
    };
    // The bridge last; the addresses are the container's as before.
    interfaces.rotate_left(1);
    result["ips"][0]["interface"] = json!(1);
    result["ips"][1]["interface"] = json!(1);
    let pod = Attached {
        pod: pod.pod.clone(),
        result,
    };
    side.done(
        "ADD",
        &firewall(json!({"ingressPolicy": "same-bridge"})),
        &pod,
    )?;
    side.has_rule("\"cbr0\"")
}
