//! `bridge`: what it says and what it does to pod and bridge.
use std::net::IpAddr;

use anyhow::{Context, bail};
use lab::probe::{TcpEcho, exchange};
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
    let layer_2 = conf.get("ipam").is_none();
    let added = twins.call("ADD", conf, to("one"))?;
    if layer_2 && conf["cniVersion"].as_str() < Some("0.3.0") {
        // There is no way to say so in these versions.
        return added.failures(999).map(drop);
    }
    let first = added.results()?;
    twins.same_pod("one")?;
    twins.same_bridge("cbr0")?;
    twins.call("ADD", conf, to("two"))?.results()?;
    twins.same_pod("two")?;
    twins.same_bridge("cbr0")?;
    twins.same_leases()?;
    let check = twins.check(conf, &first, to("one"))?;
    if conf["cniVersion"].as_str() < Some("0.4.0") {
        check.failures(1)?;
    } else if layer_2 {
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
    // After a reboot. What of the node's own the reference then leaves behind is not compared.
    twins.call("ADD", conf, to("one"))?.results()?;
    for netns in ["", "/run/netns/gone"] {
        let call = twins.call("DEL", conf, |call| to("one")(call).netns(netns))?;
        call.done()?;
        twins.same_leases()?;
    }
    Ok(())
}

/// A bridge that somebody else made, and whether both use it. Its MTU is the usual one here: of another, Heddle makes
/// its pods, while the reference's pods have 1500 whatever the bridge carries.
pub fn existing_bridges() -> Result {
    let table = [
        (
            "ip link add cbr0 type bridge ageing_time 12345",
            json!({"isGateway": true}),
            None,
        ),
        (
            "ip link add cbr0 type bridge; ip address add 10.88.0.1/24 dev cbr0",
            json!({"isGateway": true}),
            None,
        ),
        (
            "ip link add cbr0 type bridge; ip address add 10.88.0.254/24 dev cbr0",
            json!({"isGateway": true}),
            Some(7),
        ),
        (
            "ip link add cbr0 type bridge; ip address add 10.88.0.254/24 dev cbr0",
            json!({"isGateway": true, "forceAddress": true}),
            None,
        ),
        (
            "ip link add cbr0 type bridge; ip address add fd99::1/64 dev cbr0 nodad",
            json!({"isGateway": true, "ipam": conf::dual_stack()}),
            None,
        ),
        (
            "ip link add cbr0 type bridge; ip address add fd88::9/60 dev cbr0 nodad",
            json!({"isGateway": true, "ipam": conf::dual_stack()}),
            Some(7),
        ),
        (
            "ip link add cbr0 type bridge",
            json!({"promiscMode": true}),
            None,
        ),
        (
            "ip link add cbr0 type veth peer name other",
            json!({}),
            Some(7),
        ),
    ];
    for (script, changes, refused) in table {
        let (twins, conf) = (
            Twins::new(&["one"])?,
            at("1.0.0", &conf::bridge(changes.clone())),
        );
        twins.sh(script)?;
        let added = twins.call("ADD", &conf, to("one"))?;
        let what = || format!("{script}, {changes}");
        match refused {
            // The reference leaves the pair behind, so what there is then differs.
            Some(code) => drop(added.failures(code).with_context(what)?),
            None => {
                added.results().with_context(what)?;
                twins.same_pod("one").with_context(what)?;
                twins.same_bridge("cbr0").with_context(what)?;
            }
        }
    }
    Ok(())
}

/// What the world sees of a pod: the rules themselves are iptables' on one side and nftables' on the other.
pub fn masquerade_seen_by_the_world() -> Result {
    let conf = at(
        "1.0.0",
        &conf::bridge(json!({"isDefaultGateway": true, "ipMasq": true})),
    );
    let twins = Twins::new(&["one", "two", "world"])?;
    twins.sh(
        "ip link add up0 type veth peer name eth0 netns world; ip link set up0 up; ip address add 192.0.2.1/24 dev up0
         ip -n world link set eth0 up; ip -n world address add 192.0.2.2/24 dev eth0
         ip -n world route add 10.88.0.0/24 via 192.0.2.1",
    )?;
    for pod in ["one", "two"] {
        twins.call("ADD", &conf, to(pod))?.results()?;
    }
    // From, to, and the address that is seen.
    for (from, to, port, seen) in [
        ("one", "192.0.2.2", "world", "192.0.2.1"),
        ("one", "10.88.0.3", "two", "10.88.0.2"),
        ("one", "10.88.0.1", "", "10.88.0.2"),
    ] {
        for side in twins.sides() {
            let server = TcpEcho::start(side.place(port)?, (to.parse::<IpAddr>()?, 0).into())?;
            let tcp = exchange(side.place(from)?, server.address(), b"hello")?;
            assert_eq!(
                tcp.seen.ip().to_string(),
                seen,
                "{from} to {to} on {}",
                side.place("")?.name()
            );
        }
    }
    twins.call("DEL", &conf, to("two"))?.done()
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

/// CHECK notices on both sides.
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
