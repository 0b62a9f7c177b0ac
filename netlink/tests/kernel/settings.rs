//! What goes for links of all kinds: settings, names and numbers, deletion.
use netlink::link::{self, set_alias, set_mac, set_mtu, set_promisc};
use netlink::netns::Netns;
use nix::errno::Errno;
use serde_json::json;

use crate::sandbox::{another_netns, try_run};
use crate::tools::*;

pub fn settings_of_any_link_are_changed() {
    let (mut host, here) = (handle(), Netns::current().unwrap());
    let mut pair = veth("one", "two", &here);
    pair.up = false;
    accept(&mut host, pair.request());
    let one = index("one");
    let alias = "heddle/a network/with spaces and ü";
    host.execute(vec![
        set_mtu(one, 1280),
        set_mac(one, mac(0x42)),
        set_alias(one, alias),
        set_promisc(one, true),
        link::arp_notify(one),
        link::set_up(one),
    ])
    .unwrap();
    let shown = ip_one("link show dev one");
    assert_eq!(
        (&shown["mtu"], &shown["ifalias"]),
        (&json!(1280), &json!(alias))
    );
    assert_eq!(
        (&shown["address"], &shown["promiscuity"]),
        (&json!("02:00:00:00:00:42"), &json!(1))
    );
    assert!(
        has(&shown["flags"], "PROMISC") && has(&shown["flags"], "UP"),
        "{shown}"
    );
    assert_eq!(sh("cat /proc/sys/net/ipv4/conf/one/arp_notify").trim(), "1");
    assert_eq!(sh("cat /proc/sys/net/ipv4/conf/two/arp_notify").trim(), "0");
    let seen = host.link_by_index(one).unwrap().unwrap();
    assert_eq!(
        (seen.alias.as_deref(), seen.promiscuity, seen.up),
        (Some(alias), 1, true)
    );

    host.execute(vec![set_promisc(one, false), link::set_down(one)])
        .unwrap();
    let shown = ip_one("link show dev one");
    assert!(
        !has(&shown["flags"], "PROMISC") && !has(&shown["flags"], "UP"),
        "{shown}"
    );
    assert_eq!(
        (&shown["promiscuity"], &shown["mtu"]),
        (&json!(0), &json!(1280))
    );
}

pub fn wrong_settings_are_refused_in_the_kernels_words() {
    let mut host = handle();
    let bridge = make_bridge(&mut host, "br0");
    let error = refuse(&mut host, set_mtu(bridge, 100_000));
    assert_refused(
        &error,
        Errno::EINVAL,
        &format!("set the MTU of link {bridge}"),
    );
    assert_eq!(text(&error), "mtu greater than device maximum");
    accept(&mut host, set_alias(bridge, &"x".repeat(255)));
    assert_eq!(
        ip_one("link show dev br0")["ifalias"]
            .as_str()
            .map(str::len),
        Some(255)
    );
    let error = refuse(&mut host, set_alias(bridge, &"x".repeat(256)));
    assert!(
        matches!(error.errno(), Some(Errno::EINVAL | Errno::ERANGE)),
        "{error}"
    );
    let error = refuse(
        &mut host,
        set_mac(bridge, "01:00:00:00:00:01".parse().unwrap()),
    );
    assert_eq!(
        error.errno(),
        Some(Errno::EADDRNOTAVAIL),
        "a group owns no interface: {error}"
    );
    let wrongs = [
        set_mtu(4242, 1400),
        set_mac(4242, mac(1)),
        set_alias(4242, "x"),
        set_promisc(4242, true),
        link::set_up(4242),
        link::arp_notify(4242),
        link::delete(4242),
    ];
    for request in wrongs {
        let error = refuse(&mut host, request);
        assert!(
            error.is_not_found() && error.to_string().contains(" link 4242: "),
            "{error}"
        );
    }
}

pub fn links_are_found_and_listed() {
    let (mut host, here) = (handle(), Netns::current().unwrap());
    let names: Vec<_> = (0..200)
        .map(|number| (format!("a{number}"), format!("b{number}")))
        .collect();
    let pairs = names
        .iter()
        .map(|(one, two)| veth(one, two, &here).request());
    host.execute(pairs.collect()).unwrap();
    let shown = ip("link show");
    let shown: Vec<_> = shown
        .iter()
        .map(|link| {
            (
                link["ifindex"].as_u64().unwrap(),
                link["ifname"].as_str().unwrap(),
            )
        })
        .collect();
    let links = host.links().unwrap();
    let seen: Vec<_> = links
        .iter()
        .map(|link| (link.index.into(), link.name.as_str()))
        .collect();
    assert_eq!(seen, shown);
    assert_eq!(seen.len(), 401);
    let last = index("b199");
    assert_eq!(host.link_by_index(last).unwrap().unwrap().name, "b199");
    assert_eq!(host.link("b199").unwrap().unwrap().index, last);
    assert_eq!(host.link("b200").unwrap(), None);
    assert_eq!(host.link_by_index(4242).unwrap(), None);
    assert_eq!(host.link("lo").unwrap().unwrap().kind, None);
}

pub fn a_pair_is_deleted_whole() {
    let (mut host, pod) = (handle(), another_netns());
    accept(&mut host, veth("host0", "eth0", &pod).request());
    let one = index("host0");
    accept(&mut host, link::delete(one));
    assert!(try_run("ip", &["link", "show", "dev", "host0"]).is_err());
    let there = pod.run(|| ip("link show")).unwrap();
    assert_eq!(there.len(), 1, "only lo is left: {there:?}");
    let error = refuse(&mut host, link::delete(one));
    assert_refused(&error, Errno::ENODEV, &format!("delete link {one}"));
    assert!(error.is_not_found());
}
