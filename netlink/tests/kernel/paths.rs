//! Which routes are listed, and where a packet would go.
use netlink::{Route, RouteFilter, RouteHop};
use serde_json::Value;

use crate::routes::{shown, uplink, via};
use crate::tools::*;

pub fn filters_let_through_what_they_say() {
    let mut host = handle();
    let one = uplink(&mut host);
    let two = make_bridge(&mut host, "br1");
    sh("ip address add 10.9.0.1/24 dev br1
        ip route add 10.1.0.0/24 via 10.0.0.2 protocol 176
        ip route add 10.2.0.0/24 via 10.9.0.2 protocol 176
        ip route add 10.3.0.0/24 via 10.9.0.2 protocol 99 table 7
        ip route add 10.4.0.0/24 via 10.9.0.2 protocol 176 table 1000
        ip route add fd01::/64 via fd00::2 protocol 176
        ip route add blackhole 10.5.0.0/24 protocol 176
        ip route add unreachable fd05::/64 protocol 176");
    let mut listed = |filter| {
        let mut dsts: Vec<_> = host
            .routes(filter)
            .unwrap()
            .iter()
            .map(|route| route.dst.to_string())
            .collect();
        dsts.retain(|dst| !dst.starts_with("fe80") && !dst.starts_with("ff00"));
        dsts.sort();
        dsts
    };
    let all = RouteFilter::default();
    assert_eq!(
        listed(RouteFilter {
            protocol: Some(176),
            ..all
        }),
        ["10.1.0.0/24", "10.2.0.0/24", "10.4.0.0/24", "fd01::/64"],
        "unicast routes only"
    );
    assert_eq!(
        listed(RouteFilter {
            dev: Some(two),
            ..all
        }),
        ["10.2.0.0/24", "10.3.0.0/24", "10.4.0.0/24", "10.9.0.0/24"]
    );
    assert_eq!(
        listed(RouteFilter {
            table: Some(1000),
            ..all
        }),
        ["10.4.0.0/24"]
    );
    assert_eq!(
        listed(RouteFilter {
            table: Some(7),
            ..all
        }),
        ["10.3.0.0/24"]
    );
    assert_eq!(
        listed(RouteFilter {
            table: Some(254),
            dev: Some(one),
            protocol: Some(176)
        }),
        ["10.1.0.0/24", "fd01::/64"]
    );
    assert_eq!(
        listed(RouteFilter {
            table: Some(4242),
            ..all
        }),
        [""; 0]
    );
    let mut judged: Vec<String> = ["-4", "-6"]
        .into_iter()
        .flat_map(|family| ip(&format!("{family} route show table all type unicast")))
        .map(|route| route["dst"].as_str().unwrap().to_owned())
        .filter(|dst| !dst.starts_with("fe80") && !dst.starts_with("ff00"))
        .collect();
    judged.sort();
    assert_eq!(listed(all), judged);
}

pub fn a_route_by_a_nexthop_object_says_so() {
    let mut host = handle();
    let dev = uplink(&mut host);
    for (id, dst, gw) in [
        (4, "10.244.1.0/24", "10.0.0.2"),
        (6, "fd44::/64", "fd00::2"),
    ] {
        sh(&format!("ip nexthop add id {id} via {gw} dev br0"));
        let route = Route {
            gw: None,
            nexthop_id: Some(id),
            ..via(dst, gw)
        };
        accept(&mut host, route.create());
        assert_eq!(shown(dst)[0]["nhid"], id);
        let listed = host.routes(RouteFilter {
            protocol: Some(176),
            ..Default::default()
        });
        let listed = listed.unwrap();
        let listed = listed
            .iter()
            .find(|listed| listed.dst == route.dst)
            .unwrap();
        assert_eq!((listed.nexthop_id, listed.dev), (Some(id), Some(dev)));
        accept(&mut host, route.delete());
        assert_eq!(shown(dst), [Value::Null; 0]);
    }
}

pub fn a_lookup_says_where_a_packet_would_go() {
    let mut host = handle();
    let dev = uplink(&mut host);
    sh("ip link set lo up
        ip route add 10.1.0.0/24 via 10.0.0.2
        ip route add fd01::/64 via fd00::2
        ip route add blackhole 10.66.0.0/24
        ip route add unreachable 10.67.0.0/24
        ip route add prohibit 10.68.0.0/24
        ip route add blackhole fd66::/64
        ip route add unreachable fd67::/64
        ip route add prohibit fd68::/64");
    let hop = |gw: Option<&str>, src: &str| RouteHop {
        dev,
        gw: gw.map(addr),
        src: Some(addr(src)),
        local: false,
        mtu: None,
    };
    let mut to = |destination: &str| host.route_to(addr(destination)).unwrap();
    assert_eq!(to("10.1.0.9"), Some(hop(Some("10.0.0.2"), "10.0.0.1")));
    assert_eq!(to("fd01::9"), Some(hop(Some("fd00::2"), "fd00::1")));
    assert_eq!(to("10.0.0.77"), Some(hop(None, "10.0.0.1")));
    assert_eq!(to("fd00::77"), Some(hop(None, "fd00::1")));
    for own in ["10.0.0.1", "fd00::1", "127.0.0.1", "::1"] {
        let hop = to(own).unwrap();
        assert!(hop.local, "{own}: {hop:?}");
    }
    let nowhere = ["10.66.0.1", "10.67.0.1", "10.68.0.1", "8.8.8.8"];
    for destination in nowhere
        .into_iter()
        .chain(["fd66::1", "fd67::1", "fd68::1", "2001:db8::1"])
    {
        assert_eq!(to(destination), None, "{destination}");
    }
    let judged = ip_one("route get 10.1.0.9");
    assert_eq!(
        (&judged["gateway"], &judged["prefsrc"]),
        (&"10.0.0.2".into(), &"10.0.0.1".into())
    );
}
