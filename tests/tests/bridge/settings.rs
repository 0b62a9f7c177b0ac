//! What the keys of one pod's port and interface do, and what is refused.
use crate::{Lab, address};
use anyhow::Context;
use lab::inspect::{ip_one, sh};
use lab::probe::{ping, ping_within};
use lab::{Need, Result, Snapshot, conf};
use serde_json::{Value, json};
use std::time::Duration;

pub fn port_settings_reach_the_kernel() -> Result {
    let lab = Lab::new()?;
    let port = |result: &Value| -> Result<Value> {
        let name = result["interfaces"][1]["name"].as_str().context("a name")?;
        Ok(ip_one(lab.node.space(), &format!("link show dev {name}"))?["linkinfo"]["info_slave_data"].clone())
    };
    let (_, plain) = lab.add(&conf::bridge(json!({})), "plain")?;
    let settings = port(&plain)?;
    assert_eq!(
        (&settings["hairpin"], &settings["isolated"]),
        (&json!(false), &json!(false))
    );
    let (_, set) = lab.add(
        &conf::bridge(json!({"hairpinMode": true, "portIsolation": true})),
        "set",
    )?;
    let settings = port(&set)?;
    assert_eq!(
        (&settings["hairpin"], &settings["isolated"]),
        (&json!(true), &json!(true))
    );

    let (alone, _) = lab.add(&conf::bridge(json!({"portIsolation": true})), "alone")?;
    let to = address(&set, 0)?;
    assert!(
        ping_within(alone.space(), to, Duration::from_millis(400)).is_err(),
        "isolated ports talk"
    );
    ping(alone.space(), address(&plain, 0)?)?;

    let (_, _) = lab.add(&conf::bridge(json!({"promiscMode": true})), "promisc")?;
    let flags = ip_one(lab.node.space(), "link show dev cbr0")?["flags"].to_string();
    assert!(flags.contains("PROMISC"), "{flags}");
    Ok(())
}

pub fn a_spoofed_mac_is_dropped() -> Result {
    let lab = Lab::new()?;
    let conf = conf::bridge(json!({"isGateway": true, "macspoofchk": true}));
    let (one, result) = lab.add(&conf, "one")?;
    let gateway = "10.88.0.1".parse()?;
    ping(one.space(), gateway)?;
    lab.plugins.check(&conf, &one, &result)?.done()?;
    sh(one.space(), "ip link set eth0 address 02:00:00:00:00:99")?;
    assert!(
        ping_within(one.space(), gateway, Duration::from_millis(400)).is_err(),
        "a foreign MAC passes"
    );
    sh(
        one.space(),
        &format!(
            "ip link set eth0 address {}",
            result["interfaces"][2]["mac"].as_str().context("a MAC")?
        ),
    )?;
    ping(one.space(), gateway)?;
    sh(lab.node.space(), "nft flush map bridge heddle_cni ports")?;
    let (_, message) = lab.plugins.check(&conf, &one, &result)?.failure()?;
    assert!(message.contains("not checked any more"), "{message}");
    Ok(())
}

pub fn the_mtu_is_that_of_the_conf_or_of_the_default_route() -> Result {
    for (setup, mtu, expected) in [
        ("true", json!(1300), 1300),
        ("true", json!(null), 1500),
        (
            "ip link add up0 mtu 1450 type veth peer name x; ip link set up0 up; ip address add 192.0.2.2/24 dev up0; ip route add default via 192.0.2.1",
            json!(0),
            1450,
        ),
    ] {
        let lab = Lab::new()?;
        sh(lab.node.space(), setup)?;
        let (one, result) = lab.add(&conf::bridge(json!({"mtu": mtu})), "one")?;
        for index in 0..3 {
            assert_eq!(result["interfaces"][index]["mtu"], expected, "{setup}");
        }
        assert_eq!(ip_one(one.space(), "link show dev eth0")?["mtu"], expected);
        assert_eq!(
            ip_one(lab.node.space(), "link show dev cbr0")?["mtu"],
            expected
        );
    }
    Ok(())
}

pub fn the_mac_comes_from_the_strongest_source() -> Result {
    let lab = Lab::new()?;
    let from_args = json!({"cni": {"mac": "02:00:00:00:00:02"}});
    let from_runtime = json!({"mac": "02:00:00:00:00:03"});
    let cases = [
        (json!({}), "02:00:00:00:00:01"),
        (json!({"args": from_args}), "02:00:00:00:00:02"),
        (
            json!({"args": from_args, "runtimeConfig": from_runtime}),
            "02:00:00:00:00:03",
        ),
    ];
    for (changes, expected) in cases {
        let (conf, pod) = (
            conf::bridge(changes),
            lab.node.pod(&expected.replace(':', "-"))?,
        );
        let call = lab
            .plugins
            .call("ADD", &conf)
            .pod(&pod)
            .args("MAC=02:00:00:00:00:01");
        let result = call.send()?.result()?;
        assert_eq!(result["interfaces"][2]["mac"], expected);
        assert_eq!(
            ip_one(pod.space(), "link show dev eth0")?["address"],
            expected
        );
        lab.plugins.del(&conf, &pod)?.done()?;
    }
    let pod = lab.node.pod("group")?;
    let conf = conf::bridge(json!({"runtimeConfig": {"mac": "01:00:5e:00:00:01"}}));
    let (code, message) = lab.plugins.add(&conf, &pod)?.failure()?;
    assert!(
        code == 7 && message.contains("runtimeConfig.mac") && message.contains("group address"),
        "{code}: {message}"
    );
    Ok(())
}

pub fn a_disabled_interface_stays_down() -> Result {
    let lab = Lab::new()?;
    let conf = conf::bridge(json!({"disableContainerInterface": true, "ipam": null}));
    let (one, result) = lab.add(&conf, "one")?;
    assert_eq!(
        ip_one(one.space(), "link show dev eth0")?["operstate"],
        "DOWN"
    );
    lab.plugins.check(&conf, &one, &result)?.done()?;
    let (code, message) = lab
        .plugins
        .add(
            &conf::bridge(json!({"disableContainerInterface": true})),
            &lab.node.pod("two")?,
        )?
        .failure()?;
    assert!(
        code == 7 && message.contains("disableContainerInterface"),
        "{code}: {message}"
    );
    Ok(())
}

pub fn dns_of_the_conf_replaces_that_of_ipam() -> Result {
    let lab = Lab::new()?;
    lab.node
        .run(|| std::fs::write("/run/resolv.conf", "nameserver 192.0.2.53\nsearch a b\n"))?;
    let ipam =
        json!({"type": "host-local", "subnet": "10.88.0.0/24", "resolvConf": "/run/resolv.conf"});
    let (_, result) = lab.add(&conf::bridge(json!({"ipam": ipam})), "one")?;
    assert_eq!(
        result["dns"],
        json!({"nameservers": ["192.0.2.53"], "search": ["a", "b"]})
    );
    let (_, result) = lab.add(
        &conf::bridge(json!({"ipam": ipam, "dns": {"domain": "x"}})),
        "two",
    )?;
    assert_eq!(result["dns"], json!({"domain": "x"}));
    let (_, result) = lab.add(
        &conf::bridge(json!({"ipam": ipam, "dns": {"search": []}})),
        "three",
    )?;
    assert!(
        result["dns"].as_object().is_none_or(|dns| dns.is_empty()),
        "{}",
        result["dns"]
    );
    Ok(())
}

pub fn a_second_add_is_refused_and_harms_nothing() -> Result {
    let lab = Lab::new()?;
    let conf = conf::bridge(json!({"isGateway": true, "ipMasq": true, "macspoofchk": true}));
    let (one, result) = lab.add(&conf, "one")?;
    let before = Snapshot::of(lab.node.space())?;
    let (code, message) = lab.plugins.add(&conf, &one)?.failure()?;
    assert!(
        code == 4 && message.contains("eth0") && message.contains("DEL"),
        "{code}: {message}"
    );
    Snapshot::of(lab.node.space())?.same_as(&before)?;
    ping(one.space(), "10.88.0.1".parse()?)?;
    lab.plugins.check(&conf, &one, &result)?.done()
}

pub fn vlans_are_refused_clearly_or_set() -> Result {
    let lab = Lab::new()?;
    let pod = lab.node.pod("one")?;
    let conf = conf::bridge(
        json!({"ipam": null, "vlan": 100, "vlanTrunk": [{"id": 5}, {"minID": 10, "maxID": 12}]}),
    );
    let before = Snapshot::of(lab.node.space())?;
    let reply = lab.plugins.add(&conf, &pod)?;
    if let Some(why) = Need::VlanFiltering.missing() {
        let (_, message) = reply.failure()?;
        assert!(message.contains("not supported"), "{why}: {message}");
        return Snapshot::of(lab.node.space())?.same_as(&before);
    }
    let result = reply.result()?;
    let name = result["interfaces"][1]["name"].as_str().context("a name")?;
    let shown = sh(lab.node.space(), &format!("bridge vlan show dev {name}"))?;
    let found: Vec<&str> = shown
        .split_whitespace()
        .filter(|word| word.parse::<u16>().is_ok())
        .collect();
    assert_eq!(found, ["5", "10", "11", "12", "100"], "{shown}");
    lab.plugins.check(&conf, &pod, &result)?.done()
}
