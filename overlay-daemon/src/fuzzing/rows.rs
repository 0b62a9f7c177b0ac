//! Whatever is said of the nodes: what no row of the kernel may be.

use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;

use crate::config::Config;
use crate::local::{Local, UplinkRoute};
use crate::names::vtep_mac;
use crate::node::Node;
use crate::plan::plan;
use crate::view::View;

/// Of the node `own`, in a cluster with a range of each family.
pub(super) fn config() -> Config {
    let networks = ["10.32.0.0/16", "fd32::/48"].iter();
    Config {
        node_name: "own".into(),
        cluster_cidrs: networks.filter_map(|text| text.parse().ok()).collect(),
        ..Config::default()
    }
}

/// Plans for them and looks at every row: none leads out of the cluster's ranges, to what is no host, or to this node itself,
/// and no two contradict each other.
pub fn rows<N: Into<Arc<Node>>>(nodes: Vec<N>) {
    let (config, count) = (config(), nodes.len());
    let own_address = IpAddr::from([192, 0, 2, 9]);
    let local = Local {
        index: 2,
        name: "eth0".into(),
        mtu: 1500,
        endpoints: vec![own_address],
        routes: vec![UplinkRoute {
            dst: IpNetwork::from(IpAddr::from([192, 0, 2, 0])),
            is_on_link: true,
            mtu: None,
        }],
    };
    let own = Node {
        name: config.node_name.clone(),
        endpoints: vec![own_address],
        vtep_mac: vtep_mac(&config.node_name),
        pod_cidrs: config.cidrs_of_slot(0).into_iter().take(1).collect(),
    };
    let desired = plan(&View::new(nodes, &config), &own, &local, &config);
    let routes: Vec<IpNetwork> = desired.routes.keys().copied().collect();
    for (n, route) in routes.iter().enumerate() {
        assert_eq!(route.ip(), route.network());
        let inside =
            |range: &IpNetwork| range.contains(route.ip()) && range.prefix() <= route.prefix();
        assert!(config.cluster_cidrs.iter().any(inside), "{route}");
        for other in routes[n + 1..].iter().chain(&own.pod_cidrs) {
            assert!(!crate::networks::overlap(*route, *other), "{route} {other}");
        }
        assert!(
            desired
                .nexthops
                .contains_key(&desired.routes[route].nexthop)
        );
    }
    for (mac, to) in &desired.fdb {
        assert!(mac.bytes()[0] & 1 == 0 && mac.bytes() != [0; 6], "{mac}");
        let is_pods = config.cluster_cidrs.iter().any(|range| range.contains(*to));
        assert!(is_unicast(*to) && *to != own_address && !is_pods, "{to}");
    }
    assert_eq!(desired.fdb.len(), desired.neighbours.len());
    // As much of each as there are nodes, and no more.
    assert!(desired.peers.len() <= count && desired.fdb.len() <= count);
    assert!(routes.len() <= 2 * count && desired.nexthops.len() <= 2 * count);
    for name in desired.peers.keys() {
        assert!(!name.chars().any(char::is_control), "{name:?}");
    }
}

/// An address that a packet on the underlay can be sent to, in words other than the daemon's own.
fn is_unicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            (1..224).contains(&first) && first != 127 && (first, second) != (169, 254)
        }
        IpAddr::V6(v6) => {
            let first = v6.segments()[0];
            let is_small = u128::from(v6) <= 0xffff_ffff_ffff && u128::from(v6) >> 32 == 0xffff;
            first < 0xff00 && first & 0xffc0 != 0xfe80 && u128::from(v6) > 1 && !is_small
        }
    }
}
