//! What follows from a set of Nodes, in whatever order it came about.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::json;

use super::{Set, condition, pod_cidrs};
use crate::config::Config;
use crate::membership::kubernetes::api::KubeNode;

/// A Node as the API server shows it, with much that is not read.
fn node(name: &str, cidr: &str, endpoint: &str, created: u32, is_deleting: bool) -> KubeNode {
    let mut object = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "uid": "4b7b2e0c",
            "creationTimestamp": format!("2026-01-01T00:00:{created:02}Z"),
            "labels": {"kubernetes.io/os": "linux"},
            "annotations": {
                "heddle.dev/endpoints": endpoint,
                "heddle.dev/capabilities": "vni=1,vxlan-port=8472",
                "volumes.kubernetes.io/controller-managed-attach-detach": "true",
            },
            "managedFields": [{"manager": "kubelet"}],
        },
        "spec": {"podCIDR": cidr, "podCIDRs": [cidr]},
        "status": {
            "images": [{"names": ["a"], "sizeBytes": 1}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    });
    if is_deleting {
        object["metadata"]["deletionTimestamp"] = "2026-01-01T00:01:00Z".into();
    }
    serde_json::from_value(object).unwrap()
}

fn set(nodes: &[KubeNode]) -> Set {
    let mut set = Set::default();
    for node in nodes {
        set.apply(node);
    }
    set
}

fn config() -> Config {
    Config {
        node_name: "own".into(),
        ..Config::default()
    }
}

fn names(set: &Set) -> Vec<String> {
    let nodes = set.seen(&config()).nodes.into_iter();
    nodes.map(|node| node.name.clone()).collect()
}

#[test]
fn nothing_that_is_not_read_is_kept() {
    let object = node("a", "10.0.1.0/24", "192.0.2.1", 1, false);
    assert_eq!(object.metadata.labels, None);
    assert_eq!(object.metadata.managed_fields, None);
    assert_eq!(object.metadata.annotations.unwrap().len(), 2);
    assert!(condition(&node("a", "", "", 1, false)).is_none());
}

#[test]
fn the_first_cidr_of_each_family_counts() {
    let mut object = node("a", "10.0.1.0/24", "", 1, false);
    object.spec.pod_cidrs = ["fd00:1::/64", "10.0.1.0/24", "10.0.9.0/24"]
        .map(Into::into)
        .into();
    let cidrs: Vec<_> = pod_cidrs(&object).iter().map(ToString::to_string).collect();
    assert_eq!(cidrs, ["fd00:1::/64", "10.0.1.0/24"]);
    object.spec.pod_cidrs.clear();
    assert_eq!(
        pod_cidrs(&object).len(),
        1,
        "podCIDR alone, as old API servers have it"
    );
}

#[test]
fn a_cidr_goes_to_the_newest_that_stays() {
    let old = node("old", "10.0.1.0/24", "192.0.2.1", 1, false);
    let new = node("new", "10.0.1.0/24", "192.0.2.2", 2, false);
    let set = set(&[old, new]);
    assert_eq!(names(&set), ["new"]);
    assert_eq!(
        set.seen(&config()).notes,
        ["old is left out: its pod CIDR 10.0.1.0/24 is that of new now, and it is the older Node"]
    );
}

#[test]
fn a_node_that_is_being_deleted_keeps_what_nobody_else_has() {
    let leaving = node("leaving", "10.0.1.0/24", "192.0.2.1", 9, true);
    assert_eq!(names(&set(std::slice::from_ref(&leaving))), ["leaving"]);
    let heir = node("heir", "10.0.1.0/24", "192.0.2.2", 1, false);
    assert_eq!(names(&set(&[leaving, heir])), ["heir"]);
}

#[test]
fn who_has_not_said_where_it_is_waits() {
    let silent = set(&[node("silent", "10.0.1.0/24", "", 1, false)]);
    let nodes = silent.seen(&config()).nodes;
    assert_eq!((nodes.len(), nodes[0].pod_cidrs.len()), (1, 0));
}

#[test]
fn own_cidrs_and_disagreement() {
    let mut other = node("other", "10.0.2.0/24", "192.0.2.2", 1, false);
    let annotations = other.metadata.annotations.as_mut().unwrap();
    annotations.insert(
        "heddle.dev/capabilities".into(),
        "vni=2,vxlan-port=8472".into(),
    );
    let seen = set(&[node("own", "10.0.1.0/24", "192.0.2.1", 1, false), other]).seen(&config());
    assert_eq!(seen.own_cidrs.unwrap()[0].to_string(), "10.0.1.0/24");
    assert!(
        seen.notes[0].contains("other has vni=2"),
        "{:?}",
        seen.notes
    );
    assert_eq!(set(&[]).seen(&config()).own_cidrs, None);
}

/// Few names, CIDRs and addresses, so that they clash.
fn any_node() -> impl Strategy<Value = KubeNode> {
    (0..5_u8, 0..4_u8, 0..4_u8, 0..3_u32, any::<bool>()).prop_map(
        |(name, cidr, endpoint, created, is_deleting)| {
            node(
                &format!("n{name}"),
                &format!("10.0.{cidr}.0/24"),
                &format!("192.0.2.{endpoint}"),
                created,
                is_deleting,
            )
        },
    )
}

/// Nodes of which each has its own, one of two, or nothing.
fn calm_node() -> impl Strategy<Value = KubeNode> {
    (0..8_u8, 0..3_u8).prop_map(|(name, choice)| {
        let (cidr, endpoint) = match choice {
            0 => (String::new(), String::new()),
            choice => {
                let number = 2 * name + choice;
                (format!("10.1.{number}.0/24"), format!("192.0.3.{number}"))
            }
        };
        node(&format!("n{name}"), &cidr, &endpoint, 0, false)
    })
}

#[derive(Clone, Debug)]
enum Step {
    Apply(KubeNode),
    Remove(KubeNode),
}

proptest! {
    /// Added, changed, deleted and listed anew in any order: what counts is which Nodes there are in the end.
    #[test]
    fn only_the_final_set_counts(
        history in prop::collection::vec(
            prop_oneof![any_node().prop_map(Step::Apply), any_node().prop_map(Step::Remove)], 0..30),
        last in prop::collection::btree_map(0..5_u8, any_node(), 0..5),
        seed in any::<prop::sample::Index>(),
    ) {
        let mut last: Vec<KubeNode> = last.into_iter().map(|(name, mut node)| {
            node.metadata.name = Some(format!("n{name}"));
            node
        }).collect();
        let fresh = set(&last);
        let mut lived = Set::default();
        for step in &history {
            match step {
                Step::Apply(node) => lived.apply(node),
                Step::Remove(node) => lived.remove(node),
            };
        }
        for name in 0..5 {
            lived.remove(&node(&format!("n{name}"), "", "", 0, false));
        }
        if !last.is_empty() {
            let turn = seed.index(last.len());
            last.rotate_left(turn);
        }
        last.iter().for_each(|node| { lived.apply(node); });
        prop_assert_eq!(lived.seen(&config()), fresh.seen(&config()));
        // And nobody shares a CIDR or an address with another.
        let mut taken = std::collections::BTreeSet::new();
        for node in fresh.seen(&config()).nodes {
            for cidr in &node.pod_cidrs {
                prop_assert!(taken.insert(cidr.to_string()), "{cidr} twice");
            }
            for endpoint in &node.endpoints {
                prop_assert!(taken.insert(endpoint.to_string()), "{endpoint} twice");
            }
        }
    }

    #[test]
    fn what_follows_is_what_is_seen_anew(
        history in prop::collection::vec(prop::collection::vec(
            prop_oneof![
                8 => calm_node().prop_map(Step::Apply),
                2 => calm_node().prop_map(Step::Remove),
                1 => any_node().prop_map(Step::Apply),
                2 => any_node().prop_map(Step::Remove),
            ], 1..4), 1..30),
    ) {
        let (mut set, mut seen) = (Set::default(), None);
        for steps in history {
            let mut changed = Vec::new();
            for step in steps {
                let (node, is_new) = match &step {
                    Step::Apply(node) => (node, set.apply(node)),
                    Step::Remove(node) => (node, set.remove(node)),
                };
                changed.extend(is_new.then(|| node.metadata.name.clone().unwrap_or_default()));
            }
            let followed = set.follow(seen, &changed, &config());
            prop_assert_eq!(&followed, &set.seen(&config()));
            seen = Some(followed);
        }
    }
}
