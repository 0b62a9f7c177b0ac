//! Our reading of the specification against an independent one: the same call to a plugin built on `cni` and to one
//! built on `rscni-plugin`, each in a process of its own, must end the same way. Where they do not, and why not, stands
//! in `known_differences`. Of 0.1.0 and 0.2.0 the other knows nothing.
#![allow(clippy::unwrap_used)]

mod ours;
mod theirs;

use std::env;
use std::io::Write;
use std::process::{Command, ExitCode, Stdio};

use libtest_mimic::{Arguments, Failed, Trial};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value, json};

/// Which plugin this process is; without it, it is the test.
const ROLE: &str = "DIFFERENTIAL_ROLE";

fn main() -> ExitCode {
    match env::var(ROLE).as_deref() {
        Ok("ours") => cni::run(&ours::Echo),
        Ok(_) => theirs::run(),
        Err(_) => {
            let trials = vec![
                Trial::test("results_are_printed_alike", results),
                Trial::test("environments_are_judged_alike", environments),
                Trial::test("configurations_are_judged_alike", configurations),
                Trial::test("errors_are_printed_alike", errors),
                Trial::test("known_differences", known_differences),
            ];
            libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
        }
    }
}

/// How a call ended: whether with success, and the document.
type Outcome = (bool, Value);

fn call(role: &str, vars: &[(&str, &str)], stdin: &str) -> Outcome {
    #[allow(
        clippy::disallowed_methods,
        reason = "each plugin is a process of its own"
    )]
    let mut child = Command::new(env::current_exe().unwrap())
        .env_clear()
        .env(ROLE, role)
        .envs(vars.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Whoever fails by its environment need not read.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let output = child.wait_with_output().unwrap();
    let doc = match output.stdout.as_slice() {
        b"" => Value::Null,
        stdout => serde_json::from_slice(stdout).unwrap(),
    };
    (output.status.success(), doc)
}

fn both(vars: &[(&str, &str)], stdin: &str) -> (Outcome, Outcome) {
    (call("ours", vars, stdin), call("theirs", vars, stdin))
}

const WHOLE: [(&str, &str); 4] = [
    ("CNI_CONTAINERID", "c1"),
    ("CNI_NETNS", "/no/such/netns"),
    ("CNI_IFNAME", "eth0"),
    ("CNI_PATH", "/opt/cni/bin"),
];

fn with_command(command: &'static str) -> Vec<(&'static str, &'static str)> {
    let mut vars = WHOLE.to_vec();
    vars.push(("CNI_COMMAND", command));
    vars
}

const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
const COMMANDS: [&str; 5] = ["ADD", "DEL", "CHECK", "GC", "STATUS"];

/// Both succeed, or both fail with the same code.
fn same_end(vars: &[(&str, &str)], stdin: &str) -> Result<(), Failed> {
    let (ours, theirs) = both(vars, stdin);
    if ours.0 == theirs.0 && ours.1["code"] == theirs.1["code"] {
        return Ok(());
    }
    Err(format!("{vars:?} {stdin}\n  ours:   {ours:?}\n  theirs: {theirs:?}").into())
}

fn address() -> impl Strategy<Value = String> {
    prop_oneof![
        (any::<[u8; 4]>(), 0..=32).prop_map(|([a, b, c, d], len)| format!("{a}.{b}.{c}.{d}/{len}")),
        (1..=0xffff, 0..=128).prop_map(|(host, len)| format!("fd00::{host:x}/{len}")),
    ]
}

/// The address without its prefix length.
fn host(cidr: &str) -> &str {
    cidr.split('/').next().unwrap_or_default()
}

fn put(object: &mut Map<String, Value>, key: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        object.insert(key.into(), value.into());
    }
}

prop_compose! {
    fn interface()(
        name in "[a-z0-9]{1,15}",
        mac in prop::option::of("02(:[0-9a-f]{2}){5}"),
        mtu in prop::option::of(68..9000u32),
        sandbox in prop::option::of("/run/netns/[a-z]{1,8}"),
        socket in prop::option::of("/run/[a-z]{1,8}"),
        pci in prop::option::of("0000:00:[01][0-9a-f]\\.[0-7]"),
    ) -> Value {
        let mut object = Map::new();
        put(&mut object, "name", Some(name));
        put(&mut object, "mac", mac);
        put(&mut object, "mtu", mtu);
        put(&mut object, "sandbox", sandbox);
        put(&mut object, "socketPath", socket);
        put(&mut object, "pciID", pci);
        object.into()
    }
}

prop_compose! {
    fn route()(
        dst in address(),
        gw in prop::option::of(address()),
        numbers in prop::array::uniform4(prop::option::of(any::<u32>())),
        scope in prop::option::of(any::<u8>()),
    ) -> Value {
        let mut object = Map::new();
        put(&mut object, "dst", Some(dst));
        put(&mut object, "gw", gw.as_deref().map(host));
        for (key, number) in ["mtu", "advmss", "priority", "table"].into_iter().zip(numbers) {
            put(&mut object, key, number);
        }
        put(&mut object, "scope", scope);
        object.into()
    }
}

prop_compose! {
    fn result()(
        interfaces in prop::collection::vec(interface(), 0..4),
        ips in prop::collection::vec((address(), prop::option::of(any::<prop::sample::Index>()), any::<bool>()), 0..4),
        routes in prop::collection::vec(route(), 0..4),
        nameservers in prop::collection::vec(address(), 0..3),
        domain in prop::option::of("[a-z]{1,8}"),
    ) -> Value {
        let ips: Vec<Value> = ips.into_iter().map(|(address, index, gateway)| {
            let mut object = Map::new();
            put(&mut object, "address", Some(address.as_str()));
            put(&mut object, "gateway", gateway.then(|| host(&address)));
            let index = index.filter(|_| !interfaces.is_empty());
            put(&mut object, "interface", index.map(|i| i.index(interfaces.len())));
            object.into()
        }).collect();
        let nameservers: Vec<_> = nameservers.iter().map(|a| host(a)).collect();
        let mut dns = json!({"nameservers": nameservers});
        if let Some(domain) = domain {
            dns["domain"] = domain.into();
        }
        json!({"interfaces": interfaces, "ips": ips, "routes": routes, "dns": dns})
    }
}

fn results() -> Result<(), Failed> {
    let mut runner = TestRunner::new(Config {
        cases: 60,
        failure_persistence: None,
        ..Config::default()
    });
    let run = runner.run(&result(), |give| {
        for version in VERSIONS {
            let stdin = json!({"cniVersion": version, "name": "net", "type": "echo", "give": give});
            let (ours, theirs) = both(&with_command("ADD"), &stdin.to_string());
            prop_assert!(ours.0, "{:?}", ours);
            prop_assert_eq!(ours, theirs, "{}", version);
        }
        Ok(())
    });
    run.map_err(|e| e.to_string().into())
}

fn environments() -> Result<(), Failed> {
    let conf = json!({"cniVersion": "1.1.0", "name": "net", "type": "echo"}).to_string();
    for command in COMMANDS.into_iter().chain(["add", "NONSENSE"]) {
        let whole = with_command(command);
        same_end(&whole, &conf)?;
        for (var, bad) in [
            ("CNI_CONTAINERID", &["", "a/b", "-a", "é", "A_1.b-c"][..]),
            ("CNI_NETNS", &["", "relative"]),
            (
                "CNI_IFNAME",
                &[
                    "",
                    "sixteen-bytes-ab",
                    "fifteen-bytes-a",
                    ".",
                    "..",
                    "a/b",
                    "a:b",
                    "a b",
                    "a\u{a0}b",
                ],
            ),
            ("CNI_ARGS", &["", "none", "A=B"]),
            ("CNI_NETNS_OVERRIDE", &["", "1"]),
        ] {
            let without: Vec<_> = whole
                .iter()
                .copied()
                .filter(|(name, _)| *name != var)
                .collect();
            same_end(&without, &conf)?;
            for value in bad {
                let mut vars = without.clone();
                vars.push((var, value));
                same_end(&vars, &conf)?;
            }
        }
        same_end(&[("CNI_COMMAND", command), ("CNI_PATH", "/x")], &conf)?;
    }
    let (ours, theirs) = both(&[("CNI_COMMAND", "VERSION")], "");
    if ours != theirs {
        return Err(format!("VERSION\n  ours:   {ours:?}\n  theirs: {theirs:?}").into());
    }
    Ok(())
}

fn configurations() -> Result<(), Failed> {
    let versions = [
        "", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0", "0.5.0", "1.2.0", "9.9.9",
    ];
    for command in COMMANDS {
        let vars = with_command(command);
        for version in versions {
            let conf = json!({"cniVersion": version, "name": "net", "type": "echo"});
            same_end(&vars, &conf.to_string())?;
        }
        for conf in [
            "",
            "{",
            "[1]",
            "{} {}",
            r#"{"type": "echo"}"#,
            r#"{"type": "echo", "name": ""}"#,
            r#"{"type": "echo", "name": null}"#,
            r#"{"type": "echo", "name": "a/b"}"#,
            r#"{"type": "echo", "name": "-a"}"#,
            r#"{"type": "echo", "name": "A.b_c-1", "cniVersion": "1.1.0"}"#,
            r#"{"type": "echo", "name": "n", "cniVersion": "1.1.0", "prevResult": null, "dns": null, "x": [null]}"#,
        ] {
            same_end(&vars, conf)?;
        }
    }
    Ok(())
}

fn errors() -> Result<(), Failed> {
    for command in ["ADD", "DEL", "CHECK", "GC", "STATUS"] {
        for fail in [
            json!([117, "msg", "details"]),
            json!([999, "msg", "details"]),
        ] {
            let conf = json!({"cniVersion": "1.1.0", "name": "net", "type": "echo", "fail": fail,
                "cni.dev/valid-attachments": []});
            let (ours, theirs) = both(&with_command(command), &conf.to_string());
            if ours != theirs || ours.0 {
                return Err(
                    format!("{command} {fail}\n  ours:   {ours:?}\n  theirs: {theirs:?}").into(),
                );
            }
        }
    }
    Ok(())
}

/// The code with which a call ends, 0 for success.
fn code((success, doc): &Outcome) -> u64 {
    doc["code"].as_u64().filter(|_| !success).unwrap_or(0)
}

fn known_differences() -> Result<(), Failed> {
    for (why, stdin, ours, theirs) in [
        (
            "the reference matches keys without regard to case",
            r#"{"CNIVersion": "1.1.0", "Name": "net", "type": "echo"}"#,
            0,
            7,
        ),
        (
            "the reference does not look at the type",
            r#"{"cniVersion": "1.1.0", "name": "net"}"#,
            0,
            6,
        ),
        (
            "a wrong value in good JSON is an invalid configuration, not a failure to decode",
            r#"{"cniVersion": "1.1.0", "name": 5, "type": "echo"}"#,
            7,
            6,
        ),
    ] {
        let found = both(&with_command("ADD"), stdin);
        if (code(&found.0), code(&found.1)) != (ours, theirs) {
            return Err(format!("{why}: {found:?}").into());
        }
    }
    Ok(())
}
