#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;

fn load(text: &str) -> Result<Config, String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("heddle.toml");
    std::fs::write(&file, text).unwrap();
    Config::load(&file, json!({})).map_err(|error| error.to_string())
}

const GOOD: &str = r#"
    node_name = "n1"
    cluster_cidrs = ["10.32.0.0/16", "fd00:32::/48"]
    peers = ["192.0.2.1"]
    keys = ["a secret of enough letters"]
"#;

#[test]
fn a_file_with_secrets_is_root_s_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("heddle.toml");
    let exposed = |text: &str, mode| {
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        Config::load(&file, json!({})).unwrap().exposed
    };
    assert_eq!(exposed(GOOD, 0o600), None);
    assert_eq!(exposed(GOOD, 0o400), None);
    for mode in [0o644, 0o640, 0o660, 0o604] {
        assert_eq!(exposed(GOOD, mode), Some(file.clone()));
    }
    assert_eq!(exposed("membership = \"static\"", 0o644), None);
}

#[test]
fn a_secret_is_never_shown() {
    let config = load(GOOD).unwrap();
    assert_eq!(config.keys[0].reveal(), "a secret of enough letters");
    for shown in [format!("{config:?}"), toml::to_string(&config).unwrap()] {
        assert!(!shown.contains("enough letters") && shown.contains(REDACTED));
    }
}

#[test]
fn a_slip_beside_a_secret_does_not_show_it() {
    for wrong in [
        "keys = [\"a secret of enough letters\"] peers = []",
        "keys = [\"a secret of enough letters]",
        "keys = \"a secret of enough letters\"",
        "keys = [[\"a secret of enough letters\"]]",
        "keys = { first = \"a secret of enough letters\" }",
    ] {
        let said = load(&format!("node_name = \"n1\"\n{wrong}")).unwrap_err();
        assert!(!said.contains("enough letters"), "{said}");
        assert!(
            said.contains("line 2: ") || said.contains("\"keys"),
            "{said}"
        );
    }
}

#[test]
fn slots_are_shares_of_both_ranges() {
    let config = load(GOOD).unwrap();
    assert_eq!(config.slots(), 256);
    let shares: Vec<String> = config
        .cidrs_of_slot(7)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(shares, ["10.32.7.0/24", "fd00:32:0:7::/64"]);
}

#[test]
fn what_is_wrong_is_named_with_a_remedy() {
    let cases = [
        ("colour = 1", "colour"),
        (
            "vni = 0",
            "\"vni\": 0 is no VXLAN network identifier: write 1",
        ),
        ("vni = \"x\"", "\"vni\": "),
        (
            "bridge = \"a-name-that-is-too-long\"",
            "cannot name a device",
        ),
        (
            "gossip_port = 8472",
            "\"gossip_port\": 8472 is \"vxlan_port\" as well",
        ),
        ("quarantine_seconds = 5", "write 60 or more"),
        (
            "node_prefix_v4 = 12",
            "\"node_prefix_v4\": a share of /12 does not fit 10.32.0.0/16",
        ),
    ];
    for (line, expected) in cases {
        let error = load(&format!("{line}\n{GOOD}")).unwrap_err();
        assert!(error.contains(expected), "{line}: {error}");
    }
    let two = GOOD.replace("[\"192.0.2.1\"]", "[\"192.0.2.1\", \"192.0.2.2\"]");
    assert!(load(&two).unwrap_err().contains("name 1, 3 or 5 nodes"));
    let bits = GOOD.replace("10.32.0.0/16", "10.32.0.1/16");
    assert!(load(&bits).unwrap_err().contains("write 10.32.0.0/16"));
    let weak = GOOD.replace("a secret of enough letters", "weak");
    assert!(load(&weak).unwrap_err().contains("use at least 16"));
}

#[test]
fn a_range_across_the_hosts_own_networks_is_refused() {
    let config = load(GOOD).unwrap();
    let inside = config.check_against(&["10.32.9.9".parse().unwrap()], &[]);
    assert!(
        inside
            .unwrap_err()
            .contains("the node's own address 10.32.9.9")
    );
    let route = config.check_against(
        &[],
        &["0.0.0.0/0".parse().unwrap(), "10.0.0.0/8".parse().unwrap()],
    );
    assert!(route.unwrap_err().contains("overlaps 10.0.0.0/8"));
}

#[test]
fn flags_go_over_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("heddle.toml");
    std::fs::write(&file, GOOD).unwrap();
    let config = Config::load(&file, json!({"node_name": "n2"})).unwrap();
    assert_eq!(config.node_name, "n2");
}

#[test]
fn the_example_holds_the_defaults_and_every_key() {
    let example = include_str!("../../../conf/heddle.toml");
    let config = load(example).unwrap();
    let defaults = Config {
        cluster_cidrs: config.cluster_cidrs.clone(),
        peers: config.peers.clone(),
        keys: config.keys.clone(),
        exposed: config.exposed.clone(),
        ..Config::default()
    };
    assert_eq!(config, defaults);
    let keys = serde_json::to_value(&defaults).unwrap();
    for key in keys.as_object().unwrap().keys() {
        let named = example.lines().any(|line| {
            line.trim_start_matches('#')
                .starts_with(&format!("{key} ="))
        });
        assert!(named, "{key} is missing in conf/heddle.toml");
    }
}
