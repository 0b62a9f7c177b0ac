//! Batches: what is sent in one system call, and what comes of it when the kernel refuses some.
use netlink::address::{self, Flags};
use netlink::link::{self, set_mtu};
use netlink::{Error, Route};
use nix::errno::Errno;

use crate::routes::{uplink, via};
use crate::tools::*;

/// A route to one of up to 62 500 networks.
fn route(number: usize, gw: &str) -> Route {
    via(
        &format!("10.{}.{}.0/24", 100 + number / 250, number % 250),
        gw,
    )
}

pub fn one_that_fails_stops_none_of_the_others() {
    for failing in [0, 249, 250, 333, 499] {
        let mut host = handle();
        sh("ip link show dev br0 >/dev/null 2>&1 && ip link delete br0 || true");
        uplink(&mut host);
        let requests = (0..500).map(|number| {
            let gateway = if number == failing {
                "192.0.2.1"
            } else {
                "10.0.0.2"
            };
            route(number, gateway).create()
        });
        let error = host.execute(requests.collect()).unwrap_err();
        let object = format!("route {} via 192.0.2.1", route(failing, "192.0.2.1").dst);
        assert_refused(&error, Errno::ENETUNREACH, &format!("create {object}"));
        assert_eq!(text(&error), "Nexthop has invalid gateway");
        assert_eq!(ip("route show proto 176").len(), 499);
        assert!(host.link("br0").unwrap().is_some(), "the socket is in step");
    }
}

pub fn of_two_failures_the_first_is_told() {
    let mut host = handle();
    let dev = uplink(&mut host);
    for (first, second) in [(10, 20), (20, 400), (300, 301)] {
        let requests = (0..500).map(|number| match number {
            _ if number == first => set_mtu(dev, 100_000),
            _ if number == second => route(number, "192.0.2.1").create(),
            _ => set_mtu(dev, 1400),
        });
        let error = host.execute(requests.collect()).unwrap_err();
        assert_refused(&error, Errno::EINVAL, &format!("set the MTU of link {dev}"));
        assert_eq!(text(&error), "mtu greater than device maximum");
    }
    assert_eq!(ip_one("link show dev br0")["mtu"], 1400);
}

pub fn a_batch_of_failures_is_read_to_its_end() {
    let mut host = handle();
    let dev = uplink(&mut host);
    for _ in 0..5 {
        let requests = (0..1000).map(|_| set_mtu(dev, 100_000));
        let error = host.execute(requests.collect()).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::EINVAL), "{error}");
        assert_eq!(host.link_by_index(dev).unwrap().unwrap().name, "br0");
    }
}

pub fn requests_are_carried_out_in_their_order() {
    let mut host = handle();
    let dev = uplink(&mut host);
    let network = net("10.7.0.1/24");
    let (add, delete) = (
        || address::add(dev, network, Flags::default()),
        || address::delete(dev, network),
    );
    host.execute(vec![add(), delete(), add(), delete(), add()])
        .unwrap();
    assert_eq!(ip("address show dev br0 to 10.7.0.1").len(), 1);
    host.execute(Vec::new()).unwrap();
}

pub fn errors_say_what_the_kernel_said() {
    let mut host = handle();
    let dev = uplink(&mut host);
    let error = refuse(&mut host, set_mtu(dev, 100_000));
    let said = format!(
        "cannot set the MTU of link {dev}: Invalid argument (mtu greater than device maximum)"
    );
    assert_eq!(error.to_string(), said);
    let error = refuse(&mut host, link::delete(4242));
    assert!(
        matches!(error, Error::Kernel { verb: "delete", .. }),
        "{error:?}"
    );
    assert!(
        error.is_not_found() && !error.is_exists() && !error.is_busy(),
        "{error}"
    );
}
