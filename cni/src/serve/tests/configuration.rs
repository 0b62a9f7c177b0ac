//! The configuration at the door: versions, names, `prevResult`, valid attachments.

use super::*;

#[test]
fn del_needs_neither_netns_nor_a_usable_prev_result() {
    for prev in [
        r#"null"#,
        r#""x""#,
        r#"{"cniVersion": "7.0.0"}"#,
        r#"{"ips": [{"address": 1}]}"#,
    ] {
        let stdin = format!(r#"{{"cniVersion": "1.0.0", "name": "net", "prevResult": {prev}}}"#);
        let puppet = Puppet::default();
        assert_eq!(
            puppet.serve(&with("DEL", &[("NETNS", "")]), &stdin),
            (true, Value::Null)
        );
        let call = puppet.only_call();
        assert_eq!((call.netns, call.conf.prev_result), (None, None));
        if prev != "null" {
            let (code, msg) = error_of(&with("ADD", &[]), &stdin);
            assert_eq!(code, 7);
            assert!(msg.starts_with("could not parse prevResult: "), "{msg}");
            assert_eq!(error_of(&with("CHECK", &[]), &stdin).0, 7);
        }
    }
}

#[test]
fn valid_attachments_have_two_names_and_absent_is_not_empty() {
    let list = r#"[{"containerID": "c1", "ifname": "eth0"}]"#;
    for (keys, expected) in [
        (format!(r#""cni.dev/valid-attachments": {list}"#), Some(1)),
        (format!(r#""cni.dev/attachments": {list}"#), Some(1)),
        (
            format!(r#""cni.dev/valid-attachments": [], "cni.dev/attachments": {list}"#),
            Some(0),
        ),
        (r#""cni.dev/attachments": null"#.to_owned(), None),
        (r#""x": 1"#.to_owned(), None),
    ] {
        let puppet = Puppet::default();
        let stdin = format!(r#"{{"cniVersion": "1.1.0", "name": "net", {keys}}}"#);
        assert_eq!(puppet.serve(&with("GC", &[]), &stdin), (true, Value::Null));
        let calls = puppet.calls.borrow();
        let valid = calls
            .first()
            .map(|c| c.conf.valid_attachments.as_ref().unwrap().len());
        assert_eq!(valid, expected, "{keys}");
    }
    let stdin =
        r#"{"cniVersion": "1.1.0", "name": "net", "cni.dev/attachments": [{"ifname": "eth0"}]}"#;
    assert_eq!(
        error_of(&with("GC", &[]), stdin),
        (
            7,
            r#"missing key "cni.dev/attachments[0].containerID""#.into()
        )
    );
}

#[test]
fn commands_have_their_oldest_version() {
    for (command, oldest) in [
        ("ADD", Version::V0_1_0),
        ("DEL", Version::V0_1_0),
        ("CHECK", Version::V0_4_0),
        ("GC", Version::V1_1_0),
        ("STATUS", Version::V1_1_0),
    ] {
        for version in Version::ALL {
            let stdin = json!({"cniVersion": version.as_str(), "name": "net"}).to_string();
            if *version >= oldest {
                assert!(Puppet::default().serve(&with(command, &[]), &stdin).0);
            } else {
                let msg = format!("config version does not allow {command}");
                assert_eq!(error_of(&with(command, &[]), &stdin), (1, msg));
            }
        }
    }
}

#[test]
fn versions_that_are_not_spoken() {
    for version in ["9.9.9", "1.0", "1.0.0 ", "v1.0.0", "0.5.0"] {
        for command in ["ADD", "DEL", "CHECK", "GC", "STATUS"] {
            let stdin = json!({"cniVersion": version, "name": "net"}).to_string();
            assert_eq!(
                error_of(&with(command, &[]), &stdin),
                (1, "incompatible CNI versions".into())
            );
        }
    }
    let puppet = Puppet {
        versions: &[Version::V0_4_0, Version::V1_0_0],
        ..Puppet::default()
    };
    let (_, doc) = puppet.serve(
        &with("ADD", &[]),
        r#"{"cniVersion": "0.3.1", "name": "net"}"#,
    );
    assert_eq!(
        doc,
        json!({"cniVersion": "0.3.1", "code": 1, "msg": "incompatible CNI versions",
            "details": r#"config is "0.3.1", plugin supports ["0.4.0" "1.0.0"]"#})
    );
}

#[test]
fn bad_configurations() {
    for (stdin, code, start) in [
        ("", 6, "error unmarshall network config: "),
        ("{", 6, "error unmarshall network config: "),
        ("{} {}", 6, "error unmarshall network config: "),
        (
            "[]",
            6,
            "error unmarshall network config: expected a JSON object",
        ),
        ("null", 7, "missing network name"),
        ("{}", 7, "missing network name"),
        (r#"{"name": ""}"#, 7, "missing network name"),
        (
            r#"{"name": "a/b"}"#,
            7,
            "invalid characters found in network name",
        ),
        (
            r#"{"name": 5}"#,
            7,
            r#"invalid value 5 for key "name": expected a string"#,
        ),
        (
            r#"{"name": "a", "cniVersion": 1}"#,
            7,
            r#"invalid value 1 for key "cniVersion": expected a string"#,
        ),
        (
            r#"{"name": "a", "type": {}}"#,
            7,
            r#"invalid value {} for key "type": expected a string"#,
        ),
    ] {
        for command in ["ADD", "DEL"] {
            let (found, msg) = error_of(&with(command, &[]), stdin);
            assert_eq!(found, code, "{stdin}: {msg}");
            assert!(msg.starts_with(start), "{stdin}: {msg}");
        }
    }
}
