//! `bridge`, in each version.
use anyhow::{Context, bail};
use lab::{Result, conf};
use serde_json::{Value, json};

use crate::twins::{Twins, VERSIONS, at, to};

/// A configuration by name.
fn named(name: &str) -> Result<Value> {
    Ok(conf::bridge(match name {
        "gateway" => json!({"isGateway": true}),
        "masquerade" => json!({"isGateway": true, "ipMasq": true}),
        "default_gateway" => json!({"isDefaultGateway": true}),
        "dual_stack" => json!({"isDefaultGateway": true, "ipam": conf::dual_stack()}),
        "static" => json!({"isGateway": true, "ipam": {"type": "static",
            "addresses": [{"address": "10.88.0.5/24", "gateway": "10.88.0.1"}], "routes": [{"dst": "0.0.0.0/0"}]}}),
        "layer_2" => json!({"ipam": null}),
        "mtu" => json!({"isGateway": true, "mtu": 1400}),
        "hairpin" => json!({"isGateway": true, "hairpinMode": true}),
        other => bail!("no configuration {other}"),
    }))
}

/// ADD of two pods, CHECK, DEL, DEL again, and what every step leaves.
pub fn same(name: &str) -> Result {
    for version in VERSIONS {
        life(&at(version, &named(name)?)).with_context(|| format!("cniVersion {version}"))?;
    }
    Ok(())
}

fn life(conf: &Value) -> Result {
    let twins = Twins::new(&["one", "two"])?;
    let added = twins.call("ADD", conf, to("one"))?;
    let Ok(first) = added.results() else {
        // Only L2 in a version that cannot say so.
        added.failures(999)?;
        return Ok(());
    };
    twins.same_pod("one")?;
    twins.same_bridge("cbr0")?;
    twins.call("ADD", conf, to("two"))?.results()?;
    twins.same_pod("two")?;
    twins.same_bridge("cbr0")?;
    twins.same_leases()?;
    let check = twins.check(conf, &first, to("one"))?;
    if conf["cniVersion"].as_str() < Some("0.4.0") {
        check.failures(1)?;
    } else if conf.get("ipam").is_none() {
        // The reference asks an IPAM plugin without a name, and so fails always.
        check.heddle.done()?;
    } else {
        check.done()?;
    }
    twins.call("ADD", conf, to("one"))?.failures(4)?;
    for pod in ["one", "one", "two"] {
        twins.call("DEL", conf, to(pod))?.done()?;
        twins.same_pod(pod)?;
        twins.same_bridge("cbr0")?;
        twins.same_leases()?;
    }
    Ok(())
}

/// What has happened to an attachment before a CHECK of it, which fails on both sides.
const DAMAGE: [(&str, &str); 5] = [
    ("no address", "ip -n one address flush dev eth0"),
    ("no route", "ip -n one route delete default"),
    ("no interface", "ip -n one link delete eth0"),
    ("no bridge", "ip link delete cbr0"),
    (
        "another MAC",
        "ip -n one link set eth0 address 02:00:00:00:00:77",
    ),
];

pub fn damage_is_seen() -> Result {
    let conf = at("1.0.0", &named("default_gateway")?);
    for (what, script) in DAMAGE {
        let twins = Twins::new(&["one"])?;
        let results = twins.call("ADD", &conf, to("one"))?.results()?;
        twins.sh(script)?;
        let check = twins.check(&conf, &results, to("one"))?;
        check.failures(999).context(what)?;
    }
    Ok(())
}

/// Configurations that both refuse, and Heddle's code.
pub fn refusals() -> Result {
    let ipam = |changes: Value| {
        conf::with(
            json!({"type": "host-local", "ranges": [[{"subnet": "10.88.0.0/24"}]]}),
            changes,
        )
    };
    let table = [
        (json!({"hairpinMode": true, "promiscMode": true}), 7),
        (json!({"vlan": 5000}), 7),
        (json!({"vlan": -1}), 7),
        (json!({"bridge": "lo"}), 7),
        (json!({"isGateway": "true"}), 7),
        (json!({"ipam": {"type": "nothing-of-the-kind"}}), 7),
        (
            json!({"ipam": ipam(json!({"ranges": [[{"subnet": "10.88.0.1/24"}]]}))}),
            7,
        ),
        (
            json!({"ipam": ipam(json!({"ranges": [[{"subnet": "10.88.0.0/31"}]]}))}),
            7,
        ),
        (
            json!({"ipam": ipam(json!({"routes": [{"dst": "nowhere"}]}))}),
            7,
        ),
        (json!({"args": {"cni": {"mac": "02:00"}}}), 7),
        (json!({"runtimeConfig": {"mac": "two"}}), 7),
    ];
    for (changes, code) in table {
        let twins = Twins::new(&["one"])?;
        let conf = at("1.0.0", &conf::bridge(changes.clone()));
        twins
            .call("ADD", &conf, to("one"))?
            .failures(code)
            .with_context(|| changes.to_string())?;
        twins.same_leases()?;
    }
    Ok(())
}
