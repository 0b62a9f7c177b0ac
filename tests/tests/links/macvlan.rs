//! `macvlan`: pods on the node's own wire.
use anyhow::{Context, ensure};
use lab::inspect::{ip_one, sh};
use lab::{Case, Need, Result, conf};
use serde_json::{Value, json};

use crate::held::{self, Place, address, on_the_wire, reach};

pub fn cases() -> Vec<Case> {
    let reference = ["macvlan", "host-local", "static"].map(Need::Reference);
    let cases = vec![
        Case::new("macvlan_both_families_reach_and_are_reached", packets),
        Case::new("macvlan_modes_say_who_talks_to_whom", modes),
        Case::new("macvlan_without_addresses", layer_2),
        Case::new("macvlan_the_master_is_named_or_found", master),
        Case::new("macvlan_on_a_link_of_the_pod", in_the_pod),
        Case::new("macvlan_the_mac_comes_from_the_strongest_source", mac),
        Case::new("macvlan_a_second_add_is_refused", second_add),
        Case::new("macvlan_bad_configurations", bad_configurations),
        Case::new("macvlan_check_sees_what_is_missing", check),
        Case::new("macvlan_del_in_every_condition", del),
        Case::new("macvlan_many_at_once", || {
            Place::new()?.many_at_once(&everything())
        }),
        Case::new("macvlan_gc", || Place::new()?.gc(&everything(), &[])),
        Case::new("macvlan_status", status),
        Case::new("macvlan_add_with_each_call_failing", || {
            Place::new()?.add_with_each_call_failing(&everything())
        })
        .needs([Need::Program("strace")]),
        Case::new(
            "macvlan_what_the_reference_does_wrong",
            against_the_reference,
        )
        .needs(reference),
        Case::new("macvlan_a_link_of_the_reference_is_deleted", change_over).needs(reference),
    ];
    let kernel = [Need::Link("macvlan")];
    cases.into_iter().map(|case| case.needs(kernel)).collect()
}

fn macvlan(changes: Value) -> Value {
    let plain = json!({"cniVersion": "1.1.0", "name": "lab", "type": "macvlan", "master": "up0", "ipam": on_the_wire()});
    conf::with(plain, changes)
}

fn everything() -> Value {
    let mut ipam = on_the_wire();
    ipam["routes"] =
        json!([{"dst": "0.0.0.0/0", "gw": "192.0.2.2"}, {"dst": "::/0", "gw": "2001:db8::2"}]);
    macvlan(json!({"ipam": ipam, "mtu": 1400, "bcqueuelen": 2000}))
}

fn packets() -> Result {
    let place = Place::new()?;
    let (one, first) = place.attach(&everything(), "one")?;
    let (two, second) = place.attach(&everything(), "two")?;
    for (index, world) in ["192.0.2.2", "2001:db8::2"].iter().enumerate() {
        let seen = reach(one.space(), place.world.space(), world.parse()?)?.seen;
        assert_eq!(seen.ip(), address(&first, index)?);
        reach(place.world.space(), one.space(), address(&first, index)?)?;
        reach(one.space(), two.space(), address(&second, index)?)?;
    }
    let shown = ip_one(one.space(), "link show dev eth0")?;
    assert_eq!(
        first["interfaces"],
        json!([{"name": "eth0", "mac": shown["address"], "mtu": 1400, "sandbox": one.netns()}])
    );
    let data = &shown["linkinfo"]["info_data"];
    assert_eq!(
        (&data["mode"], &data["bcqueuelen"]),
        (&json!("bridge"), &json!(2000))
    );
    assert_eq!(shown["ifalias"], "heddle/lab/one/eth0");
    let conf = sh(
        one.space(),
        "cat /proc/sys/net/ipv4/conf/eth0/arp_notify /proc/sys/net/ipv6/conf/eth0/ndisc_notify",
    )?;
    assert_eq!(conf, "1\n1\n");
    for (pod, result) in [(&one, &first), (&two, &second)] {
        place.plugins.check(&everything(), pod, result)?.done()?;
        place.plugins.del(&everything(), pod)?.done()?;
    }
    Ok(())
}

fn modes() -> Result {
    let place = Place::new()?;
    for (mode, meet) in [("bridge", true), ("private", false), ("vepa", false)] {
        let conf = macvlan(json!({"mode": mode}));
        let (one, first) = place.attach(&conf, &format!("{mode}1"))?;
        let (two, second) = place.attach(&conf, &format!("{mode}2"))?;
        reach(one.space(), place.world.space(), "192.0.2.2".parse()?)?;
        let met = lab::probe::ping_within(
            one.space(),
            address(&second, 0)?,
            std::time::Duration::from_millis(500),
        );
        assert_eq!(met.is_ok(), meet, "{mode}: {met:?}");
        place.plugins.check(&conf, &one, &first)?.done()?;
        for pod in [&one, &two] {
            place.plugins.del(&conf, pod)?.done()?;
        }
    }
    // The only one there is, under the link's own MAC, which stays as it was.
    let before = place.snapshot()?;
    let wire = ip_one(place.node.space(), "link show dev up0")?;
    let conf = macvlan(json!({"mode": "passthru"}));
    let (pod, result) = place.attach(&conf, "passthru")?;
    assert_eq!(result["interfaces"][0]["mac"], wire["address"]);
    reach(pod.space(), place.world.space(), "2001:db8::2".parse()?)?;
    let (code, message) = place.refused(&conf, "another")?;
    ensure!(code == 7 || code == 999, "{code}: {message}");
    place.plugins.check(&conf, &pod, &result)?.done()?;
    place.plugins.del(&conf, &pod)?.done()?;
    place.snapshot()?.same_as(&before)
}

fn layer_2() -> Result {
    let place = Place::new()?;
    let conf = macvlan(json!({"ipam": null}));
    let before = place.snapshot()?;
    let (pod, result) = place.attach(&conf, "pod")?;
    ensure!(result.get("ips").is_none_or(|ips| ips == &json!([])));
    sh(pod.space(), "ip address add 192.0.2.77/24 dev eth0")?;
    reach(pod.space(), place.world.space(), "192.0.2.2".parse()?)?;
    place.plugins.check(&conf, &pod, &result)?.done()?;
    place.plugins.del(&conf, &pod)?.done()?;
    place.snapshot()?.same_as(&before)
}

fn master() -> Result {
    let place = Place::new()?;
    let conf = macvlan(json!({"master": null}));
    let (code, message) = place.refused(&conf, "lost")?;
    ensure!(
        code == 7 && message.contains("\"master\""),
        "{code}: {message}"
    );
    sh(
        place.node.space(),
        "ip route add default via 192.0.2.2; ip link set up0 mtu 1300",
    )?;
    let (pod, result) = place.attach(&conf, "pod")?;
    assert_eq!(
        result["interfaces"][0]["mtu"], 1300,
        "that of the link below"
    );
    reach(pod.space(), place.world.space(), "192.0.2.2".parse()?)?;
    // Another default route later is no fault of the pod's.
    sh(place.node.space(), "ip route delete default")?;
    place
        .plugins
        .check(&macvlan(json!({})), &pod, &result)?
        .done()
}

fn in_the_pod() -> Result {
    let place = Place::new()?;
    let conf = macvlan(json!({"master": "inner", "linkInContainer": true}));
    let pod = place.node.pod("pod")?;
    let (code, message) = place.plugins.add(&conf, &pod)?.failure()?;
    ensure!(
        code == 7 && message.contains("the pod has no link \"inner\""),
        "{code}: {message}"
    );
    sh(
        place.node.space(),
        "ip link add inner type veth peer name peer0 netns world; ip link set inner netns pod",
    )?;
    sh(pod.space(), "ip link set inner up")?;
    sh(
        place.world.space(),
        "ip link set peer0 up; ip address flush dev eth0; ip address add 192.0.2.2/24 dev peer0",
    )?;
    let result = place.plugins.add(&conf, &pod)?.result()?;
    reach(pod.space(), place.world.space(), "192.0.2.2".parse()?)?;
    place.plugins.check(&conf, &pod, &result)?.done()?;
    place.plugins.status(&conf)?.done()?;
    place.plugins.del(&conf, &pod)?.done()?;
    ensure!(
        lab::inspect::ip(pod.space(), "link show")?.len() == 2,
        "lo and inner"
    );
    Ok(())
}

fn mac() -> Result {
    let place = Place::new()?;
    let all = json!({"mac": "0a:58:00:00:00:01", "runtimeConfig": {"mac": "0a:58:00:00:00:03"}});
    for (number, (changes, args, wanted)) in [
        (all.clone(), "MAC=0a:58:00:00:00:02", "0a:58:00:00:00:03"),
        (
            json!({"mac": "0a:58:00:00:00:01"}),
            "IgnoreUnknown=1;K8S=x;MAC=0a:58:00:00:00:02",
            "0a:58:00:00:00:02",
        ),
        (json!({"mac": "0A:58:00:00:00:01"}), "", "0a:58:00:00:00:01"),
    ]
    .into_iter()
    .enumerate()
    {
        let conf = macvlan(conf::with(json!({"ipam": null}), changes));
        let pod = place.node.pod(&format!("pod{number}"))?;
        let result = place
            .plugins
            .call("ADD", &conf)
            .pod(&pod)
            .args(args)
            .send()?
            .result()?;
        assert_eq!(result["interfaces"][0]["mac"], wanted);
    }
    // Without one, a retry has the same.
    let pod = place.node.pod("pod")?;
    let mut seen = Vec::new();
    for _ in 0..2 {
        let result = place.plugins.add(&macvlan(json!({})), &pod)?.result()?;
        seen.push(result["interfaces"][0]["mac"].clone());
        place.plugins.del(&macvlan(json!({})), &pod)?.done()?;
    }
    assert_eq!(seen[0], seen[1]);
    Ok(())
}

fn second_add() -> Result {
    let place = Place::new()?;
    let (pod, result) = place.attach(&everything(), "pod")?;
    let before = place.state(&pod)?;
    let (code, message) = place.plugins.add(&everything(), &pod)?.failure()?;
    ensure!(
        code == 4 && message.contains("run DEL"),
        "{code}: {message}"
    );
    place.same(&pod, &before)?;
    place.plugins.check(&everything(), &pod, &result)?.done()?;
    // A link of the same name on the host is no obstacle.
    sh(
        place.node.space(),
        "ip link add eth0 type veth peer name eth9",
    )?;
    place.attach(&everything(), "another").map(drop)
}

fn bad_configurations() -> Result {
    let place = Place::new()?;
    for (changes, code, part) in [
        (
            json!({"master": "nowhere"}),
            7,
            "the host has no link \"nowhere\"",
        ),
        (json!({"mode": "bridged"}), 7, "\"mode\": \"bridged\""),
        (json!({"mtu": 1501}), 7, "up0 carries"),
        (json!({"mtu": -1}), 7, "\"mtu\": -1"),
        (json!({"mac": "somewhere"}), 7, "mac: \"somewhere\""),
        (json!({"mac": "01:00:00:00:00:01"}), 7, "group address"),
        (json!({"bcqueuelen": "long"}), 7, "bcqueuelen"),
        (json!({"ipam": {"type": "nowhere"}}), 7, "nowhere"),
    ] {
        let (found, message) = place.refused(&macvlan(changes), "pod")?;
        ensure!(
            found == code && message.contains(part),
            "{found}: {message} lacks {part:?}"
        );
    }
    let pod = place.node.pod("args")?;
    let call = place.plugins.call("ADD", &macvlan(json!({}))).pod(&pod);
    assert_eq!(call.clone().args("MAC=x").send()?.failure()?.0, 4);
    assert_eq!(call.args("UNKNOWN=x").send()?.failure()?.0, 4);
    sh(
        place.node.space(),
        "ip link add br0 type bridge; ip link set up0 master br0",
    )?;
    let (code, message) = place.refused(&everything(), "port")?;
    ensure!(
        code == 7 && message.contains("the link below belongs to a bridge"),
        "{code}: {message}"
    );
    Ok(())
}

fn check() -> Result {
    let place = Place::new()?;
    sh(
        place.node.space(),
        "ip link add other type veth peer name other1",
    )?;
    place.check_sees(
        &everything(),
        &[
            (true, "ip link delete eth0"),
            (true, "ip link delete eth0; ip link add eth0 type ifb; ip link set eth0 up"),
            (true, "ip link set eth0 type macvlan mode private"),
            (true, "ip link set eth0 down"),
            (true, "ip link set eth0 mtu 1300"),
            (true, "ip link set eth0 address 02:00:00:00:00:01"),
            (true, "ip address delete 2001:db8::10/64 dev eth0 || ip -6 address flush dev eth0 scope global"),
            (true, "ip route delete default"),
            (true, "ip -6 route delete default"),
        ],
    )?;
    let (pod, result) = place.attach(&everything(), "pod")?;
    let moved = conf::with(everything(), json!({"master": "other"}));
    let (_, message) = place.plugins.check(&moved, &pod, &result)?.failure()?;
    ensure!(
        message.contains("stands on another link than other"),
        "{message}"
    );
    sh(pod.space(), "ip link set eth0 promisc on")?;
    place.plugins.check(&everything(), &pod, &result)?.done()
}

fn del() -> Result {
    let mut broken = everything();
    broken["master"] = "gone".into();
    broken["mode"] = "none".into();
    broken["ipam"]["ranges"] = json!([[{"subnet": "10.1.2.3/24"}]]);
    Place::new()?.del_in_every_condition(&everything(), &broken)?;
    // The master gone: its macvlans go with it, their leases do not.
    let place = Place::new()?;
    let leases = || {
        sh(
            place.node.space(),
            "ls /var/lib/cni/networks/lab | grep -c ^192 || true",
        )
    };
    let (pod, _) = place.attach(&everything(), "pod")?;
    assert_eq!(leases()?, "1\n");
    sh(place.node.space(), "ip link delete up0")?;
    place.plugins.del(&everything(), &pod)?.done()?;
    assert_eq!(leases()?, "0\n");
    Ok(())
}

fn status() -> Result {
    let place = Place::new()?;
    let before = place.snapshot()?;
    place.plugins.status(&everything())?.done()?;
    for (changes, code) in [
        (json!({"master": "gone"}), 50),
        (json!({"master": null}), 50),
        (json!({"mode": "none"}), 7),
    ] {
        let reply = place.plugins.status(&macvlan(changes))?;
        assert_eq!(reply.failure()?.0, code);
    }
    place.snapshot()?.same_as(&before)
}

fn against_the_reference() -> Result {
    held::against_the_reference(&[
        ("a failing IPAM leaves the link in the pod", |place| {
            let pod = place.node.pod("pod")?;
            let full = json!({"type": "host-local", "subnet": "192.0.2.0/24", "rangeStart": "192.0.2.1", "rangeEnd": "192.0.2.1"});
            let conf = old(json!({"ipam": full}));
            place.plugins.add(&conf, &pod)?.failure()?;
            ensure!(lab::inspect::ip(pod.space(), "link show")?.len() == 1);
            Ok(())
        }),
        ("IPAM's DNS is lost", |place| {
            let ipam = json!({"type": "static", "addresses": [{"address": "192.0.2.9/24"}], "dns": {"nameservers": ["192.0.2.53"]}});
            let (_, result) = place.attach(&old(json!({"ipam": ipam})), "pod")?;
            ensure!(result["dns"]["nameservers"][0] == "192.0.2.53", "{result}");
            Ok(())
        }),
        ("a stale file in the place of the namespace", |place| {
            let (pod, _) = place.attach(&old(json!({})), "pod")?;
            pod.unmount(true)?;
            place.plugins.del(&old(json!({})), &pod)?.done()
        }),
    ])
}

fn old(changes: Value) -> Value {
    let ipam = json!({"type": "host-local", "subnet": "192.0.2.0/24", "rangeStart": "192.0.2.10"});
    macvlan(conf::with(
        json!({"cniVersion": "1.0.0", "ipam": ipam}),
        changes,
    ))
}

fn change_over() -> Result {
    let place = Place::new()?;
    let theirs = lab::Plugins::reference(&place.node);
    for (adding, deleting) in [(&theirs, &place.plugins), (&place.plugins, &theirs)] {
        let pod = place.node.pod("pod")?;
        let result = adding.add(&old(json!({})), &pod)?.result()?;
        let conf = lab::with_prev(&old(json!({})), &result);
        deleting.del(&conf, &pod)?.done().context("DEL")?;
        ensure!(lab::inspect::ip(pod.space(), "link show")?.len() == 1);
        pod.unmount(false)?;
    }
    Ok(())
}
