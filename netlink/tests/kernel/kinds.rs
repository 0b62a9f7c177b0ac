//! Links on other links, links that move, and which kinds the kernel has.
use netlink::link::{self, Macvlan, MacvlanMode, NewLink};
use nix::errno::Errno;
use serde_json::json;

use crate::sandbox::another_netns;
use crate::tools::*;

pub fn a_macvlan_is_born_elsewhere_as_asked() {
    let (mut host, pod) = (handle(), another_netns());
    accept(&mut host, veth("below", "other", &pod).request());
    for mode in [
        MacvlanMode::Private,
        MacvlanMode::Vepa,
        MacvlanMode::Bridge,
        MacvlanMode::Passthru,
    ] {
        let wanted = Macvlan {
            link: NewLink {
                name: "eth0",
                netns: Some(&pod),
                below: Some(index("below")),
                mtu: Some(1400),
                mac: (mode != MacvlanMode::Passthru).then(|| mac(7)),
            },
            mode,
            broadcast_queue: Some(2000),
        };
        accept(&mut host, wanted.request());
        let mut inside = netlink::Handle::in_netns(&pod).unwrap();
        let made = inside.link("eth0").unwrap().unwrap();
        assert_eq!(made.kind.as_deref(), Some("macvlan"));
        assert_eq!((made.macvlan, made.mtu, made.up), (Some(mode), 1400, false));
        assert_eq!(made.peer_index, Some(index("below")));
        let shown = pod.run(|| ip_one("link show dev eth0")).unwrap();
        assert_eq!(shown["linkinfo"]["info_data"]["bcqueuelen"], 2000);
        if mode != MacvlanMode::Passthru {
            assert_eq!(shown["address"], "02:00:00:00:00:07");
        }
        accept(&mut inside, link::delete(made.index));
    }
    let lost = NewLink {
        name: "eth0",
        netns: Some(&pod),
        ..NewLink::default()
    };
    let lost = Macvlan {
        link: lost,
        mode: MacvlanMode::Bridge,
        broadcast_queue: None,
    };
    let error = refuse(&mut host, lost.request());
    assert_refused(&error, Errno::EINVAL, "create macvlan eth0");
}

pub fn a_link_moves_and_keeps_its_other_names() {
    let (mut host, pod, here) = (
        handle(),
        another_netns(),
        netlink::netns::Netns::current().unwrap(),
    );
    accept(&mut host, veth("one", "two", &here).request());
    let mark = "heddle-0123456789abcdef-0123456789abcdef";
    assert_eq!(host.link_by_alternative_name(mark).unwrap(), None);
    host.execute(vec![
        link::add_alternative_name(index("one"), mark),
        link::add_alternative_name(index("one"), "another"),
    ])
    .unwrap();
    accept(
        &mut host,
        link::move_to(index("one"), &pod, "eth0", "one of them"),
    );
    assert_eq!(host.link("one").unwrap(), None);
    let mut inside = netlink::Handle::in_netns(&pod).unwrap();
    let moved = inside.link_by_alternative_name(mark).unwrap().unwrap();
    assert_eq!((moved.name.as_str(), moved.up), ("eth0", false));
    assert_eq!(moved.alias.as_deref(), Some("one of them"));
    assert_eq!(moved.alternative_names, [mark, "another"]);
    inside
        .execute(vec![
            link::delete_alternative_name(moved.index, mark),
            link::rename(moved.index, "eth1"),
        ])
        .unwrap();
    assert_eq!(inside.link_by_alternative_name(mark).unwrap(), None);
    let error = refuse(
        &mut inside,
        link::delete_alternative_name(moved.index, mark),
    );
    assert!(error.is_not_found(), "{error}");
    accept(&mut inside, link::move_to(moved.index, &here, "one", ""));
    let back = ip_one("link show dev one");
    assert_eq!(
        (&back["ifalias"], &back["altnames"]),
        (&json!(null), &json!(["another"]))
    );
}

pub fn a_name_that_is_taken_stops_a_move() {
    let (mut host, pod, here) = (
        handle(),
        another_netns(),
        netlink::netns::Netns::current().unwrap(),
    );
    accept(&mut host, veth("one", "two", &here).request());
    accept(&mut host, veth("three", "one", &pod).request());
    let error = refuse(&mut host, link::move_to(index("one"), &pod, "one", ""));
    assert!(error.is_exists(), "{error}");
    assert!(host.link("one").unwrap().is_some(), "it is where it was");
}

pub fn a_tap_stays_where_it_was_made() {
    let mut host = handle();
    for multi_queue in [true, false] {
        let tap = netlink::tap::Tap {
            name: "tap7",
            multi_queue,
            label: None,
        };
        tap.create().unwrap();
        let shown = ip_one("link show dev tap7");
        let data = &shown["linkinfo"]["info_data"];
        assert_eq!(
            (&data["type"], &data["persist"], &data["multi_queue"]),
            (&json!("tap"), &json!(true), &json!(multi_queue))
        );
        let made = host.link("tap7").unwrap().unwrap();
        assert_eq!((made.kind.as_deref(), made.up), (Some("tun"), false));
        accept(&mut host, link::delete(made.index));
        let bridge = make_bridge(&mut host, "tap7");
        assert!(tap.create().unwrap_err().is_exists(), "of another kind");
        accept(&mut host, link::delete(bridge));
    }
}

pub fn kinds_are_known_or_not_and_none_is_made() {
    let mut host = handle();
    for (kind, known) in [("veth", true), ("bridge", true), ("nonsense", false)] {
        assert_eq!(host.knows_link_kind(kind).unwrap(), known, "{kind}");
    }
    assert_eq!(ip("link show").len(), 1, "only lo is there");
}
