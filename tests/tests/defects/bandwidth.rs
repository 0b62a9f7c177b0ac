//! `bandwidth`.
use lab::chain::Attached;
use lab::inspect::sh;
use lab::{Case, Need, Result, conf};
use serde_json::{Value, json};

use crate::{Side, any_version, defects};

const RATE: u64 = 80_000_000;

pub fn cases() -> Vec<Case> {
    let cases = defects!(
        "bandwidth",
        any_version,
        [
            nothing_wanted_is_no_panic,
            the_runtime_fills_in_what_the_configuration_leaves,
            each_interface_has_its_own_queue,
            an_add_can_be_repeated,
            check_sees_another_kind_of_queue,
            a_burst_without_opinion_is_no_burst,
            del_leaves_no_queue,
        ]
    );
    let needs = [Need::Link("ifb"), Need::Qdisc("tbf")];
    cases.into_iter().map(|case| case.needs(needs)).collect()
}

fn bandwidth(changes: Value) -> Value {
    conf::with(json!({"name": "lab", "type": "bandwidth"}), changes)
}

fn both_ways() -> Value {
    bandwidth(
        json!({"ingressRate": RATE, "ingressBurst": RATE, "egressRate": RATE, "egressBurst": RATE}),
    )
}

fn queues(side: &Side) -> Result<String> {
    sh(side.chain.node.space(), "tc qdisc show")
}

/// Without `prevResult`, as when it is the only plugin.
fn nothing_wanted_is_no_panic(side: &Side) -> Result<bool> {
    let pod = side.chain.attach("pod")?;
    let conf = bandwidth(json!({"cniVersion": "1.0.0"}));
    let reply = side.plugins.call("ADD", &conf).pod(&pod.pod).send()?;
    Ok(!reply.output.stderr.contains("panic") && !reply.output.stdout.contains("panic"))
}

fn the_runtime_fills_in_what_the_configuration_leaves(side: &Side) -> Result<bool> {
    let pod = side.chain.attach("pod")?;
    let conf = bandwidth(json!({
        "ingressRate": RATE, "ingressBurst": RATE,
        "runtimeConfig": {"bandwidth": {"egressRate": RATE, "egressBurst": RATE}},
    }));
    side.done("ADD", &conf, &pod)?;
    Ok(queues(side)?.matches("tbf").count() == 2)
}

/// The device is named after the container alone.
fn each_interface_has_its_own_queue(side: &Side) -> Result<bool> {
    let pod = side.chain.attach("pod")?;
    sh(
        side.chain.node.space(),
        "ip link add second type veth peer name eth1 netns pod; ip link set second up",
    )?;
    let mut result = pod.result.clone();
    result["interfaces"][1]["name"] = "second".into();
    result["interfaces"][2]["name"] = "eth1".into();
    let second = Attached {
        pod: pod.pod.clone(),
        result,
    };
    side.done("ADD", &both_ways(), &pod)?;
    Ok(side
        .call("ADD", &both_ways(), &second)
        .ifname("eth1")
        .send()?
        .is_success())
}

fn an_add_can_be_repeated(side: &Side) -> Result<bool> {
    let pod = side.chain.attach("pod")?;
    side.done("ADD", &both_ways(), &pod)?;
    Ok(side.send("ADD", &both_ways(), &pod)?.is_success())
}

fn check_sees_another_kind_of_queue(side: &Side) -> Result<bool> {
    let pod = side.chain.attach("pod")?;
    side.done("ADD", &both_ways(), &pod)?;
    side.done("CHECK", &both_ways(), &pod)?;
    let replace = format!(
        "tc qdisc replace dev {} root handle 2: pfifo",
        pod.host_link()?
    );
    sh(side.chain.node.space(), &replace)?;
    Ok(!side.send("CHECK", &both_ways(), &pod)?.is_success())
}

/// What kubelet writes where nobody has said anything: a quarter of a gigabyte goes at full speed.
fn a_burst_without_opinion_is_no_burst(side: &Side) -> Result<bool> {
    let pod = side.chain.attach("pod")?;
    let conf = bandwidth(json!({"ingressRate": RATE, "ingressBurst": i32::MAX}));
    side.done("ADD", &conf, &pod)?;
    let shown = sh(
        side.chain.node.space(),
        &format!("tc -j qdisc show dev {} root", pod.host_link()?),
    )?;
    let shown: Value = serde_json::from_str(&shown)?;
    Ok(shown[0]["options"]["burst"]
        .as_u64()
        .is_some_and(|bytes| bytes < 1 << 20))
}

/// The link's own stays until the link goes.
fn del_leaves_no_queue(side: &Side) -> Result<bool> {
    let pod = side.chain.attach("pod")?;
    side.done("ADD", &both_ways(), &pod)?;
    side.done("DEL", &both_ways(), &pod)?;
    Ok(!queues(side)?.contains("tbf") && !queues(side)?.contains("ingress"))
}
