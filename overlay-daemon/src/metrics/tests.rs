//! What is printed, documented, drawn and warned of by name is the same.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::*;
use crate::doctor::Verdict;
use crate::events::{Kind, News};
use crate::status::Peer;

/// A node that has something to say of everything.
fn printed() -> String {
    let peer = Peer {
        state: "established".into(),
        path: "vxlan".into(),
        ..Peer::default()
    };
    let status = Status {
        peers: [("n2".to_owned(), peer)].into(),
        fast_path: Some(crate::fast_path::State::default()),
        ..Status::default()
    };
    let report = Report {
        changes: [("route", 1)].into(),
        ..Report::default()
    };
    let events = Events::default();
    events.tell(News {
        kind: Kind::PeerState,
        verdict: Verdict::Good,
        object: "n2".into(),
        text: "established".into(),
        remedy: None,
    });
    let calls = crate::calls::none();
    crate::calls::Counter::new(calls.clone()).count("bridge ADD ok 3000");
    text(&Sources {
        status: &status,
        report: &report,
        probes: &Probes::default(),
        calls: &calls,
        events: &events,
        drops: &Drops {
            all: [(crate::drops::CHECKSUM, 1)].into(),
            ..Drops::default()
        },
        leases: &[],
    })
}

/// Every series' name in a text, as it is queried.
fn names(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("heddle_"))
        .collect()
}

fn series() -> BTreeSet<String> {
    let text = printed();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.flat_map(names).map(str::to_owned).collect()
}

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file)).unwrap()
}

#[test]
fn what_is_drawn_and_warned_of_is_printed() {
    let series = series();
    for file in ["dashboard.json", "alerts.yaml"] {
        let text = read(&format!("conf/monitoring/{file}"));
        let names = names(&text);
        assert!(names.len() > 8, "{file}: {names:?}");
        for name in names {
            assert!(series.contains(name), "{file} names {name}: {series:?}");
        }
    }
}

#[test]
fn what_is_printed_is_documented_and_the_reverse() {
    let text = read("docs/metrics.md");
    let rows = text.lines().filter(|line| line.starts_with("| `heddle_"));
    let documented: BTreeSet<String> = rows
        .filter_map(|row| row.split('`').nth(1))
        .map(str::to_owned)
        .collect();
    // A histogram is three series.
    let parts = ["_bucket", "_sum", "_count"];
    let printed = series().into_iter().map(|name| {
        let part = parts.iter().find_map(|part| name.strip_suffix(part));
        part.map_or_else(|| name.clone(), str::to_owned)
    });
    assert_eq!(documented, printed.collect());
}

#[test]
fn the_dashboard_is_json_and_its_panels_have_their_own_numbers() {
    let text = read("conf/monitoring/dashboard.json");
    let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<u64> = panels
        .iter()
        .map(|one| one["id"].as_u64().unwrap())
        .collect();
    assert_eq!(ids.len(), panels.len());
}
