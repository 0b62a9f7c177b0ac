//! `bandwidth`: what really goes through, in both directions, and that nothing is left of it.
mod care;

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use lab::chain::{Attached, Chain};
use lab::inspect::{ip_one, sh};
use lab::probe::throughput;
use lab::{Case, Need, Result, conf, with_prev};
use serde_json::{Value, json};

fn main() -> ExitCode {
    let needs = [
        Need::HeddleCni,
        Need::Program("ip"),
        Need::Program("nft"),
        Need::Program("tc"),
        Need::Link("ifb"),
        Need::Qdisc("tbf"),
    ];
    let case = |name, body| Case::new(name, body).needs(needs);
    lab::main([
        case(
            "rates_are_kept_in_both_directions",
            rates_are_kept_in_both_directions,
        ),
        case(
            "one_direction_leaves_the_other_alone",
            one_direction_leaves_the_other_alone,
        ),
        case(
            "the_runtime_fills_in_what_the_configuration_leaves",
            the_runtime_fills_in_what_the_configuration_leaves,
        ),
        case(
            "a_second_add_and_a_second_interface",
            a_second_add_and_a_second_interface,
        ),
        case(
            "nothing_wanted_nothing_done",
            care::nothing_wanted_nothing_done,
        ),
        case("bad_configurations", care::bad_configurations),
        case(
            "check_sees_what_is_missing",
            care::check_sees_what_is_missing,
        ),
        case(
            "gc_removes_the_stale_and_nothing_else",
            care::gc_removes_the_stale_and_nothing_else,
        ),
        case("many_at_once", care::many_at_once),
        case("del_in_every_condition", care::del_in_every_condition),
        case(
            "add_with_each_call_failing",
            care::add_with_each_call_failing,
        )
        .needs([Need::Program("strace")]),
    ])
}

fn bandwidth(changes: Value) -> Value {
    conf::with(
        json!({"cniVersion": "1.1.0", "name": "lab", "type": "bandwidth"}),
        changes,
    )
}

const M: u64 = 1_000_000;

fn to_pod(chain: &Chain, pod: &Attached, index: usize) -> Result<f64> {
    let address = SocketAddr::new(pod.address(index)?, 0);
    throughput(chain.node.space(), pod.pod.space(), address)
}

fn from_pod(chain: &Chain, pod: &Attached) -> Result<f64> {
    throughput(pod.pod.space(), chain.node.space(), "10.88.0.1:0".parse()?)
}

fn rates_are_kept_in_both_directions() -> Result {
    let chain = Chain::new()?;
    let pod = chain.attach("pod")?;
    for megabits in [10, 100, 1000] {
        // As kubelet writes the annotations down.
        let limits = json!({
            "ingressRate": megabits * M, "ingressBurst": i32::MAX, "egressRate": megabits * M, "egressBurst": i32::MAX,
        });
        let conf = bandwidth(
            json!({"capabilities": {"bandwidth": true}, "runtimeConfig": {"bandwidth": limits}}),
        );
        let result = chain.add(&conf, &pod)?;
        let ifb = &result["interfaces"][3];
        let shown = ip_one(
            chain.node.space(),
            &format!("link show dev {}", ifb["name"].as_str().context("an ifb")?),
        )?;
        assert_eq!(
            (&shown["address"], &shown["ifalias"]),
            (&ifb["mac"], &json!("heddle/lab/pod/eth0"))
        );
        chain.check(&conf, &pod)?;
        is_kept(megabits, || to_pod(&chain, &pod, 0))?;
        is_kept(megabits, || to_pod(&chain, &pod, 1))?;
        is_kept(megabits, || from_pod(&chain, &pod))?;
        chain.del(&conf, &pod)?;
    }
    Ok(())
}

/// The rate is measured again where something else had the processor for a while: one that is not kept never is.
fn is_kept(megabits: u64, measure: impl Fn() -> Result<f64>) -> Result {
    let wanted = megabits as f64;
    let mut rate = 0.0;
    for _ in 0..3 {
        rate = measure()?;
        if (rate - wanted).abs() < wanted / 10.0 {
            return Ok(());
        }
    }
    bail!("{rate:.1} instead of {wanted} Mbit/s")
}

fn one_direction_leaves_the_other_alone() -> Result {
    let chain = Chain::new()?;
    let pod = chain.attach("pod")?;
    for (changes, limited_in) in [
        (json!({"ingressRate": 20 * M, "ingressBurst": M}), true),
        (json!({"egressRate": 20 * M, "egressBurst": M}), false),
    ] {
        let conf = bandwidth(changes);
        let before = chain.snapshot()?;
        let printed = chain.add(&conf, &pod)?;
        if limited_in {
            assert_eq!(printed, pod.result, "the result is passed through");
        }
        let (inwards, outwards) = (to_pod(&chain, &pod, 0)?, from_pod(&chain, &pod)?);
        ensure!((inwards < 22.0) == limited_in, "in: {inwards:.0} Mbit/s");
        ensure!((outwards < 22.0) != limited_in, "out: {outwards:.0} Mbit/s");
        chain.check(&conf, &pod)?;
        chain.del(&conf, &pod)?;
        chain.snapshot()?.same_as(&before)?;
    }
    Ok(())
}

/// What `tc` says of the bucket of a link: rate in bytes a second, burst in bytes.
fn bucket(chain: &Chain, link: &str) -> Result<Option<(u64, u64)>> {
    let text = sh(
        chain.node.space(),
        &format!("tc -j qdisc show dev {link} root"),
    )?;
    let shown: Value = serde_json::from_str(&text)?;
    let options = &shown[0]["options"];
    Ok(options["rate"].as_u64().zip(options["burst"].as_u64()))
}

fn the_runtime_fills_in_what_the_configuration_leaves() -> Result {
    let chain = Chain::new()?;
    let pod = chain.attach("pod")?;
    let conf = bandwidth(json!({
        "ingressRate": 80 * M, "ingressBurst": 8 * M, "latency": 50,
        "runtimeConfig": {"bandWidth": {"ingressRate": 8 * M, "ingressBurst": M, "egressRate": 16 * M, "egressBurst": 4 * M}},
    }));
    let result = chain.add(&conf, &pod)?;
    chain.check(&conf, &pod)?;
    assert_eq!(
        bucket(&chain, pod.host_link()?)?,
        Some((10 * M, M)),
        "the configuration goes before the runtime"
    );
    let ifb = result["interfaces"][3]["name"].as_str().context("an ifb")?;
    assert_eq!(bucket(&chain, ifb)?, Some((2 * M, M / 2)));
    Ok(())
}

fn a_second_add_and_a_second_interface() -> Result {
    let chain = Chain::new()?;
    let pod = chain.attach("pod")?;
    let before = chain.snapshot()?;
    let both = |rate: u64| bandwidth(json!({"ingressRate": rate, "egressRate": rate}));
    let once = chain.add(&both(10 * M), &pod)?;
    let again = chain.add(&both(80 * M), &pod)?;
    assert_eq!(
        once["interfaces"][3]["name"],
        again["interfaces"][3]["name"]
    );
    chain.check(&both(80 * M), &pod)?;
    assert_eq!(
        bucket(&chain, pod.host_link()?)?.map(|(rate, _)| rate),
        Some(10 * M)
    );
    // Another interface of the same pod has an ifb of its own.
    sh(
        chain.node.space(),
        "ip link add second type veth peer name eth1 netns pod; ip link set second up",
    )?;
    let mut result = pod.result.clone();
    result["interfaces"][1]["name"] = "second".into();
    result["interfaces"][2]["name"] = "eth1".into();
    let conf = with_prev(&both(10 * M), &result);
    let call = |verb: &str| chain.plugins.call(verb, &conf).pod(&pod.pod).ifname("eth1");
    let other = call("ADD").send()?.result()?;
    ensure!(other["interfaces"][3]["name"] != again["interfaces"][3]["name"]);
    call("CHECK").send()?.done()?;
    chain.del(&both(1), &pod)?;
    call("CHECK").send()?.done()?;
    call("DEL").send()?.done()?;
    sh(chain.node.space(), "ip link delete second")?;
    chain.snapshot()?.same_as(&before)
}
