//! Elements: read one by one and all together, added, deleted, many of them.
use std::net::IpAddr;

use netlink::nft::{Chain, DataMap, Element, Handle, Key, Set, Type, Value};
use serde_json::Value as Json;

use crate::sandbox::run;
use crate::tools::*;

const SET: Set = Set {
    name: "s",
    key: Type::Ipv4Address,
    verdicts: false,
};
const MAP: Set = Set {
    name: "m",
    key: Type::Ipv6Address,
    verdicts: true,
};

fn make() -> Handle {
    commit(|transaction| {
        transaction.add_table();
        transaction.add_chain(&Chain {
            name: "pod",
            hook: None,
        });
        transaction.add_set(&SET);
        transaction.add_set(&MAP);
    });
    Handle::new().unwrap()
}

/// The elements of a set or map, as `nft` sees them.
fn shown(kind: &str, name: &str) -> Vec<Json> {
    let sets = objects(kind);
    let set = sets.iter().find(|set| set["name"] == name).unwrap();
    set["elem"].as_array().cloned().unwrap_or_default()
}

pub fn one_is_found_by_its_key() {
    let mut handle = make();
    let (plain, pod) = (
        element(key("10.0.0.1")),
        jump(key("fd00::1"), "pod", "of a pod"),
    );
    commit(|transaction| {
        transaction.add_elements("s", &[plain.clone(), element(key("10.0.0.2"))]);
        transaction.add_elements("m", std::slice::from_ref(&pod));
    });
    run(
        "nft",
        &["add element inet t m { fd00::2 comment \"foreign\" : drop }"],
    );
    assert_eq!(handle.element(TABLE, "s", &plain.key).unwrap(), Some(plain));
    assert_eq!(handle.element(TABLE, "m", &pod.key).unwrap(), Some(pod));
    let foreign = handle
        .element(TABLE, "m", &key("fd00::2"))
        .unwrap()
        .unwrap();
    assert_eq!(
        (foreign.value, foreign.comment.as_deref()),
        (None, Some("foreign"))
    );
    assert_eq!(handle.element(TABLE, "s", &key("10.0.0.9")).unwrap(), None);
    assert_eq!(
        handle.element(TABLE, "nowhere", &key("10.0.0.1")).unwrap(),
        None
    );
    let elsewhere = netlink::nft::Table {
        name: "elsewhere",
        ..TABLE
    };
    assert_eq!(
        handle.element(elsewhere, "s", &key("10.0.0.1")).unwrap(),
        None
    );
    let wrong = handle.element(TABLE, "s", &key("fd00::1"));
    assert!(wrong.is_err(), "a key of another length: {wrong:?}");
}

pub fn they_are_listed_with_comments_and_values() {
    let mut handle = make();
    assert_eq!(handle.elements(TABLE, "m").unwrap(), []);
    assert_eq!(handle.elements(TABLE, "nowhere").unwrap(), []);
    let pods: Vec<_> = (1..=3)
        .map(|number| {
            jump(
                key(&format!("fd00::{number}")),
                "pod",
                &format!("pod {number}"),
            )
        })
        .collect();
    commit(|transaction| transaction.add_elements("m", &pods));
    let mut listed = handle.elements(TABLE, "m").unwrap();
    listed.sort_by_key(|element| element.key.address());
    assert_eq!(listed, pods);
    assert_eq!(listed[0].key.address(), "fd00::1".parse().ok());
    commit(|transaction| transaction.delete_elements("m", &pods[..2]));
    assert_eq!(handle.elements(TABLE, "m").unwrap(), pods[2..]);
    let [left] = shown("map", "m").try_into().unwrap();
    assert_eq!(left[1]["jump"]["target"], "pod", "{left}");
    assert!(left[0].to_string().contains("pod 3"), "{left}");
}

pub fn keys_say_what_they_are() {
    let mut handle = make();
    let (four, six): (IpAddr, IpAddr) = ([192, 0, 2, 1].into(), "fd00::9".parse().unwrap());
    let target = |key, address| Element {
        key,
        value: Some(Value::Target(address, 8080)),
        comment: Some("a service".into()),
    };
    let at4 = target(Key::service_at(four, 17, 53), four);
    let at6 = target(Key::service_at(six, 6, 443), six);
    let any = jump(Key::service(6, 80), "pod", "any address");
    let port = element(Key::interface("veth0"));
    commit(|transaction| {
        let map = |name, key, value| DataMap { name, key, value };
        transaction.add_map(&map("at4", Type::Ipv4Service, Type::Ipv4Target));
        transaction.add_map(&map("at6", Type::Ipv6Service, Type::Ipv6Target));
        transaction.add_set(&Set {
            name: "any",
            key: Type::Service,
            verdicts: true,
        });
        transaction.add_set(&Set {
            name: "ports",
            key: Type::InterfaceName,
            verdicts: false,
        });
        transaction.add_elements("at4", std::slice::from_ref(&at4));
        transaction.add_elements("at6", std::slice::from_ref(&at6));
        transaction.add_elements("any", std::slice::from_ref(&any));
        transaction.add_elements("ports", std::slice::from_ref(&port));
    });
    let mut only = |set: &str| -> Element {
        let [element] = handle.elements(TABLE, set).unwrap().try_into().unwrap();
        element
    };
    assert_eq!(only("at4"), at4);
    assert_eq!(only("at4").key.as_service(), Some((Some(four), 17, 53)));
    assert_eq!(only("at6"), at6);
    assert_eq!(only("at6").key.as_service(), Some((Some(six), 6, 443)));
    assert_eq!(only("any"), any);
    assert_eq!(only("any").key.as_service(), Some((None, 6, 80)));
    assert_eq!(only("ports").key.as_interface().as_deref(), Some("veth0"));
    assert_eq!(handle.element(TABLE, "at6", &at6.key).unwrap(), Some(at6));
}

pub fn thousands_are_one_transaction() {
    let mut handle = make();
    for count in [1000, 10_000_u32] {
        let of = |number: u32| key(&format!("fd00::{:x}:{:x}", number >> 16, number & 0xffff));
        let comment = "heddle/a-network/0123456789abcdef0123456789abcdef/eth0";
        let all: Vec<_> = (0..count)
            .map(|number| jump(of(number), "pod", comment))
            .collect();
        commit(|transaction| transaction.add_elements("m", &all));
        assert_eq!(shown("map", "m").len(), count as usize);
        let mut listed = handle.elements(TABLE, "m").unwrap();
        listed.sort_by_key(|element| element.key.address());
        assert_eq!(listed, all);
        let error = refused(|transaction| {
            transaction.add_elements("s", &[element(key("10.0.0.1"))]);
            transaction.add_elements("m", &all[count as usize - 1..]);
        });
        assert!(error.is_exists(), "{error}");
        commit(|transaction| transaction.delete_elements("m", &all));
        assert_eq!(shown("map", "m"), [""; 0]);
    }
}
