//! Addresses: how they are added, which are listed, what is refused.
use netlink::Handle;
use netlink::address::{self, Address, Flags};
use nix::errno::Errno;
use serde_json::{Value, json};

use crate::sandbox::another_netns;
use crate::tools::*;

/// What `ip` says of one address of `dev`.
fn shown(dev: &str, ip: &str) -> Value {
    let link = ip_one(&format!("address show dev {dev}"));
    let mut all = link["addr_info"].as_array().unwrap().iter();
    all.find(|address| address["local"] == ip)
        .cloned()
        .unwrap_or_default()
}

fn ours(handle: &mut Handle, dev: u32, ip: &str) -> Address {
    let all = handle.addresses(Some(dev)).unwrap();
    *all.iter()
        .find(|address| address.network.ip() == addr(ip))
        .unwrap()
}

pub fn an_ipv4_address_has_its_broadcast_and_scope() {
    let mut host = handle();
    let dev = make_bridge(&mut host, "br0");
    for network in ["10.1.2.3/24", "10.9.0.1/31", "10.9.0.5/32"] {
        accept(&mut host, address::add(dev, net(network), Flags::default()));
    }
    accept(
        &mut host,
        address::add(index("lo"), net("127.0.0.2/8"), Flags::default()),
    );
    let first = shown("br0", "10.1.2.3");
    assert_eq!(
        (&first["prefixlen"], &first["broadcast"], &first["scope"]),
        (&json!(24), &json!("10.1.2.255"), &json!("global"))
    );
    assert_eq!(shown("br0", "10.9.0.1")["prefixlen"], 31);
    assert_eq!(shown("br0", "10.9.0.1")["broadcast"], Value::Null);
    assert_eq!(shown("br0", "10.9.0.5")["broadcast"], Value::Null);
    let loopback = shown("lo", "127.0.0.2");
    assert_eq!(
        (&loopback["scope"], &loopback["broadcast"]),
        (&json!("host"), &Value::Null)
    );
}

pub fn a_route_to_the_subnet_is_made_unless_refused() {
    let mut host = handle();
    let dev = make_bridge(&mut host, "br0");
    let without = Flags {
        noprefixroute: true,
        nodad: true,
        ..Flags::default()
    };
    let with = Flags {
        nodad: true,
        ..Flags::default()
    };
    host.execute(vec![
        address::add(dev, net("10.1.0.1/24"), with),
        address::add(dev, net("10.2.0.1/24"), without),
        address::add(dev, net("fd01::1/64"), with),
        address::add(dev, net("fd02::1/64"), without),
    ])
    .unwrap();
    assert_eq!(shown("br0", "10.2.0.1")["noprefixroute"], true);
    assert_eq!(shown("br0", "fd02::1")["noprefixroute"], true);
    assert_eq!(shown("br0", "fd01::1")["noprefixroute"], Value::Null);
    assert_eq!(ip("route show 10.1.0.0/24").len(), 1);
    assert!(ip("route show 10.2.0.0/24").is_empty());
    assert_eq!(ip("-6 route show fd01::/64").len(), 1);
    assert!(ip("-6 route show fd02::/64").is_empty());
}

pub fn ipv6_is_tentative_until_nobody_else_has_it() {
    let (mut host, pod) = (handle(), another_netns());
    accept(&mut host, veth("host0", "eth0", &pod).request());
    let dev = index("host0");
    pod.run(|| sh("ip link set eth0 up; ip address add fd00::1/64 dev eth0 nodad"))
        .unwrap();
    sh("echo 1 >/proc/sys/net/ipv6/conf/host0/optimistic_dad");
    let dad = Flags::default();
    host.execute(vec![
        address::add(dev, net("fd00::1/64"), dad),
        address::add(dev, net("fd00::2/64"), Flags { nodad: true, ..dad }),
        address::add(
            dev,
            net("fd00::3/64"),
            Flags {
                optimistic: true,
                ..dad
            },
        ),
    ])
    .unwrap();
    assert_eq!(shown("host0", "fd00::1")["tentative"], true);
    assert!(ours(&mut host, dev, "fd00::1").tentative);
    let nodad = shown("host0", "fd00::2");
    assert_eq!(
        (&nodad["nodad"], &nodad["tentative"]),
        (&json!(true), &Value::Null)
    );
    assert!(!ours(&mut host, dev, "fd00::2").tentative);
    assert_eq!(shown("host0", "fd00::3")["optimistic"], true);
    assert!(
        !ours(&mut host, dev, "fd00::3").tentative,
        "it can be used already"
    );

    wait_for("the duplicate to be found", || {
        shown("host0", "fd00::1")["dadfailed"] == true
    });
    let duplicate = ours(&mut host, dev, "fd00::1");
    assert!(duplicate.duplicate, "{duplicate:?}");
    assert!(!ours(&mut host, dev, "fd00::2").duplicate);
}

pub fn lists_are_those_of_one_link_or_of_all() {
    let mut host = handle();
    let (one, two) = (make_bridge(&mut host, "br1"), make_bridge(&mut host, "br2"));
    sh(
        "ip address add 10.1.0.1/24 dev br1; ip address add fd01::1/64 dev br1 nodad
        ip address add 10.2.0.1 peer 10.2.0.2/32 dev br2; ip address add fd02::1/128 dev br2 nodad",
    );
    let texts = |addresses: Vec<Address>| {
        let text = |address: &Address| format!("{} {}", address.index, address.network);
        let mut texts: Vec<_> = addresses.iter().map(text).collect();
        texts.sort();
        texts
    };
    let judged = |words: &str| {
        let links = ip(words);
        let of_link = |link: &Value| {
            let link = link.clone();
            let addresses = link["addr_info"].as_array().unwrap().clone();
            addresses.into_iter().map(move |address| {
                let local = address["local"].as_str().unwrap();
                format!("{} {local}/{}", link["ifindex"], address["prefixlen"])
            })
        };
        let mut texts: Vec<_> = links.iter().flat_map(of_link).collect();
        texts.sort();
        texts
    };
    let first = texts(host.addresses(Some(one)).unwrap());
    assert_eq!(first, judged("address show dev br1"));
    assert!(first.contains(&format!("{one} 10.1.0.1/24")), "{first:?}");
    let second = texts(host.addresses(Some(two)).unwrap());
    assert!(
        second.contains(&format!("{two} 10.2.0.1/32")),
        "ours, not the peer's: {second:?}"
    );
    assert_eq!(texts(host.addresses(None).unwrap()), judged("address show"));
    match host.addresses(Some(4242)) {
        Ok(none) => assert_eq!(none, []),
        Err(error) => assert!(error.is_not_found(), "{error}"),
    }
}

pub fn a_long_list_is_whole() {
    let mut host = handle();
    let dev = make_bridge(&mut host, "br0");
    let all = (0..1000).map(|number| {
        let network = net(&format!("10.0.{}.{}/32", number / 250, number % 250 + 1));
        address::add(dev, network, Flags::default())
    });
    host.execute(all.collect()).unwrap();
    let shown = ip("-4 address show dev br0")[0]["addr_info"]
        .as_array()
        .unwrap()
        .len();
    let ours = host.addresses(Some(dev)).unwrap();
    assert_eq!(
        (shown, ours.iter().filter(|a| a.network.is_ipv4()).count()),
        (1000, 1000)
    );
}

pub fn what_is_there_or_not_there_is_refused() {
    let mut host = handle();
    let dev = make_bridge(&mut host, "br0");
    for network in ["10.1.0.1/24", "fd01::1/64"] {
        let add = || address::add(dev, net(network), Flags::default());
        accept(&mut host, add());
        let error = refuse(&mut host, add());
        assert_refused(
            &error,
            Errno::EEXIST,
            &format!("add address {network} of link {dev}"),
        );
        accept(&mut host, address::delete(dev, net(network)));
        let bare = network.split('/').next().unwrap();
        assert_eq!(shown("br0", bare), Value::Null);
        let error = refuse(&mut host, address::delete(dev, net(network)));
        let what = format!("delete address {network} of link {dev}");
        assert_refused(&error, Errno::EADDRNOTAVAIL, &what);
        assert!(error.is_not_found());
    }
    let error = refuse(
        &mut host,
        address::add(4242, net("10.1.0.1/24"), Flags::default()),
    );
    assert_refused(
        &error,
        Errno::ENODEV,
        "add address 10.1.0.1/24 of link 4242",
    );
}
