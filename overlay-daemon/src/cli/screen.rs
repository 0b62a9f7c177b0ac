//! A status for the eye.

use std::fmt::{Display, Write};

use heddle::status::{Peer, Status};
use itertools::Itertools;

use super::text::wrapped;

/// Where pod CIDRs still have room beside the rest of a line.
const WIDE: usize = 66;

/// This node on one screen.
pub fn status(status: &Status) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{}", wrapped(&format!("{name:>10}: "), value));
    };
    line(
        "node",
        &format!("{} (heddle {})", status.node, status.version),
    );
    line("state", if status.ready { "ready" } else { "not ready" });
    line("pod CIDRs", &join(&status.pod_cidrs));
    let underlay = status.underlay.as_deref().unwrap_or("none");
    line(
        "underlay",
        &format!("{underlay}, {}", join(&status.endpoints)),
    );
    line(
        "MTU",
        &status
            .mtu
            .map_or_else(|| "unknown".into(), |mtu| mtu.to_string()),
    );
    line(
        "conflist",
        status.conflist.as_deref().unwrap_or("not in place"),
    );
    line("peers", &count(status));
    if let Some(state) = &status.fast_path {
        let text = match &state.problem {
            Some(why) => format!("none: {why}"),
            None => format!("{} pods", state.links),
        };
        line("fast path", &text);
    }
    line(
        "kernel",
        &format!(
            "{} passes, {} changes since the start",
            status.passes, status.writes
        ),
    );
    for note in &status.notes {
        line("note", note);
    }
    for (reason, count) in &status.drops {
        line(
            "dropped",
            &format!("{count} packets within ten seconds: {reason}"),
        );
    }
    for warning in &status.warnings {
        line("warning", &warning.text);
    }
    for problem in &status.problems {
        line("problem", problem);
    }
    text
}

/// How each peer is reached, in the manner of `weave status connections`.
pub fn peers(status: &Status) -> String {
    let mut rows = vec![
        [
            "PEER",
            "ENDPOINT",
            "STATE",
            "PATH",
            "MTU",
            "RTT",
            "LOSS",
            "NEXT",
            "POD CIDRS",
        ]
        .map(str::to_owned),
    ];
    rows.extend(status.peers.iter().map(|(name, peer)| row(name, peer)));
    let mut text = String::new();
    for cells in &rows {
        let mut line = String::new();
        for (column, cell) in cells[..8].iter().enumerate() {
            let width = rows
                .iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0);
            let _ = write!(line, "{cell:<width$}  ");
        }
        // A name as long as a host's may be makes a line of its own.
        let _ = match line.chars().count() < WIDE {
            true => writeln!(text, "{}", wrapped(&line, &cells[8])),
            false => writeln!(text, "{}\n{}", line.trim_end(), wrapped("    ", &cells[8])),
        };
    }
    for (name, peer) in &status.peers {
        if let Some(reason) = &peer.reason {
            let _ = writeln!(text, "{}", wrapped(&format!("{name}: "), reason));
        }
    }
    text
}

fn row(name: &str, peer: &Peer) -> [String; 9] {
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".into());
    [
        name.to_owned(),
        or_dash(peer.endpoint.map(|endpoint| endpoint.to_string())),
        peer.state.to_string(),
        peer.path.to_string(),
        or_dash(peer.mtu.map(|mtu| mtu.to_string())),
        or_dash(peer.rtt_us.map(|rtt| format!("{rtt}µs"))),
        or_dash(peer.loss_percent.map(|loss| format!("{loss}%"))),
        or_dash(peer.next_probe_s.map(|seconds| format!("{seconds}s"))),
        join(&peer.pod_cidrs),
    ]
}

fn count(status: &Status) -> String {
    let mut states: std::collections::BTreeMap<&str, usize> = std::collections::BTreeMap::new();
    for peer in status.peers.values() {
        *states.entry(&*peer.state).or_default() += 1;
    }
    let each: Vec<String> = states
        .iter()
        .map(|(state, count)| format!("{count} {state}"))
        .collect();
    match each.is_empty() {
        true => "none".into(),
        false => format!("{} ({})", status.peers.len(), each.join(", ")),
    }
}

fn join(values: &[impl Display]) -> String {
    match values.is_empty() {
        true => "none".into(),
        false => values.iter().join(", "),
    }
}
