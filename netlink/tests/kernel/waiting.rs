//! Waiting for a bridge's port to forward.
use std::thread;
use std::time::{Duration, Instant};

use netlink::Handle;
use netlink::link;
use netlink::netns::Netns;

use crate::tools::*;

/// A bridge with a port whose other end is here too; both ends are down.
fn a_port(handle: &mut Handle) {
    let here = Netns::current().unwrap();
    let bridge = make_bridge(handle, "br0");
    let mut pair = veth("port", "far", &here);
    (pair.master, pair.up) = (Some(bridge), false);
    accept(handle, pair.request());
}

fn state() -> String {
    let port = ip_one("link show dev port");
    port["linkinfo"]["info_slave_data"]["state"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// What `wait_forwarding` says, and how long it took.
fn timed(handle: &mut Handle, port: &str, millis: u64) -> (bool, Duration) {
    let begun = Instant::now();
    let forwards = handle
        .wait_forwarding(port, Duration::from_millis(millis))
        .unwrap();
    (forwards, begun.elapsed())
}

pub fn a_port_that_forwards_is_not_waited_for() {
    let mut host = handle();
    a_port(&mut host);
    sh("ip link set far up; ip link set port up");
    wait_for("the port to forward", || state() == "forwarding");
    let (forwards, took) = timed(&mut host, "port", 10_000);
    assert!(forwards && took < Duration::from_secs(1), "{took:?}");
    assert!(timed(&mut host, "port", 0).0);
}

pub fn a_port_that_is_down_is_given_up_in_time() {
    let mut host = handle();
    a_port(&mut host);
    for port in ["port", "far", "nowhere"] {
        let (forwards, took) = timed(&mut host, port, 300);
        assert!(!forwards, "{port}");
        let patience = Duration::from_millis(290)..Duration::from_secs(3);
        assert!(patience.contains(&took), "{port}: {took:?}");
    }
}

pub fn a_port_that_comes_up_is_seen_at_once() {
    let mut host = handle();
    a_port(&mut host);
    let here = Netns::current().unwrap();
    let late = thread::spawn(move || {
        here.run(|| {
            thread::sleep(Duration::from_millis(300));
            sh("ip link set far up; ip link set port up");
        })
        .unwrap();
        Instant::now()
    });
    let (forwards, took) = timed(&mut host, "port", 20_000);
    let seen = Instant::now();
    assert!(forwards && took > Duration::from_millis(250), "{took:?}");
    let set = late.join().unwrap();
    assert!(seen < set + Duration::from_secs(2), "{:?} late", seen - set);
    assert_eq!(state(), "forwarding");
}

pub fn the_spanning_tree_is_waited_for() {
    let mut host = handle();
    a_port(&mut host);
    sh("ip link set br0 type bridge stp_state 1 forward_delay 200");
    sh("ip link set far up; ip link set port up");
    let (forwards, took) = timed(&mut host, "port", 100);
    assert!(!forwards, "it listens first: {took:?}");
    let (forwards, took) = timed(&mut host, "port", 20_000);
    assert!(forwards, "{took:?}");
    assert!(
        (2..8).contains(&took.as_secs()),
        "twice the delay of two seconds: {took:?}"
    );
    assert_eq!(state(), "forwarding");
}

pub fn a_flood_of_other_events_does_no_harm() {
    let mut host = handle();
    a_port(&mut host);
    let (here, bridge) = (Netns::current().unwrap(), index("br0"));
    let flood = thread::spawn(move || {
        let mut handle = Handle::in_netns(&here).unwrap();
        for round in 0..40 {
            let alias = |number| link::set_alias(bridge, &format!("round {round} {number}"));
            handle.execute((0..250).map(alias).collect()).unwrap();
        }
    });
    while !flood.is_finished() {
        assert!(!timed(&mut host, "port", 200).0);
    }
    flood.join().unwrap();
    sh("ip link set far up; ip link set port up");
    assert!(timed(&mut host, "port", 5_000).0);
}
