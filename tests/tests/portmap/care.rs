//! Care: what is refused, noticed, cleaned up, and left alone.
use anyhow::{Context, ensure};
use lab::chain::Chain;
use lab::inspect::{ruleset, sh};
use lab::{Need, Result, conf, with_prev};
use serde_json::{Value, json};

use crate::portmap;

pub fn no_ports_no_work() -> Result {
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

pub fn bad_configurations() -> Result {
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

pub fn check_sees_what_is_missing() -> Result {
    let plain = json!({});
    let special = json!({"masqAll": true});
    for (damage, changes) in [
        ("nft flush map inet heddle_cni hostports4", &plain),
        ("nft flush set inet heddle_cni hostport_returns6", &plain),
        ("nft flush map inet heddle_cni hostport_policies4", &special),
        (
            "nft flush chain inet heddle_cni hostports_prerouting",
            &plain,
        ),
        (
            "nft flush chain inet heddle_cni hostports_masquerade",
            &plain,
        ),
        ("nft flush chain inet heddle_cni hostports_guard", &plain),
        (
            "nft flush chain inet heddle_cni portmap-masquerade-13",
            &plain,
        ),
        (
            "echo 0 > /proc/sys/net/ipv4/conf/cbr0/route_localnet",
            &plain,
        ),
        ("nft flush ruleset", &plain),
    ] {
        let chain = Chain::new()?;
        let pod = chain.attach("pod")?;
        let conf = portmap(&[(8080, 80, "tcp", "")], changes.clone());
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

pub fn gc_removes_the_stale_and_nothing_else() -> Result {
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
pub fn beside_masquerading() -> Result {
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

/// The first builds the table and the last takes it down, whoever they are.
pub fn many_at_once() -> Result {
    Chain::new()?.many_at_once(|number| {
        let port = 5000 + number;
        portmap(&[(port, 80, "tcp", ""), (port, 80, "udp", "")], json!({}))
    })
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

pub fn del_in_every_condition() -> Result {
    Chain::new()?.del_in_every_condition(&everything())?;
    // Beside a pod that stays.
    let chain = Chain::new()?;
    chain.add(
        &portmap(&[(1, 1, "tcp", "")], json!({})),
        &chain.attach("stays")?,
    )?;
    chain.del_in_every_condition(&everything())
}

pub fn add_with_each_call_failing() -> Result {
    Chain::new()?.add_with_each_call_failing(&everything())
}

pub fn an_add_does_not_grow_with_the_ports() -> Result {
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
    // The kernel looks through all jumps from elements whenever one is added.
    let jumps = ruleset(chain.node.space())?.matches(": jump").count();
    ensure!(jumps == 0, "{jumps} of 2000 ports jump to a chain");
    ensure!(
        few.abs_diff(lots) < 10,
        "{few} calls beside 10 ports, {lots} beside 2000"
    );
    chain.del(&conf, &many)?;
    assert_eq!(ruleset(chain.node.space())?.trim(), "");
    Ok(())
}
