//! The door, call by call: environment, configuration, versions, errors.
#![allow(clippy::unwrap_used, clippy::panic)]

mod anything;
mod configuration;
mod environment;

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
