//! What reading as Go does means, case by case.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;
use serde::Deserialize;
use serde_json::{Value, json};

use super::read;

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
struct Conf {
    is_gateway: bool,
    mtu: u32,
    names: Vec<String>,
    ipam: Ipam,
    maybe: Option<u8>,
    sysctl: BTreeMap<String, String>,
    mode: Mode,
    any: Value,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
struct Ipam {
    subnet: Option<IpNetwork>,
    ranges: Vec<Vec<Range>>,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
struct Range {
    subnet: String,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Mode {
    #[default]
    Bridge,
    Private,
}

fn conf(value: Value) -> Conf {
    read(&value).unwrap()
}

fn complaint(value: Value) -> String {
    read::<Conf>(&value).unwrap_err().to_string()
}

#[test]
fn keys_match_without_regard_to_case_and_exact_ones_win() {
    assert!(conf(json!({"ISGATEWAY": true})).is_gateway);
    assert!(conf(json!({"isgateway": true})).is_gateway);
    assert_eq!(conf(json!({"MTU": 1, "mtu": 2, "Mtu": 3})).mtu, 2);
    assert_eq!(
        conf(json!({"IPAM": {"Ranges": [[{"SUBNET": "x"}]]}}))
            .ipam
            .ranges,
        [[Range { subnet: "x".into() }]]
    );
}

#[test]
fn null_is_absent_and_zero_inside_a_list() {
    let all_null = json!({"isGateway": null, "mtu": null, "names": null, "ipam": null, "maybe": null,
        "sysctl": null, "mode": null, "any": null});
    assert_eq!(conf(all_null), Conf::default());
    assert_eq!(conf(json!(null)), Conf::default());
    assert_eq!(conf(json!({"names": ["a", null]})).names, ["a", ""]);
    assert_eq!(conf(json!({"mtu": null, "MTU": 7})).mtu, 7);
}

#[test]
fn unknown_keys_are_ignored_and_map_keys_kept() {
    let c = conf(json!({"zzz": [1, {"a": null}], "sysctl": {"net.A": "1", "NET.a": "2"}}));
    assert_eq!(c.sysctl["net.A"], "1");
    assert_eq!(c.sysctl["NET.a"], "2");
    assert_eq!(conf(json!({"any": {"A": [1]}})).any, json!({"A": [1]}));
}

#[test]
fn complaints_name_place_value_and_what_was_expected() {
    for (value, expected) in [
        (
            json!({"IsGateway": "true"}),
            r#"invalid value "true" for key "IsGateway": expected a boolean"#,
        ),
        (
            json!({"mtu": -1}),
            r#"invalid value -1 for key "mtu": expected a whole number from 0 to 4294967295"#,
        ),
        (
            json!({"mtu": 1.5}),
            r#"invalid value 1.5 for key "mtu": expected a whole number from 0 to 4294967295"#,
        ),
        (
            json!({"names": "a"}),
            r#"invalid value "a" for key "names": expected a list"#,
        ),
        (
            json!({"ipam": []}),
            r#"invalid value [] for key "ipam": expected an object"#,
        ),
        (
            json!({"ipam": {"ranges": [[], [{"subnet": "x"}, {"subnet": 3}]]}}),
            r#"invalid value 3 for key "ipam.ranges[1][1].subnet": expected a string"#,
        ),
        (
            json!({"ipam": {"ranges": [[{}]]}}),
            r#"missing key "ipam.ranges[0][0].subnet""#,
        ),
        (
            json!({"mode": "vepa"}),
            r#"invalid value "vepa" for key "mode": expected one of bridge, private"#,
        ),
        (json!([]), "expected an object"),
    ] {
        assert_eq!(complaint(value), expected);
    }
    assert!(
        complaint(json!({"ipam": {"subnet": "10.0.0.300/8"}}))
            .starts_with(r#"invalid value "10.0.0.300/8" for key "ipam.subnet": "#)
    );
    assert!(complaint(json!({"isGateway": "é".repeat(200)})).len() < 300);
}
