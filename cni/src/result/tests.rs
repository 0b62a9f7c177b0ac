//! Golden results: one attachment in the form of every version, both ways.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{Code, Version, parse_cidr};

fn ip(cidr: &str, gateway: Option<&str>, interface: Option<usize>) -> IpConfig {
    IpConfig {
        interface,
        address: parse_cidr(cidr).unwrap(),
        gateway: gateway.map(|gw| gw.parse().unwrap()),
    }
}

fn route(dst: &str, gw: Option<&str>) -> Route {
    Route {
        dst: parse_cidr(dst).unwrap(),
        gw: gw.map(|gw| gw.parse().unwrap()),
        mtu: None,
        advmss: None,
        priority: None,
        table: None,
        scope: None,
    }
}

/// Everything that a result can say.
fn full() -> AddResult {
    AddResult {
        interfaces: vec![
            Interface {
                name: "cbr0".into(),
                mac: Some("02:00:00:00:00:01".into()),
                ..Interface::default()
            },
            Interface {
                name: "eth0".into(),
                mac: Some("02:00:00:00:00:02".into()),
                mtu: Some(1450),
                sandbox: Some("/run/netns/a".into()),
                socket_path: Some("/run/s".into()),
                pci_id: Some("0000:00:1f.6".into()),
            },
        ],
        ips: vec![
            ip("10.1.0.5/16", Some("10.1.0.1"), Some(1)),
            ip("fd00::5/64", None, None),
        ],
        routes: vec![
            Route {
                mtu: Some(1400),
                advmss: Some(1360),
                priority: Some(100),
                table: Some(0),
                scope: Some(0),
                ..route("0.0.0.0/0", Some("10.1.0.1"))
            },
            route("fd01::/64", Some("fd00::1")),
        ],
        dns: Dns {
            nameservers: vec!["10.1.0.1".into()],
            domain: Some("example.org".into()),
            search: vec!["a".into(), "b".into()],
            options: vec!["ndots:5".into()],
        },
    }
}

fn full_dns() -> Value {
    json!({"nameservers": ["10.1.0.1"], "domain": "example.org", "search": ["a", "b"], "options": ["ndots:5"]})
}

#[test]
fn full_as_1x() {
    for version in ["1.0.0", "1.1.0"] {
        let doc = json!({
            "cniVersion": version,
            "interfaces": [
                {"name": "cbr0", "mac": "02:00:00:00:00:01"},
                {"name": "eth0", "mac": "02:00:00:00:00:02", "mtu": 1450, "sandbox": "/run/netns/a",
                 "socketPath": "/run/s", "pciID": "0000:00:1f.6"},
            ],
            "ips": [
                {"interface": 1, "address": "10.1.0.5/16", "gateway": "10.1.0.1"},
                {"address": "fd00::5/64"},
            ],
            "routes": [
                {"dst": "0.0.0.0/0", "gw": "10.1.0.1", "mtu": 1400, "advmss": 1360, "priority": 100, "table": 0,
                 "scope": 0},
                {"dst": "fd01::/64", "gw": "fd00::1"},
            ],
            "dns": full_dns(),
        });
        assert_eq!(full().to_json(version.parse().unwrap()), Ok(doc.clone()));
        assert_eq!(AddResult::from_json(&doc, Version::V0_1_0), Ok(full()));
    }
}

#[test]
fn full_as_03_and_04() {
    for version in ["0.3.0", "0.3.1", "0.4.0"] {
        let doc = json!({
            "cniVersion": version,
            "interfaces": [
                {"name": "cbr0", "mac": "02:00:00:00:00:01"},
                {"name": "eth0", "mac": "02:00:00:00:00:02", "sandbox": "/run/netns/a"},
            ],
            "ips": [
                {"version": "4", "interface": 1, "address": "10.1.0.5/16", "gateway": "10.1.0.1"},
                {"version": "6", "address": "fd00::5/64"},
            ],
            "routes": [
                {"dst": "0.0.0.0/0", "gw": "10.1.0.1", "mtu": 1400, "advmss": 1360, "priority": 100, "table": 0,
                 "scope": 0},
                {"dst": "fd01::/64", "gw": "fd00::1"},
            ],
            "dns": full_dns(),
        });
        assert_eq!(full().to_json(version.parse().unwrap()), Ok(doc.clone()));
        let mut back = full();
        back.interfaces[1] = Interface {
            mtu: None,
            socket_path: None,
            pci_id: None,
            ..back.interfaces[1].clone()
        };
        assert_eq!(AddResult::from_json(&doc, Version::LATEST), Ok(back));
    }
}

#[test]
fn full_as_01_and_02() {
    for version in ["0.1.0", "0.2.0"] {
        let doc = json!({
            "cniVersion": version,
            "ip4": {"ip": "10.1.0.5/16", "gateway": "10.1.0.1", "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}]},
            "ip6": {"ip": "fd00::5/64", "routes": [{"dst": "fd01::/64", "gw": "fd00::1"}]},
            "dns": full_dns(),
        });
        assert_eq!(full().to_json(version.parse().unwrap()), Ok(doc.clone()));
        let back = AddResult {
            interfaces: vec![],
            ips: vec![
                ip("10.1.0.5/16", Some("10.1.0.1"), None),
                ip("fd00::5/64", None, None),
            ],
            routes: vec![
                route("0.0.0.0/0", Some("10.1.0.1")),
                route("fd01::/64", Some("fd00::1")),
            ],
            dns: full().dns,
        };
        assert_eq!(AddResult::from_json(&doc, Version::LATEST), Ok(back));
    }
}

#[test]
fn empty_results() {
    let empty = AddResult::default();
    for version in Version::ALL {
        let doc = empty.to_json(*version);
        match version {
            Version::V0_1_0 | Version::V0_2_0 => {
                let error = doc.unwrap_err();
                assert_eq!(error.code, Code::Internal);
                assert_eq!(error.msg, "cannot convert: no valid IP addresses");
            }
            Version::V0_3_0 | Version::V0_3_1 | Version::V0_4_0 => {
                assert_eq!(doc, Ok(json!({"cniVersion": version.as_str(), "dns": {}})));
            }
            Version::V1_0_0 | Version::V1_1_0 => {
                assert_eq!(doc, Ok(json!({"cniVersion": version.as_str()})));
            }
        }
        for doc in [json!(null), json!({}), json!({"ips": null, "dns": {}})] {
            assert_eq!(AddResult::from_json(&doc, *version), Ok(empty.clone()));
        }
    }
}

#[test]
fn old_versions_hold_one_address_a_family_and_only_its_routes() {
    let mut result = AddResult {
        ips: vec![ip("10.1.0.5/16", None, None)],
        routes: vec![route("fd01::/64", None), route("10.9.0.0/16", None)],
        ..AddResult::default()
    };
    assert_eq!(
        result.to_json(Version::V0_2_0),
        Ok(
            json!({"cniVersion": "0.2.0", "ip4": {"ip": "10.1.0.5/16", "routes": [{"dst": "10.9.0.0/16"}]}, "dns": {}})
        )
    );
    result.ips.push(ip("10.2.0.5/16", None, None));
    let error = result.to_json(Version::V0_2_0).unwrap_err();
    assert_eq!(error.code, Code::Internal);
    assert_eq!(
        error.msg,
        "CNI version 0.2.0 does not support more than 1 address per family"
    );
}

#[test]
fn an_index_out_of_range_never_leaves() {
    let mut result = full();
    result.ips[0].interface = Some(2);
    for version in Version::ALL.iter().filter(|v| **v >= Version::V0_3_0) {
        let error = result.to_json(*version).unwrap_err();
        assert_eq!(error.code, Code::Internal);
        assert_eq!(
            error.msg,
            "address 10.1.0.5/16 refers to interface 2, but the result has only 2"
        );
    }
}

#[test]
fn the_own_version_counts_and_the_fallback_only_without_one() {
    let old = json!({"ip4": {"ip": "10.0.0.1/8"}, "ips": [{"address": "10.0.0.2/8"}]});
    for (own, fallback, address) in [
        (None, "0.2.0", "10.0.0.1/8"),
        (None, "1.0.0", "10.0.0.2/8"),
        (Some(""), "0.1.0", "10.0.0.1/8"),
        (Some("0.4.0"), "0.2.0", "10.0.0.2/8"),
        (Some("0.2.0"), "1.1.0", "10.0.0.1/8"),
    ] {
        let mut doc = old.clone();
        doc["cniVersion"] = own.into();
        let result = AddResult::from_json(&doc, fallback.parse().unwrap()).unwrap();
        assert_eq!(result.ips[0].address.to_string(), address);
    }
    let error = AddResult::from_json(&json!({"cniVersion": "2.0.0"}), Version::LATEST).unwrap_err();
    assert_eq!(error.code, Code::Decode);
    assert_eq!(error.msg, r#"unsupported CNI result version "2.0.0""#);
}

#[test]
fn what_go_writes_for_nothing_is_nothing() {
    let doc = json!({
        "CNIVersion": "1.0.0",
        "Interfaces": [{"name": "lo", "mac": "", "sandbox": "", "mtu": 0}],
        "IPs": [{"Address": "127.0.0.1/8", "gateway": "", "interface": null}],
        "routes": [{"dst": "::/0", "gw": ""}],
        "dns": {"nameservers": null, "domain": ""},
    });
    let result = AddResult::from_json(&doc, Version::V0_1_0).unwrap();
    assert_eq!(
        result.interfaces[0],
        Interface {
            name: "lo".into(),
            ..Interface::default()
        }
    );
    assert_eq!(result.ips, [ip("127.0.0.1/8", None, None)]);
    assert_eq!(result.routes, [route("::/0", None)]);
    assert_eq!(result.dns, Dns::default());
}

#[test]
fn complaints_name_key_and_value() {
    for (doc, msg) in [
        (json!("x"), "expected an object"),
        (
            json!({"ips": [{"address": "10.0.0.1"}]}),
            r#"invalid value "10.0.0.1" for key "ips[0].address": invalid CIDR address: 10.0.0.1"#,
        ),
        (
            json!({"ips": [{"address": "10.0.0.1/8", "gateway": "10.0.0.256"}]}),
            r#"invalid value "10.0.0.256" for key "ips[0].gateway": invalid IP address: 10.0.0.256"#,
        ),
        (
            json!({"ips": [{"address": "10.0.0.1/8", "interface": -1}]}),
            r#"invalid value -1 for key "ips[0].interface": expected a whole number from 0 on"#,
        ),
        (json!({"ips": [{}]}), r#"missing key "ips[0].address""#),
        (
            json!({"routes": [{"dst": "0.0.0.0/0", "mtu": "1400"}]}),
            r#"invalid value "1400" for key "routes[0].mtu": expected a whole number from 0 to 4294967295"#,
        ),
    ] {
        let error = AddResult::from_json(&doc, Version::LATEST).unwrap_err();
        assert_eq!((error.code, error.msg.as_str()), (Code::Decode, msg));
    }
}

fn any_cidr() -> impl Strategy<Value = IpNetwork> {
    prop_oneof![
        (any::<u32>(), 0u8..=32).prop_map(|(ip, len)| (IpAddr::from(ip.to_be_bytes()), len)),
        (any::<u128>(), 0u8..=128).prop_map(|(ip, len)| (IpAddr::from(ip.to_be_bytes()), len)),
    ]
    .prop_map(|(ip, len)| IpNetwork::new(ip, len).unwrap())
}

prop_compose! {
    fn any_result()(
        names in prop::collection::vec("[a-z0-9]{1,15}", 0..4),
        ips in prop::collection::vec((any_cidr(), any::<prop::sample::Index>(), any::<bool>()), 0..5),
        routes in prop::collection::vec(
            (any_cidr(), prop::option::of(any_cidr()), prop::option::of(any::<u32>()), prop::option::of(any::<u8>())),
            0..5
        ),
        mtu in prop::option::of(1..=u32::MAX),
        search in prop::collection::vec("[a-z.]{1,8}", 0..3),
    ) -> AddResult {
        AddResult {
            ips: ips.into_iter().map(|(address, index, inside)| IpConfig {
                interface: (inside && !names.is_empty()).then(|| index.index(names.len())),
                address,
                gateway: inside.then(|| address.ip()),
            }).collect(),
            interfaces: names.into_iter().map(|name| Interface { name, mtu, ..Interface::default() }).collect(),
            routes: routes.into_iter().map(|(dst, gw, number, scope)| Route {
                dst,
                gw: gw.map(|gw| gw.ip()),
                mtu: number,
                advmss: number,
                priority: number,
                table: number,
                scope,
            }).collect(),
            dns: Dns { search, ..Dns::default() },
        }
    }
}

proptest! {
    #[test]
    fn there_and_back_loses_only_what_a_version_cannot_say(result in any_result()) {
        for version in Version::ALL {
            let Ok(doc) = result.to_json(*version) else {
                prop_assert!(*version < Version::V0_3_0);
                continue;
            };
            let back = AddResult::from_json(&doc, Version::LATEST).unwrap();
            if *version >= Version::V1_0_0 {
                prop_assert_eq!(&back, &result);
            } else if *version >= Version::V0_3_0 {
                prop_assert_eq!(&back.ips, &result.ips);
                prop_assert_eq!(&back.routes, &result.routes);
            } else {
                prop_assert!(back.ips.len() == result.ips.len() && back.ips.len() <= 2);
            }
            prop_assert_eq!(&back.dns, &result.dns);
            // And what has been said in a version is said the same again.
            prop_assert_eq!(back.to_json(*version), Ok(doc));
        }
    }
}
