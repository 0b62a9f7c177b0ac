//! Whatever order nodes come, go, change and are heard of in, with repeats and losses and passes in between: the kernel ends
//! as it would from the final set alone. The kernel is a model here; the lab's tests have the real one.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;

use heddle::config::Config;
use heddle::diff::{self, Change};
use heddle::local::{Local, UplinkRoute};
use heddle::names::{DEVICE, vtep_mac};
use heddle::node::Node;
use heddle::observe::Observed;
use heddle::plan::{Desired, Planned, Touched, plan};
use heddle::view::View;
use ipnetwork::IpNetwork;
use netlink::Link;
use proptest::prelude::*;

const DEVICE_INDEX: u32 = 9;
const UPLINK: u32 = 2;

/// What happens.
#[derive(Clone, Debug)]
enum Event {
    /// A node is heard of, new or with something changed.
    Heard(Node),
    /// A node is gone.
    Gone(String),
    /// The reconciler looks.
    Pass { is_settled: bool },
    /// Someone deletes rows: each one whose number is a multiple.
    Harm(usize),
    /// The device is deleted, and all that depends on it.
    DeviceLost,
}

fn node() -> impl Strategy<Value = Node> {
    let cidrs = prop_oneof![Just(0_u8), 1..6_u8];
    (1..8_u8, 1..8_u8, prop::bool::ANY, cidrs).prop_map(|(name, host, near, share)| {
        let subnet = if near { 1 } else { 2 };
        let name = format!("n{name}");
        let endpoints = vec![
            format!("192.0.{subnet}.{host}").parse().unwrap(),
            format!("fd00:{subnet}::{host}").parse().unwrap(),
        ];
        let pod_cidrs: Vec<IpNetwork> = match share {
            0 => Vec::new(),
            share => vec![
                format!("10.32.{share}.0/24").parse().unwrap(),
                format!("fd32:0:0:{share}::/64").parse().unwrap(),
            ],
        };
        Node {
            vtep_mac: vtep_mac(&name),
            name,
            endpoints,
            pod_cidrs,
        }
    })
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => node().prop_map(Event::Heard),
        2 => (1..8_u8).prop_map(|name| Event::Gone(format!("n{name}"))),
        2 => prop::bool::ANY.prop_map(|is_settled| Event::Pass { is_settled }),
        1 => (1..4_usize).prop_map(Event::Harm),
        1 => Just(Event::DeviceLost),
    ]
}

fn local() -> Local {
    Local {
        index: UPLINK,
        name: "eth0".into(),
        mtu: 1500,
        endpoints: vec![
            "192.0.1.100".parse().unwrap(),
            "fd00:1::100".parse().unwrap(),
        ],
        routes: vec![
            UplinkRoute {
                dst: "192.0.1.0/24".parse().unwrap(),
                is_on_link: true,
                mtu: None,
            },
            UplinkRoute {
                dst: "fd00:1::/64".parse().unwrap(),
                is_on_link: true,
                mtu: None,
            },
            UplinkRoute {
                dst: "192.0.2.4/32".parse().unwrap(),
                is_on_link: false,
                mtu: Some(1400),
            },
        ],
    }
}

fn own() -> Node {
    Node {
        name: "own".into(),
        endpoints: Vec::new(),
        vtep_mac: vtep_mac("own"),
        pod_cidrs: vec![
            "10.32.9.0/24".parse().unwrap(),
            "fd32:0:0:9::/64".parse().unwrap(),
        ],
    }
}

fn config() -> Config {
    Config {
        cluster_cidrs: vec!["10.32.0.0/16".parse().unwrap()],
        ..Config::default()
    }
}

fn desired(nodes: &BTreeMap<String, Node>) -> Desired {
    let view = View::new(nodes.values().cloned(), &config());
    plan(&view, &own(), &local(), &config())
}

/// A pass of the reconciler over the model.
fn pass(kernel: &mut Observed, desired: &Desired, is_settled: bool, only: Option<&Touched>) {
    for change in diff::device(desired, kernel) {
        apply(kernel, desired, &change);
    }
    let mut changes = diff::rows(desired, kernel, (DEVICE_INDEX, UPLINK), only);
    if is_settled {
        changes.extend(diff::stale(desired, kernel, DEVICE_INDEX, only));
    }
    let mut known = kernel.clone();
    for change in changes {
        apply(kernel, desired, &change);
        change.take_down(&mut known);
    }
    // What the daemon goes by until it looks again.
    assert_eq!(&known, kernel);
}

/// What the kernel does with a change, down to what it refuses.
fn apply(kernel: &mut Observed, desired: &Desired, change: &Change) {
    match change {
        Change::MakeDevice => {
            assert!(kernel.device.is_none(), "EEXIST");
            kernel.device = Some(Link {
                index: DEVICE_INDEX,
                name: DEVICE.into(),
                mac: Some(desired.device.mac),
                mtu: desired.device.mtu,
                up: true,
                vxlan: Some(desired.device.info),
                ..Link::default()
            });
        }
        Change::RemoveDevice(_) => lose_device(kernel),
        Change::SetUp(_) => kernel.device.as_mut().unwrap().up = true,
        Change::SetMtu(_, mtu) => kernel.device.as_mut().unwrap().mtu = *mtu,
        Change::SetMac(_, mac) => kernel.device.as_mut().unwrap().mac = Some(*mac),
        Change::AddAddress(_, network) => assert!(kernel.addresses.insert(*network), "EEXIST"),
        Change::RemoveAddress(_, network) => assert!(kernel.addresses.remove(network)),
        Change::SetFdb(row) => {
            // Replacing keeps what other destinations the MAC has.
            let all = kernel.fdb.entry(row.mac).or_default();
            assert!(!all.contains(&row.dst), "for nothing");
            match all.first_mut() {
                Some(first) => *first = row.dst,
                None => all.push(row.dst),
            }
        }
        Change::RemoveFdb(row) => {
            let left = kernel.fdb.get_mut(&row.mac).unwrap();
            assert!(left.contains(&row.dst), "ENOENT");
            left.retain(|dst| *dst != row.dst);
            if left.is_empty() {
                kernel.fdb.remove(&row.mac);
            }
        }
        Change::SetNeighbour(row) => drop(kernel.neighbours.insert(row.ip, row.mac)),
        Change::RemoveNeighbour(row) => assert!(kernel.neighbours.remove(&row.ip).is_some()),
        Change::AddNexthop(row) => {
            assert!(kernel.nexthops.insert(row.id, *row).is_none(), "EEXIST")
        }
        Change::SetNexthop(row) => assert!(kernel.nexthops.insert(row.id, *row).is_some()),
        Change::RemoveNexthop(row) => {
            kernel.nexthops.remove(&row.id).unwrap();
            kernel
                .routes
                .retain(|_, routes| routes[0].nexthop_id != Some(row.id));
        }
        Change::AddRoute(row) => {
            assert!(
                kernel.nexthops.contains_key(&row.nexthop_id.unwrap()),
                "EINVAL"
            );
            assert!(
                kernel.routes.insert(row.dst, vec![row.clone()]).is_none(),
                "EEXIST"
            );
        }
        Change::SetRoute(row) => {
            assert!(
                kernel.nexthops.contains_key(&row.nexthop_id.unwrap()),
                "EINVAL"
            );
            assert!(kernel.routes.insert(row.dst, vec![row.clone()]).is_some());
        }
        // It may have gone with its nexthop.
        Change::RemoveRoute(row) => drop(kernel.routes.remove(&row.dst)),
    }
}

/// Whether there is nothing left to do.
fn is_right(kernel: &Observed, desired: &Desired) -> bool {
    diff::device(desired, kernel).is_empty()
        && diff::rows(desired, kernel, (DEVICE_INDEX, UPLINK), None).is_empty()
        && diff::stale(desired, kernel, DEVICE_INDEX, None).is_empty()
}

fn lose_device(kernel: &mut Observed) {
    let lost: Vec<u32> = kernel
        .nexthops
        .values()
        .filter(|row| row.dev == DEVICE_INDEX)
        .map(|row| row.id)
        .collect();
    kernel.nexthops.retain(|id, _| !lost.contains(id));
    kernel
        .routes
        .retain(|_, routes| !routes[0].nexthop_id.is_some_and(|id| lost.contains(&id)));
    kernel.device = None;
    kernel.addresses.clear();
    kernel.fdb.clear();
    kernel.neighbours.clear();
}

fn harm(kernel: &mut Observed, every: usize) {
    let mut number = 0;
    let mut spared = || {
        number += 1;
        number % (every + 1) != 0
    };
    kernel.routes.retain(|_, _| spared());
    kernel.neighbours.retain(|_, _| spared());
    kernel.fdb.retain(|_, _| spared());
}

proptest! {
    #[test]
    fn the_kernel_depends_on_the_final_set_only(events in prop::collection::vec(event(), 0..40)) {
        let (mut nodes, mut kernel) = (BTreeMap::new(), Observed::default());
        for event in events {
            match event {
                Event::Heard(node) => drop(nodes.insert(node.name.clone(), node)),
                Event::Gone(name) => drop(nodes.remove(&name)),
                Event::Pass { is_settled } => pass(&mut kernel, &desired(&nodes), is_settled, None),
                Event::Harm(every) => harm(&mut kernel, every),
                Event::DeviceLost => lose_device(&mut kernel),
            }
        }
        let last = desired(&nodes);
        pass(&mut kernel, &last, true, None);
        let mut fresh = Observed::default();
        pass(&mut fresh, &last, true, None);
        prop_assert_eq!(&kernel, &fresh);
        prop_assert!(is_right(&kernel, &last));
    }

    #[test]
    fn a_view_and_a_plan_that_follow_are_those_made_anew(events in prop::collection::vec(event(), 0..40)) {
        let (mut nodes, mut planned, mut viewed) = (BTreeMap::new(), None, None::<View>);
        let mut kernel = Observed::default();
        for event in events {
            match event {
                Event::Heard(node) => drop(nodes.insert(node.name.clone(), node)),
                Event::Gone(name) => drop(nodes.remove(&name)),
                _ => continue,
            }
            let view = Arc::new(View::new(nodes.values().cloned(), &config()));
            let sorted: Vec<Arc<Node>> = nodes.values().cloned().map(Arc::new).collect();
            let followed = View::follow(viewed.as_ref(), &sorted, &config());
            prop_assert_eq!(&followed, &*view);
            viewed = Some(followed);
            let followed = Planned::follow(planned, &view, &own(), &local(), &config());
            prop_assert_eq!(followed.desired(), &desired(&nodes));
            // And no other rows need a change than those that it says.
            pass(&mut kernel, followed.desired(), true, followed.touched());
            prop_assert!(is_right(&kernel, followed.desired()));
            planned = Some(followed);
        }
    }

    #[test]
    fn a_view_does_not_depend_on_the_order(nodes in prop::collection::vec(node(), 0..12).prop_shuffle()) {
        let mut sorted = nodes.clone();
        sorted.sort_by(|a, b| format!("{a:?}").cmp(&format!("{b:?}")));
        prop_assert_eq!(View::new(nodes, &config()), View::new(sorted, &config()));
    }
}
