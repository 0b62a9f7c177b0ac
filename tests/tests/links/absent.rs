//! `ipvlan`, `vlan` and `dummy`: where the kernel has them, as for every plugin; where it has not, that they say so.
use anyhow::ensure;
use lab::{Case, Need, Result, conf};
use serde_json::{Value, json};

use crate::held::{Place, on_the_wire, reach};

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("ipvlan_vlan_and_dummy_where_the_kernel_has_none", lacking),
        Case::new(
            "ipvlan_vlan_and_dummy_bad_configurations",
            bad_configurations,
        ),
        Case::new("ipvlan_vlan_and_dummy_del_without_anything_there", del),
        Case::new("ipvlan_with_packets", || with_packets(&ipvlan(json!({}))))
            .needs([Need::Link("ipvlan")]),
        Case::new("ipvlan_as_every_plugin", || {
            as_every_plugin(&ipvlan(json!({})))
        })
        .needs([Need::Link("ipvlan")]),
        Case::new("ipvlan_add_with_each_call_failing", || {
            Place::new()?.add_with_each_call_failing(&ipvlan(json!({})))
        })
        .needs([Need::Link("ipvlan"), Need::Program("strace")]),
        Case::new("ipvlan_behind_another_plugin", chained_ipvlan).needs([Need::Link("ipvlan")]),
        Case::new("vlan_with_packets", vlan_with_packets).needs([Need::Link("vlan")]),
        Case::new("vlan_as_every_plugin", || as_every_plugin(&vlan(json!({}))))
            .needs([Need::Link("vlan")]),
        Case::new("vlan_add_with_each_call_failing", || {
            Place::new()?.add_with_each_call_failing(&vlan(json!({})))
        })
        .needs([Need::Link("vlan"), Need::Program("strace")]),
        Case::new("dummy_as_every_plugin", || {
            as_every_plugin(&dummy(json!({})))
        })
        .needs([Need::Link("dummy")]),
        Case::new("dummy_add_with_each_call_failing", || {
            Place::new()?.add_with_each_call_failing(&dummy(json!({})))
        })
        .needs([Need::Link("dummy"), Need::Program("strace")]),
    ]
}

fn ipvlan(changes: Value) -> Value {
    of("ipvlan", json!({"master": "up0"}), changes)
}

fn vlan(changes: Value) -> Value {
    of("vlan", json!({"master": "up0", "vlanId": 100}), changes)
}

fn dummy(changes: Value) -> Value {
    of("dummy", json!({}), changes)
}

fn of(kind: &str, own: Value, changes: Value) -> Value {
    let plain = json!({"cniVersion": "1.1.0", "name": "lab", "type": kind, "ipam": on_the_wire()});
    conf::with(conf::with(plain, own), changes)
}

/// Whatever this kernel has: ADD succeeds and CHECK agrees, or one sentence says what is missing and nothing is left,
/// no address either.
fn lacking() -> Result {
    for conf in [ipvlan(json!({})), vlan(json!({})), dummy(json!({}))] {
        let place = Place::new()?;
        let kind = conf["type"].as_str().unwrap_or_default();
        let missing = match kind {
            "ipvlan" => Need::Link("ipvlan").missing(),
            "vlan" => Need::Link("vlan").missing(),
            _ => Need::Link("dummy").missing(),
        };
        let sentence = format!("this kernel has no {kind}: ");
        if missing.is_none() {
            let (pod, result) = place.attach(&conf, "pod")?;
            place.plugins.check(&conf, &pod, &result)?.done()?;
            place.plugins.status(&conf)?.done()?;
            continue;
        }
        let before = place.snapshot()?;
        let (code, message) = place.refused(&conf, "pod")?;
        ensure!(
            code == 999 && message.starts_with(&sentence),
            "{code}: {message}"
        );
        let (code, message) = place.plugins.status(&conf)?.failure()?;
        ensure!(
            code == 50 && message.starts_with(&sentence),
            "{code}: {message}"
        );
        place.snapshot()?.same_as(&before)?;
        let (_, leases) = (
            place.node.run(|| ()),
            lab::inspect::sh(
                place.node.space(),
                "ls /var/lib/cni/networks/lab 2>/dev/null | grep -c ^192 || true",
            )?,
        );
        assert_eq!(leases, "0\n");
    }
    Ok(())
}

fn bad_configurations() -> Result {
    let place = Place::new()?;
    for (conf, part) in [
        (ipvlan(json!({"mode": "l4"})), "\"mode\": \"l4\""),
        (ipvlan(json!({"ipam": null})), "\"ipam\" is missing"),
        (ipvlan(json!({"master": null})), "no default route"),
        (
            ipvlan(json!({"master": "gone"})),
            "the host has no link \"gone\"",
        ),
        (
            ipvlan(
                json!({"master": null, "prevResult": {"interfaces": [{"name": "a"}, {"name": "b"}]}}),
            ),
            "2 interfaces",
        ),
        (vlan(json!({"master": null})), "\"master\" is missing"),
        (vlan(json!({"vlanId": 4095})), "\"vlanId\": 4095"),
        (vlan(json!({"vlanId": -1})), "\"vlanId\": -1"),
        (vlan(json!({"ipam": null})), "\"ipam\" is missing"),
        (vlan(json!({"mtu": 1501})), "up0 carries"),
        (dummy(json!({"ipam": null})), "\"ipam\" is missing"),
    ] {
        let (code, message) = place.refused(&conf, "pod")?;
        ensure!(
            code == 7 && message.contains(part),
            "{code}: {message} lacks {part:?}"
        );
    }
    Ok(())
}

/// The master gone, a configuration that ADD would refuse, no namespace: what is not there is no reason to fail.
fn del() -> Result {
    let place = Place::new()?;
    let pod = place.node.pod("pod")?;
    for conf in [
        ipvlan(json!({"master": "gone", "mode": "l4"})),
        vlan(json!({"master": null, "vlanId": 9999})),
        dummy(json!({"ipam": null})),
    ] {
        for netns in ["/run/netns/pod", "", "/run/netns/nowhere", "/etc/hosts"] {
            let call = place.plugins.call("DEL", &conf).pod(&pod);
            call.netns(netns).send()?.done()?;
        }
        place.plugins.gc(&conf, &[])?.done()?;
    }
    Ok(())
}

fn with_packets(conf: &Value) -> Result {
    let place = Place::new()?;
    let (pod, result) = place.attach(conf, "pod")?;
    for (index, world) in ["192.0.2.2", "2001:db8::2"].iter().enumerate() {
        reach(pod.space(), place.world.space(), world.parse()?)?;
        reach(
            place.world.space(),
            pod.space(),
            crate::held::address(&result, index)?,
        )?;
    }
    Ok(())
}

fn vlan_with_packets() -> Result {
    let place = Place::new()?;
    lab::inspect::sh(
        place.world.space(),
        "ip address flush dev eth0; ip link add link eth0 name tagged type vlan id 100; ip link set tagged up\n\
         ip address add 192.0.2.2/24 dev tagged; ip address add 2001:db8::2/64 dev tagged nodad",
    )?;
    let (pod, _) = place.attach(&vlan(json!({})), "pod")?;
    for world in ["192.0.2.2", "2001:db8::2"] {
        reach(pod.space(), place.world.space(), world.parse()?)?;
    }
    Ok(())
}

fn as_every_plugin(conf: &Value) -> Result {
    let broken = conf::with(conf.clone(), json!({"master": "gone", "vlanId": 9999}));
    Place::new()?.del_in_every_condition(conf, &broken)?;
    Place::new()?.many_at_once(conf)?;
    Place::new()?.gc(conf, &[])?;
    Place::new()?.check_sees(
        conf,
        &[
            (true, "ip link set eth0 down"),
            (true, "ip address flush dev eth0"),
            (true, "ip link delete eth0"),
        ],
    )
}

/// Without an IPAM plugin of its own it takes the addresses of the one before, and stands on its link.
fn chained_ipvlan() -> Result {
    let place = Place::new()?;
    let before = json!({"cniVersion": "1.1.0", "interfaces": [{"name": "up0"}], "ips": [{"address": "192.0.2.77/24"}]});
    let conf = ipvlan(json!({"master": null, "ipam": null, "prevResult": before}));
    let (pod, _) = place.attach(&conf, "pod")?;
    reach(pod.space(), place.world.space(), "192.0.2.2".parse()?).map(drop)
}
