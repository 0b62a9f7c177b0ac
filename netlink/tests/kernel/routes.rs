//! Routes: made, replaced, deleted, with all that can be said of one.
use ipnetwork::IpNetwork;
use netlink::{Handle, Refusal, RefusingRoute, Route, RouteFilter};
use nix::errno::Errno;
use serde_json::{Value, json};

use crate::tools::*;

/// A bridge with addresses of both families; its index.
pub fn uplink(handle: &mut Handle) -> u32 {
    let dev = make_bridge(handle, "br0");
    sh("ip address add 10.0.0.1/24 dev br0; ip address add fd00::1/64 dev br0 nodad");
    dev
}

/// The routes to `dst`, of all tables, as `ip` sees them.
pub fn shown(dst: &str) -> Vec<Value> {
    let family = if dst.contains(':') { "-6" } else { "-4" };
    let all = ip(&format!("{family} route show table all"));
    all.into_iter()
        .filter(|route| route["dst"] == dst)
        .collect()
}

pub fn via(dst: &str, gw: &str) -> Route {
    Route {
        gw: Some(addr(gw)),
        protocol: Some(176),
        ..Route::to(net(dst))
    }
}

/// A destination, a gateway, another gateway and our own address, of either family.
const FAMILIES: [[&str; 4]; 2] = [
    ["10.244.1.0/24", "10.0.0.2", "10.0.0.3", "10.0.0.1"],
    ["fd44:1::/64", "fd00::2", "fd00::3", "fd00::1"],
];

pub fn every_attribute_reaches_the_kernel() {
    let mut host = handle();
    let dev = uplink(&mut host);
    for [dst, gw, _, own] in FAMILIES {
        let route = Route {
            gw: Some(addr(gw)),
            dev: Some(dev),
            table: Some(1000),
            mtu: Some(1400),
            advmss: Some(1360),
            priority: Some(77),
            src: Some(addr(own)),
            protocol: Some(176),
            scope: Some(0),
            ..Route::to(net(dst))
        };
        accept(&mut host, route.create());
        let seen = shown(dst);
        let [seen] = seen.as_slice() else {
            panic!("{seen:?}")
        };
        let want = json!({"gateway": gw, "dev": "br0", "table": "1000", "metric": 77,
            "prefsrc": own, "protocol": "176", "type": "unicast",
            "metrics": [{"mtu": 1400, "advmss": 1360}]});
        for (key, value) in want.as_object().unwrap() {
            assert_eq!(&seen[key], value, "{key} of {seen}");
        }
        let of_table = RouteFilter {
            table: Some(1000),
            ..RouteFilter::default()
        };
        let listed = host.routes(of_table).unwrap();
        let of_dst = listed.into_iter().filter(|route| route.dst == net(dst));
        assert_eq!(of_dst.collect::<Vec<_>>(), [route]);
    }
}

pub fn what_is_not_said_is_as_for_ip() {
    let mut host = handle();
    let dev = uplink(&mut host);
    let direct = |dst| Route {
        dev: Some(dev),
        ..Route::to(net(dst))
    };
    let gateway = |dst, gw| Route {
        gw: Some(addr(gw)),
        ..Route::to(net(dst))
    };
    host.execute(vec![
        direct("10.1.0.0/24").create(),
        gateway("10.2.0.7/24", "10.0.0.2").create(),
        gateway("0.0.0.0/0", "10.0.0.2").create(),
        direct("fd01::/64").create(),
        gateway("::/0", "fd00::2").create(),
    ])
    .unwrap();
    // Asked for those of `boot`, ip leaves their protocol out.
    let one = |words: &str| ip_one(&format!("{words} proto boot"));
    assert_eq!(one("-4 route show 10.1.0.0/24")["scope"], "link");
    let masked = one("-4 route show 10.2.0.0/24");
    assert_eq!(masked["scope"], "global");
    assert_eq!(one("-4 route show default")["gateway"], "10.0.0.2");
    assert_eq!(one("-6 route show default")["gateway"], "fd00::2");
    assert_eq!(one("-6 route show fd01::/64")["dev"], "br0");
}

pub fn create_refuses_an_existing_one_of_anybody() {
    let mut host = handle();
    uplink(&mut host);
    for [dst, gw, other, _] in FAMILIES {
        sh(&format!(
            "ip route add {dst} via {other} metric 5 protocol 99"
        ));
        let foreign = shown(dst);
        let metric = |priority| Route {
            priority: Some(priority),
            ..via(dst, gw)
        };
        let error = refuse(&mut host, metric(5).create());
        assert_refused(
            &error,
            Errno::EEXIST,
            &format!("create route {dst} via {gw}"),
        );
        assert_eq!(shown(dst), foreign);
        accept(&mut host, metric(6).create());
        assert_eq!(shown(dst).len(), 2, "another metric is another route");
    }
}

pub fn replace_makes_or_replaces_and_never_doubles() {
    let mut host = handle();
    uplink(&mut host);
    for [dst, gw, other, _] in FAMILIES {
        let gateways = || -> Vec<Value> {
            let routes = shown(dst).into_iter();
            routes.map(|route| route["gateway"].clone()).collect()
        };
        accept(&mut host, via(dst, gw).replace());
        assert_eq!(gateways(), [gw]);
        accept(&mut host, via(dst, other).replace());
        assert_eq!(gateways(), [other]);
        let smaller = Route {
            mtu: Some(1300),
            ..via(dst, other)
        };
        accept(&mut host, smaller.replace());
        assert_eq!(
            (gateways().len(), &shown(dst)[0]["metrics"][0]["mtu"]),
            (1, &json!(1300))
        );
    }
}

pub fn another_path_is_added_beside_the_first() {
    let mut host = handle();
    let dev = uplink(&mut host);
    for [dst, gw, other, _] in FAMILIES {
        accept(&mut host, via(dst, gw).add_path());
        accept(&mut host, via(dst, other).add_path());
        let text = shown(dst).iter().map(Value::to_string).collect::<String>();
        assert!(text.contains(gw) && text.contains(other), "{text}");
        let error = refuse(&mut host, via(dst, other).add_path());
        assert_refused(
            &error,
            Errno::EEXIST,
            &format!("add route {dst} via {other}"),
        );
        let filter = RouteFilter {
            dev: Some(dev),
            protocol: Some(176),
            ..RouteFilter::default()
        };
        let listed = host.routes(filter).unwrap().into_iter();
        let mut listed: Vec<_> = listed.filter(|r| r.dst == net(dst)).map(|r| r.gw).collect();
        listed.sort();
        assert_eq!(listed, [Some(addr(gw)), Some(addr(other))]);
    }
}

pub fn delete_takes_the_one_that_is_meant() {
    let mut host = handle();
    uplink(&mut host);
    for [dst, gw, other, _] in FAMILIES {
        sh(&format!(
            "ip route add {dst} via {other} metric 5 protocol 99"
        ));
        let ours = Route {
            priority: Some(6),
            ..via(dst, gw)
        };
        accept(&mut host, ours.create());
        accept(&mut host, ours.delete());
        assert_eq!(shown(dst).len(), 1);
        assert_eq!(shown(dst)[0]["gateway"], other);
        let error = refuse(&mut host, ours.delete());
        assert_refused(
            &error,
            Errno::ESRCH,
            &format!("delete route {dst} via {gw}"),
        );
        assert!(error.is_not_found());
        let not_theirs = Route {
            priority: Some(5),
            ..via(dst, other)
        };
        let error = refuse(&mut host, not_theirs.delete());
        assert!(
            error.is_not_found(),
            "the protocol is part of what is meant: {error}"
        );
    }
}

pub fn onlink_takes_a_gateway_that_no_subnet_knows() {
    let mut host = handle();
    let dev = uplink(&mut host);
    for (dst, gw) in [("10.244.1.0/24", "192.0.2.1"), ("fd44::/64", "2001:db8::1")] {
        let plain = Route {
            dev: Some(dev),
            ..via(dst, gw)
        };
        let error = refuse(&mut host, plain.create());
        let unreachable = matches!(
            error.errno(),
            Some(Errno::ENETUNREACH | Errno::EHOSTUNREACH)
        );
        assert!(unreachable, "{error:?}");
        let onlink = Route {
            onlink: true,
            ..plain
        };
        accept(&mut host, onlink.create());
        let seen = shown(dst);
        assert!(has(&seen[0]["flags"], "onlink"), "{seen:?}");
        let listed = host.routes(RouteFilter {
            protocol: Some(176),
            ..Default::default()
        });
        assert!(
            listed
                .unwrap()
                .iter()
                .any(|r| r.dst == net(dst) && r.onlink && r.gw == onlink.gw)
        );
    }
}

pub fn a_thousand_are_listed() {
    let mut host = handle();
    uplink(&mut host);
    let dst = |number: u32| -> IpNetwork {
        net(&format!("10.{}.{}.0/24", 100 + number / 250, number % 250))
    };
    let all = (0..1000).map(|n| {
        Route {
            dst: dst(n),
            ..via("0.0.0.0/0", "10.0.0.2")
        }
        .create()
    });
    host.execute(all.collect()).unwrap();
    assert_eq!(ip("route show proto 176").len(), 1000);
    let ours = RouteFilter {
        protocol: Some(176),
        ..RouteFilter::default()
    };
    let listed = host.routes(ours).unwrap();
    assert_eq!(listed.len(), 1000);
    assert!((0..1000).all(|number| listed.iter().any(|route| route.dst == dst(number))));
}

pub fn those_that_lead_nowhere_are_listed_apart() {
    let mut host = handle();
    uplink(&mut host);
    let made = [
        ("10.9.1.0/24", "blackhole", Refusal::Blackhole),
        ("10.9.2.0/24", "unreachable", Refusal::Unreachable),
        ("fd09:3::/64", "prohibit", Refusal::Prohibit),
    ];
    for (dst, kind, refusal) in made {
        sh(&format!(
            "ip route add {kind} {dst} metric 7 proto 176 table 1000"
        ));
        let all = host.refusing_routes().unwrap();
        let wanted = RefusingRoute {
            dst: net(dst),
            refusal,
            table: 1000,
            protocol: 176,
            priority: 7,
        };
        assert!(all.contains(&wanted), "{all:?}");
        let unicast = host.routes(RouteFilter::default()).unwrap();
        assert!(unicast.iter().all(|route| route.dst != net(dst)));
    }
}
