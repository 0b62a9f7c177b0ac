//! Events: one for each kind of change, none for what is another's affair, and word of those that were lost.
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use netlink::address::{self, Flags};
use netlink::nft::{self, Family, Table, Transaction};
use netlink::tc::Bucket;
use netlink::{Event, FdbEntry, Handle, Monitor, Neighbour, Nexthop, link};
use nix::poll::{PollFd, PollFlags, poll};

use crate::routes::via;
use crate::sandbox::another_netns;
use crate::tools::*;

const TABLE: Table = Table {
    family: Family::Inet,
    name: "events",
};

/// All events until none has come for a while.
fn heard(monitor: &mut Monitor) -> Vec<Event> {
    let mut events = Vec::new();
    while readable(monitor, 200) {
        monitor.drain(|event| events.push(event)).unwrap();
    }
    events
}

fn readable(monitor: &Monitor, millis: u8) -> bool {
    let mut descriptors = [PollFd::new(monitor.as_fd(), PollFlags::POLLIN)];
    poll(&mut descriptors, millis).unwrap() > 0
}

/// A bridge that nothing happens to by itself.
fn quiet_bridge(handle: &mut Handle) -> u32 {
    sh("echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6");
    let dev = make_bridge(handle, "br0");
    sh("ip address add 10.0.0.1/24 dev br0");
    dev
}

pub fn a_queue_is_seen_and_its_coming_told() {
    let mut host = handle();
    let dev = quiet_bridge(&mut host);
    let kind = |host: &mut Handle| -> Vec<String> {
        let queues = host.queues().unwrap().into_iter();
        queues
            .filter(|(index, _)| *index == dev)
            .map(|(_, kind)| kind)
            .collect()
    };
    assert_eq!(kind(&mut host), ["noqueue"]);
    let mut monitor = Monitor::links_and_queues().unwrap();
    let bucket = Bucket {
        rate: 1_000_000,
        burst: 10_000,
        limit: 10_000,
    };
    accept(&mut host, bucket.request(dev));
    assert!(heard(&mut monitor).contains(&Event::Queue(dev)));
    assert_eq!(kind(&mut host), ["tbf"]);
}

pub fn each_kind_of_change_is_told() {
    let mut host = handle();
    let dev = quiet_bridge(&mut host);
    let vxlan = make_vxlan(&mut host, "vx", 1, "192.0.2.1");
    let mut monitor = Monitor::route().unwrap();
    assert_eq!(heard(&mut monitor), []);
    let neighbour = Neighbour {
        dev,
        ip: addr("10.0.0.9"),
        mac: mac(9),
        protocol: None,
    };
    let row = FdbEntry {
        dev: vxlan,
        mac: mac(8),
        dst: addr("192.0.2.8"),
    };
    let nexthop = Nexthop {
        id: 5,
        gw: addr("10.0.0.2"),
        dev,
        protocol: 176,
        onlink: false,
    };
    let route = via("10.1.0.0/24", "10.0.0.2");
    let foreign = netlink::Route {
        protocol: Some(99),
        ..via("10.2.0.0/24", "10.0.0.2")
    };
    let changes = [
        (link::set_alias(dev, "x"), Event::Link(dev)),
        (neighbour.replace(), Event::Neighbour(dev)),
        (neighbour.delete(), Event::Neighbour(dev)),
        (row.replace(), Event::Neighbour(vxlan)),
        (row.delete(), Event::Neighbour(vxlan)),
        (nexthop.create(), Event::Nexthop(176)),
        (nexthop.delete(), Event::Nexthop(176)),
        (route.create(), Event::Route(176)),
        (route.delete(), Event::Route(176)),
        (foreign.create(), Event::Route(99)),
    ];
    for (request, event) in changes {
        let what = format!("{request:?}");
        accept(&mut host, request);
        let mut events = heard(&mut monitor);
        events.dedup();
        assert_eq!(events, [event], "{what}");
    }
    let network = net("10.7.0.1/24");
    for request in [
        address::add(dev, network, Flags::default()),
        address::delete(dev, network),
    ] {
        accept(&mut host, request);
        let events = heard(&mut monitor);
        assert!(events.contains(&Event::Address(dev)), "{events:?}");
        // The kernel's own routes to the subnet come and go with it.
        assert!(
            events
                .iter()
                .all(|e| [Event::Address(dev), Event::Route(2)].contains(e)),
            "{events:?}"
        );
    }
    accept(&mut host, link::delete(vxlan));
    assert!(heard(&mut monitor).contains(&Event::Link(vxlan)));
}

pub fn ipv6_is_told_as_well() {
    let mut host = handle();
    let dev = make_bridge(&mut host, "br0");
    sh("ip address add fd00::1/64 dev br0 nodad");
    let mut monitor = Monitor::route().unwrap();
    heard(&mut monitor);
    let neighbour = Neighbour {
        dev,
        ip: addr("fd00::9"),
        mac: mac(9),
        protocol: None,
    };
    let changes = [
        (via("fd01::/64", "fd00::2").create(), Event::Route(176)),
        (
            address::add(dev, net("fd07::1/64"), Flags::default()),
            Event::Address(dev),
        ),
        (neighbour.replace(), Event::Neighbour(dev)),
    ];
    for (request, event) in changes {
        accept(&mut host, request);
        assert!(heard(&mut monitor).contains(&event), "{event:?}");
    }
}

pub fn what_is_no_change_here_is_not_told() {
    let mut host = handle();
    quiet_bridge(&mut host);
    let pod = another_netns();
    let (mut routes, mut rules) = (Monitor::route().unwrap(), Monitor::nftables().unwrap());
    host.links().unwrap();
    host.routes(Default::default()).unwrap();
    ip("address show");
    pod.run(|| sh("ip link add br1 type bridge; nft add table inet elsewhere"))
        .unwrap();
    refuse(&mut host, link::set_mtu(4242, 1400));
    assert_eq!((heard(&mut routes), heard(&mut rules)), (vec![], vec![]));

    accept(&mut host, via("10.1.0.0/24", "10.0.0.2").create());
    assert_eq!(
        (heard(&mut routes), heard(&mut rules)),
        (vec![Event::Route(176)], vec![])
    );
    let mut transaction = Transaction::new(TABLE);
    transaction.add_table();
    nft::Handle::new().unwrap().commit(&transaction).unwrap();
    assert_eq!(heard(&mut routes), []);
    let events = heard(&mut rules);
    assert!(
        !events.is_empty() && events.iter().all(|event| *event == Event::Ruleset),
        "{events:?}"
    );
}

pub fn an_event_wakes_who_polls() {
    let mut host = handle();
    let dev = quiet_bridge(&mut host);
    let mut monitor = Monitor::route().unwrap();
    assert!(!readable(&monitor, 50));
    let begun = Instant::now();
    monitor.drain(|event| panic!("{event:?}")).unwrap();
    assert!(
        begun.elapsed() < Duration::from_millis(100),
        "drain waits for nothing"
    );
    accept(&mut host, link::set_alias(dev, "x"));
    assert!(readable(&monitor, 250));
    monitor.drain(|_| ()).unwrap();
    assert!(!readable(&monitor, 50), "drained to the end");
}

pub fn what_was_lost_is_told_and_the_rest_goes_on() {
    let mut host = handle();
    let dev = quiet_bridge(&mut host);
    let mut monitor = Monitor::route().unwrap();
    let many = (0..5000).map(|number| link::set_alias(dev, &format!("alias {number}")));
    host.execute(many.collect()).unwrap();
    let events = heard(&mut monitor);
    let lost = events.iter().filter(|event| **event == Event::Lost).count();
    assert!(
        lost > 0 && events.len() < 5000,
        "{lost} of {}",
        events.len()
    );
    assert!(
        events.contains(&Event::Link(dev)),
        "those that fitted are told"
    );
    assert_eq!(heard(&mut monitor), [], "Lost is not told for ever");
    accept(&mut host, link::set_alias(dev, "after"));
    assert_eq!(heard(&mut monitor), [Event::Link(dev)]);
}

pub fn lost_changes_of_the_ruleset_are_told_too() {
    let mut monitor = Monitor::nftables().unwrap();
    let mut handle = nft::Handle::new().unwrap();
    let mut transaction = Transaction::new(TABLE);
    transaction.add_table();
    for number in 0..3000 {
        let name = format!("a_chain_with_a_name_of_some_length_{number}");
        transaction.add_chain(&nft::Chain {
            name: &name,
            hook: None,
        });
    }
    handle.commit(&transaction).unwrap();
    let events = heard(&mut monitor);
    assert!(events.contains(&Event::Lost), "{} events", events.len());
    let mut end = Transaction::new(TABLE);
    end.add_table();
    handle.commit(&end).unwrap();
    assert!(
        heard(&mut monitor)
            .iter()
            .all(|event| *event == Event::Ruleset)
    );
}
