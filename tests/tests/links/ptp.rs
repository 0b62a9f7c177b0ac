//! `ptp`: the host routes, and the pod sees no neighbour but the host.
use anyhow::{Context, ensure};
use lab::inspect::{ip, ip_one, sh};
use lab::probe::ping;
use lab::{Case, Need, Plugins, Result, conf, with_prev};
use serde_json::{Value, json};

use crate::held::{self, Place, address, reach};

pub fn cases() -> Vec<Case> {
    let reference = ["ptp", "host-local", "static"].map(Need::Reference);
    vec![
        Case::new("ptp_both_families_reach_and_are_reached", packets),
        Case::new("ptp_only_what_leaves_the_subnet_is_masqueraded", masquerade),
        Case::new("ptp_the_result_says_what_is_there", result),
        Case::new("ptp_a_gateway_is_found_or_asked_for", gateways),
        Case::new("ptp_addresses_may_share_a_gateway", several_addresses),
        Case::new("ptp_an_address_of_another_is_refused", taken),
        Case::new("ptp_bad_configurations", bad_configurations),
        Case::new("ptp_check_sees_what_is_missing", check),
        Case::new("ptp_del_in_every_condition", del),
        Case::new("ptp_many_at_once", || {
            Place::new()?.many_at_once(&everything())
        }),
        Case::new("ptp_gc", || Place::new()?.gc(&everything(), &[])),
        Case::new("ptp_status", status),
        Case::new("ptp_add_with_each_call_failing", || {
            Place::new()?.add_with_each_call_failing(&everything())
        })
        .needs([Need::Program("strace")]),
        Case::new("ptp_what_the_reference_does_wrong", against_the_reference)
            .needs(reference)
            .needs([Need::Program("iptables")]),
        Case::new("ptp_a_pair_of_the_reference_is_deleted", change_over).needs(reference),
    ]
}

fn ptp(changes: Value) -> Value {
    let plain =
        json!({"cniVersion": "1.1.0", "name": "lab", "type": "ptp", "ipam": conf::dual_stack()});
    conf::with(plain, changes)
}

fn with_routes() -> Value {
    let mut ipam = conf::dual_stack();
    ipam["routes"] = json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0", "mtu": 1400}]);
    ipam
}

fn everything() -> Value {
    ptp(json!({"ipMasq": true, "ipam": with_routes()}))
}

fn packets() -> Result {
    let place = Place::new()?;
    let conf = ptp(json!({"ipam": with_routes()}));
    let (one, first) = place.attach(&conf, "one")?;
    for index in [0, 1] {
        // At once: nothing is probed or waited for.
        ping(place.node.space(), address(&first, index)?)?;
    }
    let (two, second) = place.attach(&conf, "two")?;
    let world = [json!("192.0.2.2"), json!("2001:db8::2")];
    for (index, world) in world.iter().enumerate() {
        let world_ip = world.as_str().context("text")?.parse()?;
        let seen = reach(one.space(), place.world.space(), world_ip)?.seen;
        assert_eq!(
            seen.ip(),
            address(&first, index)?,
            "as it is, unmasqueraded"
        );
        reach(place.world.space(), one.space(), address(&first, index)?)?;
        reach(two.space(), one.space(), address(&first, index)?)?;
        reach(one.space(), two.space(), address(&second, index)?)?;
        reach(place.node.space(), two.space(), address(&second, index)?)?;
        let gateway = if index == 0 { "10.88.0.1" } else { "fd88::1" };
        ping(two.space(), gateway.parse()?)?;
    }
    // The neighbour in the same subnet is behind the host as well.
    let route = ip(one.space(), "route get 10.88.0.3")?;
    assert_eq!(route[0]["gateway"], "10.88.0.1");
    let route = ip_one(one.space(), "-6 route show default")?;
    assert_eq!(route["metrics"][0]["mtu"], 1400);
    for (pod, result) in [(&one, &first), (&two, &second)] {
        place.plugins.check(&conf, pod, result)?.done()?;
        place.plugins.del(&conf, pod)?.done()?;
    }
    Ok(())
}

fn masquerade() -> Result {
    let place = Place::new()?;
    let (one, _) = place.attach(&everything(), "one")?;
    let (two, second) = place.attach(&everything(), "two")?;
    for (index, world, node) in [
        (0, "192.0.2.2", "192.0.2.1"),
        (1, "2001:db8::2", "2001:db8::1"),
    ] {
        let seen = reach(one.space(), place.world.space(), world.parse()?)?.seen;
        assert_eq!(seen.ip().to_string(), node);
        let seen = reach(one.space(), two.space(), address(&second, index)?)?.seen;
        ensure!(
            seen.ip().to_string() != node,
            "masqueraded within the subnet"
        );
    }
    Ok(())
}

fn result() -> Result {
    let place = Place::new()?;
    sh(
        place.node.space(),
        "ip link set up0 mtu 1400; ip route add default via 192.0.2.2",
    )?;
    for (changes, mtu) in [(json!({}), 1400), (json!({"mtu": 1280}), 1280)] {
        let dns = json!({"nameservers": ["192.0.2.53"]});
        let conf = ptp(conf::with(json!({"dns": dns}), changes));
        let (pod, result) = place.attach(&conf, "pod")?;
        let inner = ip_one(pod.space(), "link show dev eth0")?;
        let name = result["interfaces"][0]["name"].as_str().context("a name")?;
        let outer = ip_one(place.node.space(), &format!("link show dev {name}"))?;
        assert_eq!(
            result["interfaces"],
            json!([
                {"name": name, "mac": outer["address"], "mtu": mtu},
                {"name": "eth0", "mac": inner["address"], "mtu": mtu, "sandbox": pod.netns()},
            ])
        );
        assert_eq!((&inner["mtu"], &outer["mtu"]), (&json!(mtu), &json!(mtu)));
        assert_eq!(outer["ifalias"], "heddle/lab/pod/eth0");
        let ips = result["ips"].as_array().context("ips")?;
        ensure!(ips.len() == 2 && ips.iter().all(|ip| ip["interface"] == 1));
        assert_eq!(
            (&result["dns"], &ips[0]["gateway"]),
            (&dns, &json!("10.88.0.1"))
        );
        let (code, message) = place.plugins.add(&conf, &pod)?.failure()?;
        ensure!(
            code == 4 && message.contains("run DEL"),
            "{code}: {message}"
        );
        place.plugins.check(&conf, &pod, &result)?.done()?;
        place.plugins.del(&conf, &pod)?.done()?;
        pod.unmount(false)?;
    }
    Ok(())
}

fn fixed(address: &str, gateway: Option<&str>) -> Value {
    let mut wanted = json!({"address": address});
    if let Some(gateway) = gateway {
        wanted["gateway"] = gateway.into();
    }
    ptp(
        json!({"ipam": {"type": "static", "addresses": [wanted], "routes": [{"dst": "192.0.2.0/24"}]}}),
    )
}

fn gateways() -> Result {
    let place = Place::new()?;
    for (wanted, gateway, chosen) in [
        ("10.5.0.9/24", None, "10.5.0.1"),
        ("10.5.0.0/31", None, "10.5.0.1"),
        ("10.5.0.9/32", Some("169.254.1.1"), "169.254.1.1"),
        ("10.5.0.9/24", Some("10.6.0.1"), "10.6.0.1"),
        ("fd05::9/64", None, "fd05::1"),
        ("fd05::9/128", Some("fe80::1"), "fe80::1"),
    ] {
        let mut conf = fixed(wanted, gateway);
        if wanted.contains("fd05") {
            conf["ipam"]["routes"] = json!([{"dst": "2001:db8::/64"}]);
        }
        let name = wanted.replace(['/', ':'], "-") + &gateway.unwrap_or_default().replace(':', "-");
        let (pod, result) = place.attach(&conf, &name)?;
        assert_eq!(result["ips"][0]["gateway"], chosen, "{wanted}");
        reach(place.world.space(), pod.space(), address(&result, 0)?)?;
        place.plugins.check(&conf, &pod, &result)?.done()?;
        place.plugins.del(&conf, &pod)?.done()?;
    }
    for (address, gateway) in [
        ("10.5.0.9/32", None),
        ("fd05::9/128", None),
        ("10.5.0.1/24", None),
        ("10.5.0.9/24", Some("10.5.0.9")),
    ] {
        let (code, message) = place.refused(&fixed(address, gateway), "refused")?;
        ensure!(
            code == 7 && message.contains("\"gateway\"") && message.contains(address),
            "{code}: {message}"
        );
    }
    Ok(())
}

fn several_addresses() -> Result {
    let place = Place::new()?;
    let conf = ptp(
        json!({"ipam": {"type": "static", "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}], "addresses": [
            {"address": "10.5.0.9/24"}, {"address": "10.5.0.10/24"}, {"address": "10.6.0.9/24"},
            {"address": "fd05::9/64"}, {"address": "fd05::a/64"},
        ]}}),
    );
    let before = place.snapshot()?;
    let (pod, result) = place.attach(&conf, "pod")?;
    for index in 0..5 {
        reach(place.world.space(), pod.space(), address(&result, index)?)?;
    }
    place.plugins.check(&conf, &pod, &result)?.done()?;
    place.plugins.del(&conf, &pod)?.done()?;
    place.snapshot()?.same_as(&before)
}

fn taken() -> Result {
    let place = Place::new()?;
    for wanted in ["10.5.0.9/24", "fd05::9/64"] {
        let mut conf = fixed(wanted, None);
        conf["ipam"]["routes"] = json!([]);
        let name = if wanted.starts_with('f') { "v6" } else { "v4" };
        let (pod, result) = place.attach(&conf, name)?;
        let (code, message) = place.refused(&conf, "second")?;
        ensure!(
            code == 4 && message.contains(&format!("heddle/lab/{name}/eth0")),
            "{code}: {message}"
        );
        place.plugins.check(&conf, &pod, &result)?.done()?;
    }
    Ok(())
}

fn bad_configurations() -> Result {
    let place = Place::new()?;
    for (changes, code, part) in [
        (json!({"ipam": null}), 7, "\"ipam\" is missing"),
        (json!({"ipam": {}}), 7, "\"ipam\" is missing"),
        (json!({"mtu": 67}), 7, "\"mtu\": 67"),
        (json!({"mtu": "1500"}), 7, "mtu"),
        (json!({"ipMasqBackend": "ipfw"}), 2, "ipfw"),
        (json!({"ipam": {"type": "nowhere"}}), 7, "nowhere"),
    ] {
        let (found, message) = place.refused(&ptp(changes), "pod")?;
        ensure!(
            found == code && message.contains(part),
            "{found}: {message} lacks {part:?}"
        );
    }
    let (pod, _) = place.attach(&ptp(json!({})), "pod")?;
    let call = |verb| place.plugins.call(verb, &ptp(json!({}))).pod(&pod);
    let elsewhere = call("ADD").netns("/run/netns/nowhere").send()?;
    assert_eq!(elsewhere.failure()?.0, 8);
    let (code, message) = call("CHECK").send()?.failure()?;
    ensure!(
        code == 7 && message.contains("prevResult"),
        "{code}: {message}"
    );
    Ok(())
}

fn check() -> Result {
    Place::new()?.check_sees(
        &everything(),
        &[
            (false, "ip link set HOST down"),
            (false, "ip link set HOST alias somebody"),
            (false, "ip link delete HOST"),
            (false, "ip address delete 10.88.0.1/32 dev HOST"),
            (false, "ip address delete fd88::1/128 dev HOST"),
            (false, "ip route delete $(ip route show dev HOST | cut -d' ' -f1)"),
            (false, "ip -6 route delete $(ip -6 route show dev HOST | grep ^fd88 | grep -v ::1 | cut -d' ' -f1) dev HOST"),
            (false, "echo 0 > /proc/sys/net/ipv4/ip_forward"),
            (false, "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 0 > /proc/sys/net/ipv6/conf/all/forwarding"),
            (false, "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding; nft flush map inet heddle_cni masq4"),
            (false, "nft flush map inet heddle_cni masq6"),
            (true, "ip link set eth0 down"),
            (true, "ip link set eth0 mtu 1300"),
            (true, "ip link set eth0 address 02:00:00:00:00:01"),
            (true, "ip address flush dev eth0"),
            (true, "ip route delete default"),
            (true, "ip route delete 10.88.0.1; true"),
            (true, "ip route delete 10.88.0.0/24"),
            (true, "ip -6 route delete default"),
            (true, "ip -6 route delete fd88::/64"),
        ],
    )?;
    // What others may rightly do is no damage.
    let place = Place::new()?;
    let (pod, result) = place.attach(&everything(), "pod")?;
    sh(
        pod.space(),
        "ip link set eth0 promisc on; ip route add 198.51.100.0/24 via 10.88.0.1",
    )?;
    place.plugins.check(&everything(), &pod, &result)?.done()
}

fn del() -> Result {
    let mut broken = ptp(json!({"mtu": -5, "ipMasqBackend": "ipfw", "prevResult": {"ips": 7}}));
    broken["ipam"]["ranges"] = json!([[{"subnet": "10.1.2.3/24"}]]);
    Place::new()?.del_in_every_condition(&everything(), &broken)?;
    // Without "ipam" there is nothing to release, and the rest goes all the same.
    let place = Place::new()?;
    let before = place.snapshot()?.without(&["/var/lib/cni"]);
    let (pod, _) = place.attach(&everything(), "pod")?;
    place
        .plugins
        .del(&ptp(json!({"ipam": null})), &pod)?
        .done()?;
    place
        .snapshot()?
        .without(&["/var/lib/cni"])
        .same_as(&before)
}

fn status() -> Result {
    let place = Place::new()?;
    place.plugins.status(&everything())?.done()?;
    let tiny = ptp(json!({"ipam": {"type": "host-local", "subnet": "10.88.0.0/30"}}));
    place.attach(&tiny, "pod")?;
    let before = place.snapshot()?;
    assert_eq!(place.plugins.status(&tiny)?.failure()?.0, 50);
    assert_eq!(
        place
            .plugins
            .status(&ptp(json!({"ipam": {}})))?
            .failure()?
            .0,
        7
    );
    place.snapshot()?.same_as(&before)
}

fn against_the_reference() -> Result {
    held::against_the_reference(&[
        ("masquerading stays when DEL has no namespace", |place| {
            let conf = old(json!({"ipMasq": true}));
            let (pod, _) = place.attach(&conf, "pod")?;
            let call = place.plugins.call("DEL", &conf).pod(&pod);
            call.netns("").send()?.done()?;
            let rules = lab::inspect::ruleset(place.node.space())?;
            ensure!(!rules.contains("10.88.0."), "{rules}");
            Ok(())
        }),
        ("IPAM without a gateway", |place| {
            let conf =
                old(json!({"ipam": {"type": "static", "addresses": [{"address": "10.5.0.9/24"}]}}));
            place.attach(&conf, "pod").map(drop)
        }),
        ("a stale file in the place of the namespace", |place| {
            let (pod, _) = place.attach(&old(json!({})), "pod")?;
            pod.unmount(true)?;
            place.plugins.del(&old(json!({})), &pod)?.done()
        }),
        ("two addresses with one gateway", |place| {
            let conf = old(json!({"ipam": {"type": "static", "addresses": [
                {"address": "10.5.0.9/24", "gateway": "10.5.0.1"}, {"address": "10.5.0.10/24", "gateway": "10.5.0.1"},
            ]}}));
            place.attach(&conf, "pod").map(drop)
        }),
    ])
}

fn old(changes: Value) -> Value {
    let ipam = json!({"type": "host-local", "subnet": "10.88.0.0/24"});
    ptp(conf::with(
        json!({"cniVersion": "1.0.0", "ipam": ipam}),
        changes,
    ))
}

/// A node that changes over with pods running, in both directions.
fn change_over() -> Result {
    let place = Place::new()?;
    let theirs = Plugins::reference(&place.node);
    let conf = old(json!({}));
    // A row of our index that the reference's DEL knows nothing of is a cache, and is looked through again.
    let snapshot = || Ok::<_, anyhow::Error>(place.snapshot()?.without(&[".heddle/"]));
    let before = snapshot()?;
    for (adding, deleting) in [(&theirs, &place.plugins), (&place.plugins, &theirs)] {
        let pod = place.node.pod("pod")?;
        let result = adding.add(&conf, &pod)?.result()?;
        reach(place.world.space(), pod.space(), address(&result, 0)?).ok();
        deleting.del(&with_prev(&conf, &result), &pod)?.done()?;
        snapshot()?.same_as(&before)?;
        pod.unmount(false)?;
    }
    Ok(())
}
