//! A node that changes over: the reference's `host-local` (Go) and ours, interleaved at random on one directory.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod common;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use common::{Leases, Outcome, addresses, call};
use libtest_mimic::{Arguments, Trial};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

fn main() -> ExitCode {
    let directory = std::env::var_os("CNI_REFERENCE_DIR").unwrap_or_else(|| "/usr/lib/cni".into());
    let reference = PathBuf::from(directory).join("host-local");
    let missing = !reference.is_file();
    if missing {
        println!(
            "skipped: both work on one directory: no reference plugin {}",
            reference.display()
        );
    }
    let mixed = move || {
        both(&reference);
        Ok(())
    };
    let trials = vec![
        Trial::test("both work on one directory", mixed).with_ignored_flag(missing),
        Trial::test("ours agrees with a model", || {
            model();
            Ok(())
        }),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// One call: of which implementation, what, for which container.
#[derive(Clone, Copy, Debug)]
struct Step {
    theirs: bool,
    add: bool,
    container: u8,
}

fn steps(theirs: bool, count: usize) -> impl Strategy<Value = Vec<Step>> {
    let step =
        (any::<bool>(), any::<bool>(), 0..14_u8).prop_map(move |(go, add, container)| Step {
            theirs: theirs && go,
            add,
            container,
        });
    prop::collection::vec(step, count)
}

/// Ten addresses for fourteen containers: exhausted at times.
fn conf(leases: &Leases) -> Value {
    let mut conf =
        leases.conf(json!({"ranges": [[{"subnet": "10.0.0.0/28", "rangeEnd": "10.0.0.11"}]]}));
    conf["cniVersion"] = "1.0.0".into();
    conf
}

fn both(reference: &Path) {
    let config = Config {
        cases: 25,
        failure_persistence: None,
        ..Config::default()
    };
    let run = |steps: Vec<Step>| {
        follow(&steps, |step, verb, id, conf| match step.theirs {
            true => go(reference, verb, id, conf),
            false => call(verb, id, conf),
        });
        Ok(())
    };
    TestRunner::new(config).run(&steps(true, 60), run).unwrap();
}

fn model() {
    let config = Config {
        cases: 200,
        failure_persistence: None,
        ..Config::default()
    };
    let run = |steps: Vec<Step>| {
        follow(&steps, |_, verb, id, conf| call(verb, id, conf));
        Ok(())
    };
    TestRunner::new(config).run(&steps(false, 80), run).unwrap();
}

/// Makes the calls and holds their outcomes, and the directory, against the simplest model: who has what.
fn follow(steps: &[Step], mut make: impl FnMut(Step, &str, &str, &Value) -> Outcome) {
    let leases = Leases::new();
    let conf = conf(&leases);
    let mut held: BTreeMap<u8, String> = BTreeMap::new();
    for step in steps {
        let id = format!("k{}", step.container);
        if step.add {
            let outcome = make(*step, "ADD", &id, &conf);
            let expected = !held.contains_key(&step.container) && held.len() < 10;
            assert_eq!(
                outcome.is_ok(),
                expected,
                "{step:?} with {held:?}: {outcome:?}"
            );
            if expected {
                let address = addresses(&outcome).remove(0);
                assert!(
                    held.values().all(|other| *other != address),
                    "{address} was given out twice"
                );
                held.insert(step.container, address);
            }
        } else {
            make(*step, "DEL", &id, &conf).unwrap();
            held.remove(&step.container);
        }
        let mut expected: Vec<&String> = held.values().collect();
        expected.sort();
        assert_eq!(
            leases.names().iter().collect::<Vec<_>>(),
            expected,
            "after {step:?}"
        );
    }
    for (container, _) in held {
        let step = Step {
            theirs: container % 2 == 0 && steps.iter().any(|step| step.theirs),
            add: false,
            container,
        };
        make(step, "DEL", &format!("k{container}"), &conf).unwrap();
    }
    assert_eq!(leases.names(), [""; 0]);
}

fn go(program: &Path, verb: &str, id: &str, conf: &Value) -> Outcome {
    #[allow(
        clippy::disallowed_methods,
        reason = "the reference is a program of somebody else's"
    )]
    let mut child = Command::new(program)
        .env_clear()
        .envs([
            ("CNI_COMMAND", verb),
            ("CNI_CONTAINERID", id),
            ("CNI_IFNAME", "eth0"),
        ])
        .envs([
            ("CNI_NETNS", "/run/netns/none"),
            ("CNI_PATH", "/opt/cni/bin"),
            ("CNI_ARGS", ""),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(conf.to_string().as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    match output.status.success() {
        true => Ok(document),
        false => Err((
            document["code"].as_u64().unwrap_or(0),
            document["msg"].to_string(),
        )),
    }
}
