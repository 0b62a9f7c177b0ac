//! Nexthop objects, and the routes that use them.
use netlink::{Handle, Nexthop, Route};
use nix::errno::Errno;
use serde_json::{Value, json};

use crate::tools::*;

const OURS: u8 = 176;

/// A bridge with addresses of both families; its index.
fn uplink(handle: &mut Handle) -> u32 {
    let dev = make_bridge(handle, "br0");
    sh("ip address add 10.0.0.1/24 dev br0; ip address add fd00::1/64 dev br0 nodad");
    dev
}

fn nexthop(id: u32, gw: &str, dev: u32) -> Nexthop {
    Nexthop {
        id,
        gw: addr(gw),
        dev,
        protocol: OURS,
        onlink: false,
    }
}

/// What `ip` says of one nexthop; null when there is none.
fn shown(id: u32) -> Value {
    let all = ip("nexthop show");
    all.into_iter()
        .find(|nexthop| nexthop["id"] == id)
        .unwrap_or_default()
}

pub fn they_are_made_listed_replaced_and_deleted() {
    let mut host = handle();
    let dev = uplink(&mut host);
    let (four, six) = (nexthop(4, "10.0.0.2", dev), nexthop(6, "fd00::2", dev));
    let far = Nexthop {
        onlink: true,
        ..nexthop(9, "192.0.2.1", dev)
    };
    host.execute(vec![four.create(), six.create(), far.create()])
        .unwrap();
    let seen = shown(4);
    assert_eq!(
        (&seen["gateway"], &seen["dev"]),
        (&json!("10.0.0.2"), &json!("br0"))
    );
    assert_eq!(
        (&seen["protocol"], &seen["flags"]),
        (&json!("176"), &json!([]))
    );
    assert_eq!(shown(6)["gateway"], "fd00::2");
    assert!(has(&shown(9)["flags"], "onlink"), "{}", shown(9));
    assert_eq!(host.nexthops(OURS).unwrap(), [four, six, far]);

    let moved = nexthop(4, "10.0.0.3", dev);
    accept(&mut host, moved.replace());
    assert_eq!(shown(4)["gateway"], "10.0.0.3");
    accept(&mut host, nexthop(5, "10.0.0.5", dev).replace());
    assert_eq!(shown(5)["gateway"], "10.0.0.5", "replace also makes");
    accept(&mut host, four.delete());
    assert_eq!(shown(4), Value::Null);
    let error = refuse(&mut host, four.delete());
    assert_refused(&error, Errno::ENOENT, "delete nexthop 4 via 10.0.0.2");
    assert!(error.is_not_found());
}

pub fn what_cannot_be_is_refused() {
    let mut host = handle();
    let dev = uplink(&mut host);
    let there = nexthop(4, "10.0.0.2", dev);
    accept(&mut host, there.create());
    let error = refuse(&mut host, nexthop(4, "10.0.0.3", dev).create());
    assert_refused(&error, Errno::EEXIST, "create nexthop 4 via 10.0.0.3");
    assert_eq!(shown(4)["gateway"], "10.0.0.2");
    let error = refuse(&mut host, nexthop(7, "192.0.2.1", dev).create());
    assert_eq!(text(&error), "Nexthop has invalid gateway", "{error:?}");
    let error = refuse(&mut host, nexthop(7, "10.0.0.2", 4242).create());
    assert!(
        error
            .to_string()
            .starts_with("cannot create nexthop 7 via 10.0.0.2: "),
        "{error}"
    );
    assert_eq!(host.nexthops(OURS).unwrap(), [there]);
}

pub fn an_ipv4_route_goes_by_an_ipv6_gateway() {
    let mut host = handle();
    let dev = uplink(&mut host);
    let route = Route {
        nexthop_id: Some(6),
        protocol: Some(OURS),
        ..Route::to(net("10.244.1.0/24"))
    };
    let six = nexthop(6, "fd00::2", dev);
    host.execute(vec![six.create(), route.create()]).unwrap();
    let seen = ip_one("route show 10.244.1.0/24");
    assert_eq!(
        (&seen["nhid"], &seen["protocol"]),
        (&json!(6), &json!("176"))
    );
    assert_eq!(
        seen["via"],
        json!({"family": "inet6", "host": "fd00::2"}),
        "{seen}"
    );
    let listed = host.routes(Default::default()).unwrap();
    let listed = listed
        .iter()
        .find(|route| route.nexthop_id == Some(6))
        .unwrap();
    assert_eq!((listed.dst, listed.protocol), (route.dst, route.protocol));
    assert_eq!(host.route_to(addr("10.244.1.9")).unwrap().unwrap().dev, dev);

    accept(&mut host, nexthop(6, "fd00::3", dev).replace());
    let seen = ip_one("route show 10.244.1.0/24");
    assert_eq!(seen["via"]["host"], "fd00::3", "the route follows: {seen}");
    accept(&mut host, six.delete());
    assert!(
        ip("route show 10.244.1.0/24").is_empty(),
        "the route goes with it"
    );
    let error = refuse(&mut host, route.create());
    assert_eq!(error.errno(), Some(Errno::EINVAL), "{error}");
    assert_eq!(text(&error), "Nexthop id does not exist");
}

pub fn foreign_ones_are_left_alone() {
    let mut host = handle();
    let dev = uplink(&mut host);
    sh("ip link set lo up
        ip nexthop add id 1 via 10.0.0.7 dev br0 protocol 99
        ip nexthop add id 2 via fd00::7 dev br0 protocol 99
        ip nexthop add id 3 group 1 protocol 176
        ip nexthop add id 4 blackhole protocol 176
        ip nexthop add id 5 dev br0 protocol 176");
    let foreign = ip("nexthop show");
    let mine = nexthop(6, "10.0.0.2", dev);
    accept(&mut host, mine.create());
    let listed = host.nexthops(OURS).unwrap();
    assert_eq!(
        listed,
        [mine],
        "groups, blackholes and bare links have no gateway"
    );
    assert_eq!(host.nexthops(99).unwrap().len(), 2);
    assert!(refuse(&mut host, nexthop(1, "10.0.0.2", dev).create()).is_exists());
    host.execute(vec![nexthop(6, "10.0.0.4", dev).replace(), mine.delete()])
        .unwrap();
    assert_eq!(ip("nexthop show"), foreign);
}

pub fn a_thousand_are_listed() {
    let mut host = handle();
    let dev = uplink(&mut host);
    let gateway = |id: u32| format!("10.0.0.{}", id % 250 + 2);
    let all: Vec<_> = (1..=1000)
        .map(|id| nexthop(id, &gateway(id), dev))
        .collect();
    host.execute(all.iter().map(Nexthop::create).collect())
        .unwrap();
    assert_eq!(ip("nexthop show").len(), 1000);
    assert_eq!(host.nexthops(OURS).unwrap(), all);
}
