//! What every plugin does before it looks at its own keys: VERSION, and the refusal of calls that are none.
use anyhow::{Context, ensure};
use lab::{Call, Result};
use serde_json::{Value, json};

use crate::twins::{Twins, VERSIONS, to};

const TYPES: [&str; 4] = ["bridge", "host-local", "static", "loopback"];

/// Heddle knows what the reference knows, and 1.1.0. `cniVersion` of the answer is not compared: the reference says its
/// own newest, Heddle, as the specification has it, the one it was asked in.
pub fn version() -> Result {
    let twins = Twins::new(&[])?;
    for kind in TYPES {
        for stdin in VERSIONS
            .map(|version| json!({"cniVersion": version}).to_string())
            .iter()
            .map(String::as_str)
            .chain(["{}", ""])
        {
            let conf = json!({"type": kind});
            let answers = twins.call("VERSION", &conf, |call| call.stdin(stdin))?;
            let mut known = answers.reference.result()?["supportedVersions"].clone();
            let list = known.as_array_mut().context("no list")?;
            if !list.contains(&json!("1.1.0")) {
                list.push("1.1.0".into());
            }
            ensure!(
                answers.heddle.result()?["supportedVersions"] == known,
                "{kind}, {stdin:?}"
            );
        }
    }
    Ok(())
}

/// Calls that are refused for their outer form, and Heddle's code. An empty `CNI_PATH` is none of them: the
/// specification calls it optional, and Heddle needs it only to find another's IPAM plugin.
pub fn outer_form() -> Result {
    type Change = fn(Call) -> Call;
    let table: [(&str, &str, Change, u64); 15] = [
        ("no container", "ADD", |call| call.id(""), 4),
        ("a container with a slash", "ADD", |call| call.id("a/b"), 4),
        (
            "a container that begins with a dot",
            "ADD",
            |call| call.id(".a"),
            4,
        ),
        ("no netns", "ADD", |call| call.netns(""), 4),
        ("no interface", "ADD", |call| call.ifname(""), 4),
        (
            "a long interface",
            "ADD",
            |call| call.ifname("sixteen-letters0"),
            4,
        ),
        (
            "an interface with a slash",
            "ADD",
            |call| call.ifname("a/b"),
            4,
        ),
        ("an interface called dot", "ADD", |call| call.ifname("."), 4),
        ("a command of one's own", "FETCH", |call| call, 4),
        ("no JSON", "ADD", |call| call.stdin("nonsense"), 6),
        ("nothing", "ADD", |call| call.stdin(""), 6),
        (
            "no name",
            "ADD",
            |call| call.stdin(r#"{"cniVersion": "1.0.0"}"#),
            7,
        ),
        (
            "a bad name",
            "ADD",
            |call| call.stdin(r#"{"cniVersion": "1.0.0", "name": "a b"}"#),
            7,
        ),
        (
            "a version to come",
            "ADD",
            |call| call.stdin(r#"{"cniVersion": "9.0.0", "name": "lab"}"#),
            1,
        ),
        (
            "no version that is one",
            "ADD",
            |call| call.stdin(r#"{"cniVersion": "one", "name": "lab"}"#),
            1,
        ),
    ];
    let twins = Twins::new(&["one"])?;
    for kind in TYPES {
        let conf: Value = json!({"cniVersion": "1.0.0", "name": "lab", "type": kind});
        for (what, command, change, code) in table {
            // Named apart from the configuration, which may be none.
            let answers =
                twins.call(command, &conf, |call| change(to("one")(call)).program(kind))?;
            answers
                .failures(code)
                .with_context(|| format!("{kind}: {what}"))?;
        }
    }
    Ok(())
}
