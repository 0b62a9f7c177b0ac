//! The door, call by call: environment, configuration, versions, errors.
#![allow(clippy::unwrap_used, clippy::panic)]

mod anything;

use std::cell::RefCell;
use std::ffi::OsString;

use serde_json::{Value, json};

use super::*;
use crate::{Attachment, Interface, IpConfig, parse_cidr};

/// Gives back what it is told to and remembers what it was called for.
struct Puppet {
    versions: &'static [Version],
    result: Result<AddResult>,
    calls: RefCell<Vec<Call>>,
}

impl Default for Puppet {
    fn default() -> Self {
        Puppet {
            versions: Version::ALL,
            result: Ok(AddResult {
                ips: vec![IpConfig {
                    interface: None,
                    address: parse_cidr("10.0.0.2/24").unwrap(),
                    gateway: None,
                }],
                ..AddResult::default()
            }),
            calls: RefCell::default(),
        }
    }
}

impl Puppet {
    fn note(&self, call: &Call) -> Result<()> {
        self.calls.borrow_mut().push(call.clone());
        match call.conf.raw().get("panic") {
            Some(_) => panic!("puppet's strings are cut"),
            None => self.result.clone().map(drop),
        }
    }

    fn serve(&self, env: &[(&str, &str)], stdin: &str) -> (bool, Value) {
        let reply = serve(self, &environment(env), stdin.as_bytes());
        assert_eq!(reply.stderr, "");
        let doc = match reply.stdout.as_slice() {
            b"" => Value::Null,
            stdout => serde_json::from_slice(stdout).unwrap(),
        };
        (reply.success, doc)
    }

    fn only_call(&self) -> Call {
        let calls = self.calls.borrow();
        assert_eq!(calls.len(), 1);
        calls[0].clone()
    }
}

impl Plugin for Puppet {
    fn about(&self) -> &'static str {
        "CNI puppet"
    }
    fn versions(&self) -> &'static [Version] {
        self.versions
    }
    fn add(&self, call: &Call) -> Result<AddResult> {
        self.note(call)?;
        self.result.clone()
    }
    fn del(&self, call: &Call) -> Result<()> {
        self.note(call)
    }
    fn check(&self, call: &Call) -> Result<()> {
        self.note(call)
    }
    fn gc(&self, call: &Call) -> Result<()> {
        self.note(call)
    }
    fn status(&self, call: &Call) -> Result<()> {
        self.note(call)
    }
}

fn environment(vars: &[(&str, &str)]) -> Env {
    let get = |name: &str| {
        vars.iter()
            .rfind(|(n, _)| *n == name)
            .map(|(_, v)| OsString::from(v))
    };
    Env {
        command: get("COMMAND"),
        container_id: get("CONTAINERID"),
        netns: get("NETNS"),
        ifname: get("IFNAME"),
        args: get("ARGS"),
        path: get("PATH"),
        netns_override: get("NETNS_OVERRIDE"),
    }
}

/// A whole environment for `command`, with `more` on top.
fn with<'a>(command: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut env = vec![
        ("COMMAND", command),
        ("CONTAINERID", "c1"),
        ("NETNS", "/no/such/netns"),
        ("IFNAME", "eth0"),
        ("PATH", "/opt/cni/bin:/usr/lib/cni"),
    ];
    env.extend(more);
    env
}

fn error_of(env: &[(&str, &str)], stdin: &str) -> (u64, String) {
    let puppet = Puppet::default();
    let (success, doc) = puppet.serve(env, stdin);
    assert!(!success, "{env:?} {stdin} succeeded with {doc}");
    assert!(puppet.calls.borrow().is_empty(), "the plugin was called");
    (
        doc["code"].as_u64().unwrap(),
        doc["msg"].as_str().unwrap().to_owned(),
    )
}

const CONF: &str = r#"{"cniVersion": "1.1.0", "name": "net", "type": "puppet"}"#;

#[test]
fn a_call_arrives_whole() {
    let puppet = Puppet::default();
    let stdin = r#"{"CNIVersion": "1.0.0", "NAME": "net", "Type": "puppet", "mine": {"A": 1},
        "prevResult": {"cniVersion": "0.2.0", "ip4": {"ip": "10.0.0.2/24"}}}"#;
    let env = with("ADD", &[("ARGS", "none"), ("NETNS_OVERRIDE", "True")]);
    let (success, doc) = puppet.serve(&env, stdin);
    assert!(success);
    assert_eq!(
        doc,
        json!({"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.2/24"}]})
    );

    let call = puppet.only_call();
    assert_eq!(call.command, Command::Add);
    assert_eq!(
        call.attachment,
        Attachment {
            container_id: "c1".into(),
            ifname: "eth0".into()
        }
    );
    assert_eq!(call.netns.unwrap().to_str(), Some("/no/such/netns"));
    assert_eq!(call.args.raw(), "none");
    assert_eq!(call.path.len(), 2);
    assert!(call.netns_override);
    assert_eq!(call.conf.version, Version::V1_0_0);
    assert_eq!(
        (call.conf.name.as_str(), call.conf.plugin_type.as_str()),
        ("net", "puppet")
    );
    assert_eq!(call.conf.prev_result, Some(puppet.result.unwrap()));
    assert_eq!(call.conf.raw()["mine"], json!({"A": 1}));
}

#[test]
fn the_result_leaves_in_the_version_of_the_configuration() {
    for version in Version::ALL.iter().map(|v| v.as_str()).chain([""]) {
        let stdin = json!({"cniVersion": version, "name": "net"}).to_string();
        let (success, doc) = Puppet::default().serve(&with("ADD", &[]), &stdin);
        assert!(success, "{version}: {doc}");
        let spoken = if version.is_empty() { "0.1.0" } else { version };
        assert_eq!(doc["cniVersion"], spoken);
        assert_eq!(doc.get("ip4").is_some(), spoken < "0.3.0");
    }
}

#[test]
fn missing_variables_are_told_together() {
    for (command, set, missing) in [
        ("ADD", &[][..], "CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME"),
        ("CHECK", &[], "CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME"),
        ("DEL", &[], "CNI_CONTAINERID,CNI_IFNAME"),
        ("ADD", &[("CONTAINERID", "a"), ("IFNAME", "b")], "CNI_NETNS"),
        (
            "DEL",
            &[("NETNS", "/x"), ("IFNAME", "")],
            "CNI_CONTAINERID,CNI_IFNAME",
        ),
    ] {
        let mut env = vec![("COMMAND", command)];
        env.extend(set);
        let msg = format!("required env variables [{missing}] missing");
        assert_eq!(error_of(&env, "not even JSON"), (4, msg));
    }
}

#[test]
fn bad_variables_are_code_4_for_del_too() {
    for command in ["ADD", "DEL", "CHECK"] {
        for (var, value, msg) in [
            ("CONTAINERID", "../etc", "invalid characters in containerID"),
            ("CONTAINERID", "-a", "invalid characters in containerID"),
            ("IFNAME", "sixteen-bytes-ab", "interface name is too long"),
            (
                "IFNAME",
                "a/b",
                "interface name contains / or : or whitespace characters",
            ),
        ] {
            assert_eq!(
                error_of(&with(command, &[(var, value)]), CONF),
                (4, msg.into())
            );
        }
    }
    assert_eq!(
        error_of(&with("add", &[]), CONF),
        (4, "unknown CNI_COMMAND: add".into())
    );
}

#[test]
fn gc_and_status_see_no_attachment() {
    for command in ["GC", "STATUS"] {
        let puppet = Puppet::default();
        let stdin = r#"{"cniVersion": "1.1.0", "name": "net", "cni.dev/valid-attachments": []}"#;
        let env = with(command, &[("CONTAINERID", "../bad"), ("IFNAME", "a/b")]);
        assert_eq!(puppet.serve(&env, stdin), (true, Value::Null));
        let call = puppet.only_call();
        assert_eq!((call.attachment, call.netns), (Attachment::default(), None));
    }
}

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

#[test]
fn the_plugins_own_netns_is_refused_before_anything_is_done() {
    let own = &[("NETNS", "/proc/thread-self/ns/net")][..];
    for command in ["ADD", "DEL"] {
        let msg = "plugin's netns and netns from CNI_NETNS should not be the same";
        assert_eq!(error_of(&with(command, own), CONF), (8, msg.into()));
        for meant in ["1", "true", "TRUE"] {
            let env = with(command, &[own[0], ("NETNS_OVERRIDE", meant)]);
            assert!(Puppet::default().serve(&env, CONF).0);
        }
    }
    assert!(Puppet::default().serve(&with("CHECK", own), CONF).0);
}

#[test]
fn version_needs_nothing() {
    let all = json!([
        "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"
    ]);
    for (stdin, version) in [
        ("", "1.1.0"),
        ("garbage", "1.1.0"),
        ("{}", "1.1.0"),
        (r#"{"cniVersion": "0.2.0"}"#, "0.2.0"),
        (r#"{"cniVersion": "9.0.0"}"#, "1.1.0"),
    ] {
        let answer = json!({"cniVersion": version, "supportedVersions": all});
        assert_eq!(
            Puppet::default().serve(&[("COMMAND", "VERSION")], stdin),
            (true, answer)
        );
    }
}

#[test]
fn without_a_command_a_person_gets_words() {
    for env in [&[][..], &[("COMMAND", "")]] {
        let reply = serve(&Puppet::default(), &environment(env), b"");
        assert_eq!(
            reply.stderr,
            "CNI puppet\nCNI protocol versions supported: 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0\n"
        );
        assert!(reply.success && reply.stdout.is_empty());
    }
}

#[test]
fn errors_of_the_plugin_leave_as_they_are() {
    for code in [1, 2, 3, 4, 5, 6, 7, 8, 11, 50, 51, 999, 117] {
        for command in ["ADD", "DEL", "CHECK", "STATUS"] {
            let error = Error::new(Code::from(code), "no").details("really");
            let puppet = Puppet {
                result: Err(error),
                ..Puppet::default()
            };
            let (success, doc) = puppet.serve(&with(command, &[]), CONF);
            assert!(!success);
            assert_eq!(
                doc,
                json!({"cniVersion": "1.1.0", "code": code, "msg": "no", "details": "really"})
            );
        }
    }
}

#[test]
fn a_result_that_cannot_be_said_is_undone() {
    let l2 = AddResult {
        interfaces: vec![Interface {
            name: "eth0".into(),
            ..Interface::default()
        }],
        ..AddResult::default()
    };
    let puppet = Puppet {
        result: Ok(l2),
        ..Puppet::default()
    };
    let (success, doc) = puppet.serve(
        &with("ADD", &[]),
        r#"{"cniVersion": "0.2.0", "name": "net"}"#,
    );
    assert!(!success);
    assert_eq!(doc["code"], 999);
    assert_eq!(doc["msg"], "cannot convert: no valid IP addresses");
    assert_eq!(
        puppet.calls.borrow().len(),
        2,
        "ADD and the DEL that undoes it"
    );
}

#[test]
fn a_panic_is_an_error_like_any_other() {
    let stdin = r#"{"cniVersion": "1.1.0", "name": "net", "panic": true}"#;
    let (success, doc) = Puppet::default().serve(&with("ADD", &[]), stdin);
    assert!(!success);
    assert_eq!(doc["code"], 999);
    assert_eq!(
        doc["msg"],
        "internal error: panicked: puppet's strings are cut"
    );
}
