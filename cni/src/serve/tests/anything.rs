//! Any environment with anything on stdin: one document, no panic.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use proptest::prelude::*;
use serde_json::Value;

use super::Puppet;
use crate::{Env, Version, serve};

/// Something for a variable: often right, sometimes absent, sometimes anything.
fn variable(right: &'static [&'static str]) -> impl Strategy<Value = Option<OsString>> {
    prop_oneof![
        6 => prop::sample::select(right).prop_map(|v| Some(v.into())),
        1 => Just(None),
        1 => prop::collection::vec(any::<u8>(), 0..24).prop_map(|v| Some(OsString::from_vec(v))),
    ]
}

prop_compose! {
    fn any_environment()(
        command in variable(&["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"]),
        container_id in variable(&["c1", "A_b.c-d"]),
        netns in variable(&["/no/such/netns", "/proc/self/ns/net", ""]),
        ifname in variable(&["eth0", "lo"]),
        args in variable(&["", "IP=10.0.0.1", "IgnoreUnknown=1;K=V"]),
        path in variable(&["/opt/cni/bin", ":"]),
        netns_override in variable(&["1", "false"]),
    ) -> Env {
        Env { command, container_id, netns, ifname, args, path, netns_override }
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(&["", "1.1.0", "0.2.0", "10.0.0.1/8", "net", "a/b"][..])
            .prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((any_key(), inner), 0..6)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

fn any_key() -> impl Strategy<Value = String> {
    let known = &[
        "cniVersion",
        "name",
        "type",
        "prevResult",
        "Name",
        "CNIVERSION",
        "ips",
        "address",
        "interface",
        "ip4",
        "ip",
        "cni.dev/valid-attachments",
        "cni.dev/attachments",
        "containerID",
        "ifname",
        "dns",
        "routes",
        "dst",
    ][..];
    prop_oneof![4 => prop::sample::select(known).prop_map(str::to_owned), 1 => any::<String>()]
}

fn any_stdin() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 0..64),
        2 => any_json().prop_map(|v| v.to_string().into_bytes()),
        5 => (any_json(), prop::sample::select(Version::ALL)).prop_map(|(mut v, version)| {
            if let Some(object) = v.as_object_mut() {
                object.insert("name".into(), "net".into());
                object.insert("cniVersion".into(), version.as_str().into());
            }
            v.to_string().into_bytes()
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever comes, exactly one JSON document with a version leaves; nothing at all only after a success that has
    /// nothing to say, or when nobody asked.
    #[test]
    fn one_document_whatever_comes(env in any_environment(), stdin in any_stdin()) {
        let reply = serve(&Puppet::default(), &env, &stdin);
        if reply.stdout.is_empty() {
            let command = env.command.unwrap_or_default();
            let silent = ["", "DEL", "CHECK", "GC", "STATUS"];
            prop_assert!(reply.success && silent.iter().any(|s| command == *s), "{command:?}");
        } else {
            let documents: Vec<Value> = serde_json::Deserializer::from_slice(&reply.stdout)
                .into_iter()
                .collect::<std::result::Result<_, _>>()
                .unwrap();
            prop_assert_eq!(documents.len(), 1);
            let doc = documents[0].as_object().unwrap();
            prop_assert!(doc["cniVersion"].as_str().unwrap().parse::<Version>().is_ok());
            prop_assert_eq!(doc.contains_key("code"), !reply.success);
            if !reply.success {
                prop_assert!(!doc["msg"].as_str().unwrap().is_empty());
            }
        }
    }
}
