//! `firewall`: who gets through the host to a pod and who does not, beside a FORWARD chain that drops.
mod bus;
mod care;
mod firewalld;

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use lab::chain::{Attached, Chain};
use lab::inspect::{ruleset, sh};
use lab::probe::{TcpEcho, exchange};
use lab::{Case, Need, Result, Space, conf, with_prev};
use serde_json::{Value, json};

fn main() -> ExitCode {
    let needs = [Need::HeddleCni, Need::Program("ip"), Need::Program("nft")];
    let case = |name, body| Case::new(name, body).needs(needs);
    let iptables = [Need::Program("iptables"), Need::Program("ip6tables")];
    let bus = [Need::Program("dbus-daemon"), Need::Program("setpriv")];
    lab::main([
        case(
            "a_way_through_a_chain_that_drops",
            a_way_through_a_chain_that_drops,
        )
        .needs(iptables),
        case("host_ports_get_through_too", host_ports_get_through_too).needs(iptables),
        case(
            "an_address_used_again_keeps_its_rules",
            an_address_used_again_keeps_its_rules,
        )
        .needs(iptables),
        case("other_bridges_are_kept_out", other_bridges_are_kept_out),
        case(
            "open_changes_nothing_without_iptables",
            care::open_changes_nothing_without_iptables,
        ),
        case("bad_configurations", care::bad_configurations),
        case(
            "check_sees_what_is_missing",
            care::check_sees_what_is_missing,
        )
        .needs(iptables),
        case(
            "gc_removes_the_stale_and_nothing_else",
            care::gc_removes_the_stale_and_nothing_else,
        )
        .needs(iptables),
        case(
            "addresses_are_sources_of_a_zone",
            firewalld::addresses_are_sources_of_a_zone,
        )
        .needs(bus),
        case(
            "an_address_used_again_stays_a_source",
            firewalld::an_address_used_again_stays_a_source,
        )
        .needs(bus),
        case(
            "sources_go_in_every_condition",
            firewalld::sources_go_in_every_condition,
        )
        .needs(bus),
        case(
            "the_reference_does_not_read_the_answer",
            firewalld::the_reference_does_not_read_the_answer,
        )
        .needs(bus)
        .needs([Need::Reference("firewall")]),
        case(
            "firewalld_may_be_wanted_and_missing",
            firewalld::firewalld_may_be_wanted_and_missing,
        )
        .needs(bus),
        case("many_at_once", care::many_at_once).needs(iptables),
        case("del_in_every_condition", care::del_in_every_condition).needs(iptables),
        case(
            "add_with_each_call_failing",
            care::add_with_each_call_failing,
        )
        .needs(iptables)
        .needs([Need::Program("strace")]),
    ])
}

fn firewall(changes: Value) -> Value {
    conf::with(
        json!({"cniVersion": "1.1.0", "name": "lab", "type": "firewall"}),
        changes,
    )
}

/// A node on which Docker, or somebody as careful, has been.
fn dropping() -> Result<Chain> {
    let chain = Chain::new()?;
    sh(
        chain.node.space(),
        "iptables -P FORWARD DROP; iptables -N DOCKER-USER; iptables -A FORWARD -j DOCKER-USER\n\
         iptables -A DOCKER-USER -j RETURN; ip6tables -P FORWARD DROP",
    )?;
    Ok(chain)
}

fn reaches(from: &Space, to: &Attached, index: usize) -> Result<bool> {
    let server = TcpEcho::start(to.pod.space(), SocketAddr::new(to.address(index)?, 0))?;
    Ok(exchange(from, server.address(), b"hello").is_ok())
}

fn goes_out(from: &Attached, chain: &Chain, index: usize) -> Result<bool> {
    let to = ["192.0.2.2:0", "[2001:db8::2]:0"][index].parse()?;
    let server = TcpEcho::start(chain.world.space(), to)?;
    Ok(exchange(from.pod.space(), server.address(), b"hello").is_ok())
}

fn a_way_through_a_chain_that_drops() -> Result {
    let chain = dropping()?;
    let (pod, other) = (chain.attach("pod")?, chain.attach("other")?);
    let conf = firewall(json!({}));
    let before = chain.snapshot()?;
    ensure!(
        !goes_out(&pod, &chain, 0)?,
        "the premise: nothing gets through"
    );
    assert_eq!(
        chain.add(&conf, &pod)?,
        pod.result,
        "the result is passed through"
    );
    chain.add(&conf, &other)?;
    for index in [0, 1] {
        ensure!(goes_out(&pod, &chain, index)?, "out, family {index}");
        ensure!(
            reaches(other.pod.space(), &pod, index)?,
            "from pod to pod, family {index}"
        );
        ensure!(
            !reaches(chain.world.space(), &pod, index)?,
            "strangers stay out, family {index}"
        );
    }
    // As iptables reads it, and twice the same.
    let listed = || sh(chain.node.space(), "iptables -S; ip6tables -S");
    let once = listed()?;
    for rule in [
        "-A FORWARD -m comment --comment heddle -j HEDDLE-FORWARD",
        "-m conntrack --ctstate RELATED,ESTABLISHED,DNAT -m comment --comment \"heddle/lab/pod/eth0\" -j ACCEPT",
    ] {
        ensure!(once.contains(rule), "{rule:?} is not in {once}");
    }
    chain.add(&conf, &other)?;
    assert_eq!(listed()?, once);
    chain.check(&conf, &pod)?;
    chain.del(&conf, &pod)?;
    ensure!(goes_out(&other, &chain, 0)? && !goes_out(&pod, &chain, 0)?);
    chain.del(&conf, &other)?;
    chain.snapshot()?.same_as(&before)
}

fn host_ports_get_through_too() -> Result {
    let chain = dropping()?;
    let pod = chain.attach("pod")?;
    let server = TcpEcho::start(pod.pod.space(), SocketAddr::new(pod.address(0)?, 80))?;
    let ports = json!({
        "cniVersion": "1.1.0", "name": "lab", "type": "portmap",
        "runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]},
    });
    chain.add(&ports, &pod)?;
    chain.add(&firewall(json!({"ingressPolicy": "isolated"})), &pod)?;
    exchange(chain.world.space(), "192.0.2.1:8080".parse()?, b"hello")?;
    ensure!(exchange(chain.world.space(), server.address(), b"hello").is_err());
    Ok(())
}

/// The rules of a pod that is gone without a DEL, and the pod that has its address now.
fn an_address_used_again_keeps_its_rules() -> Result {
    let chain = dropping()?;
    let pod = chain.attach("new")?;
    let conf = firewall(json!({"ingressPolicy": "isolated"}));
    let stale = |verb: &str| {
        let call = chain
            .plugins
            .call(verb, &with_prev(&conf, &pod.result))
            .pod(&pod.pod);
        call.id("old").send()?.done()
    };
    stale("ADD")?;
    chain.add(&conf, &pod)?;
    stale("DEL")?;
    chain.check(&conf, &pod)?;
    ensure!(goes_out(&pod, &chain, 0)?);
    Ok(())
}

fn other_bridges_are_kept_out() -> Result {
    let chain = Chain::new()?;
    let (one, neighbour) = (chain.attach("one")?, chain.attach("neighbour")?);
    let ipam = json!({"type": "host-local", "ranges": [[{"subnet": "10.99.0.0/24"}], [{"subnet": "fd99::/64"}]]});
    let second = conf::bridge(
        json!({"name": "two", "bridge": "cbr1", "isDefaultGateway": true, "ipam": ipam}),
    );
    let attach = |name: &str| -> Result<Attached> {
        let pod = chain.node.pod(name)?;
        let result = chain.plugins.add(&second, &pod)?.result()?;
        Ok(Attached { pod, result })
    };
    let (far, stranger) = (attach("far")?, attach("stranger")?);
    sh(
        chain.world.space(),
        "ip route add 10.99.0.0/24 via 192.0.2.1; ip route add fd99::/64 via 2001:db8::1",
    )?;
    let before = chain.snapshot()?;
    let with =
        |policy: &str, network: &str| firewall(json!({"ingressPolicy": policy, "name": network}));
    for (policy, neighbours_talk) in [("same-bridge", true), ("isolated", false)] {
        for pod in [&one, &neighbour] {
            chain.add(&with(policy, "lab"), pod)?;
        }
        chain.add(&with(policy, "two"), &far)?;
        for index in [0, 1] {
            let name = format!("{policy}, family {index}");
            ensure!(
                !reaches(far.pod.space(), &one, index)?,
                "{name}: from another bridge"
            );
            ensure!(
                !reaches(one.pod.space(), &far, index)?,
                "{name}: to another bridge"
            );
            assert_eq!(
                reaches(neighbour.pod.space(), &one, index)?,
                neighbours_talk,
                "{name}: one bridge"
            );
            ensure!(
                reaches(chain.world.space(), &one, index)?,
                "{name}: from outside"
            );
            ensure!(
                reaches(chain.node.space(), &one, index)?,
                "{name}: from the host"
            );
            ensure!(goes_out(&one, &chain, index)?, "{name}: to the outside");
            ensure!(
                reaches(one.pod.space(), &stranger, index)?,
                "{name}: who has no policy is open"
            );
        }
        chain.check(&with(policy, "lab"), &one)?;
        chain.del(&with(policy, "two"), &far)?;
        ensure!(
            reaches(far.pod.space(), &one, 0)?,
            "a bridge without guarded pods is outside"
        );
        for pod in [&one, &neighbour] {
            chain.del(&firewall(json!({})), pod)?;
        }
        chain.snapshot()?.same_as(&before)?;
    }
    Ok(())
}
