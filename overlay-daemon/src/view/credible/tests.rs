//! Tests of what is believed: whatever is said of the nodes, no row comes of it that no node could mean.
#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::fuzzing;
use crate::names::vtep_mac;
use crate::view::View;

fn config() -> Config {
    Config {
        cluster_cidrs: vec![
            "10.32.0.0/16".parse().unwrap(),
            "fd32::/48".parse().unwrap(),
        ],
        ..Config::default()
    }
}

fn node(endpoint: &str, cidr: &str) -> Arc<Node> {
    Arc::new(Node {
        name: "n".into(),
        endpoints: vec![endpoint.parse().unwrap()],
        vtep_mac: vtep_mac("n"),
        pod_cidrs: vec![cidr.parse().unwrap()],
    })
}

#[test]
fn what_no_node_can_be_is_named() {
    let good = node("192.0.2.1", "10.32.1.0/24");
    assert_eq!(credible(good.clone(), &config()), Ok(good.clone()));
    // Host bits are none of a route's.
    let bits = credible(node("192.0.2.1", "10.32.1.7/24"), &config()).unwrap();
    assert_eq!(bits, good);
    for (endpoint, cidr) in [
        ("0.0.0.0", "10.32.1.0/24"),
        ("127.0.0.1", "10.32.1.0/24"),
        ("224.0.0.1", "10.32.1.0/24"),
        ("169.254.1.1", "10.32.1.0/24"),
        ("255.255.255.255", "10.32.1.0/24"),
        ("fe80::1", "10.32.1.0/24"),
        ("::ffff:192.0.2.1", "10.32.1.0/24"),
        ("10.32.7.7", "10.32.1.0/24"),
        ("192.0.2.1", "0.0.0.0/0"),
        ("192.0.2.1", "::/0"),
        ("192.0.2.1", "10.0.0.0/8"),
        ("192.0.2.1", "192.0.2.0/24"),
        ("192.0.2.1", "ff00::/64"),
    ] {
        let said = credible(node(endpoint, cidr), &config());
        assert!(said.is_err(), "{endpoint} {cidr}");
    }
    for vtep_mac in [[0; 6], [0xff; 6], [1, 0, 0x5e, 0, 0, 1]] {
        let of = Node {
            vtep_mac,
            ..Node::clone(&good)
        };
        assert!(credible(of.into(), &config()).is_err(), "{vtep_mac:?}");
    }
}

#[test]
fn a_wider_cidr_of_another_node_is_a_conflict() {
    let of = |name: &str, host: &str, cidr: &str| Node {
        name: name.into(),
        vtep_mac: vtep_mac(name),
        ..Node::clone(&node(host, cidr))
    };
    let view = View::new(
        [
            of("a", "192.0.2.1", "10.32.1.0/24"),
            of("b", "192.0.2.2", "10.32.0.0/20"),
            of("c", "192.0.2.3", "10.32.1.128/25"),
            of("d\u{1b}[2J", "192.0.2.4", "10.32.99.0/24"),
        ],
        &config(),
    );
    assert_eq!(view.nodes().count(), 1);
    let conflicts: Vec<_> = view.conflicts().collect();
    assert!(conflicts[0].1.contains("overlaps 10.32.1.0/24 of a"));
    assert!(conflicts[1].1.contains("overlaps 10.32.1.0/24 of a"));
    assert!(conflicts[2].0.starts_with("d\\u{1b}"), "{conflicts:?}");
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| Ipv4Addr::from(bits).into()),
        any::<u128>().prop_map(|bits| Ipv6Addr::from(bits).into()),
        (0..4_u8, 0..8_u8).prop_map(|(c, d)| Ipv4Addr::from([192, 0, c, d]).into()),
        (0..4_u8, 0..8_u8).prop_map(|(c, d)| Ipv4Addr::from([10, 32, c, d]).into()),
        (0..4_u16).prop_map(|d| Ipv6Addr::from([0xfd32, 0, 0, d, 0, 0, 0, 0]).into()),
    ]
}

fn any_node() -> impl Strategy<Value = Node> {
    let cidr = (address(), 0..=128_u8).prop_map(|(ip, prefix)| {
        let most = if ip.is_ipv4() { 32 } else { 128 };
        IpNetwork::new(ip, prefix.min(most)).unwrap()
    });
    let mac = prop_oneof![any::<[u8; 6]>(), Just([0; 6]), Just([0xff; 6])];
    let name = prop_oneof!["[a-e]", ".{0,9}"];
    let endpoints = proptest::collection::vec(address(), 0..3);
    let pod_cidrs = proptest::collection::vec(cidr, 0..3);
    (name, endpoints, mac, pod_cidrs).prop_map(|(name, endpoints, vtep_mac, pod_cidrs)| Node {
        name,
        endpoints,
        vtep_mac,
        pod_cidrs,
    })
}

proptest! {
    #[test]
    fn whatever_is_said_no_row_is_wrong(nodes in proptest::collection::vec(any_node(), 0..12)) {
        fuzzing::rows(nodes);
    }
}
