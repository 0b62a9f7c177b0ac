//! What a run leaves: the table, `latest.json`, the plots, and the page that says how and on what it was measured.
use std::fmt::Write;
use std::fs;
use std::path::Path;

use lab::report::Table;
use lab::{Result, find};

use crate::picture;
use crate::row::{Findings, Row};
use crate::side::said;

const HEADER: [&str; 9] = [
    "what",
    "unit",
    "ours",
    "peer",
    "peer's name",
    "× better",
    "floor",
    "÷ floor",
    "runs",
];

/// The rows for a terminal.
pub fn table(findings: &Findings) -> Table {
    let mut table = Table::new(&HEADER);
    for row in &findings.rows {
        table.row(cells(row));
    }
    table
}

fn cells(row: &Row) -> [String; 9] {
    let maybe = |value: Option<f64>| value.map(figure).unwrap_or_default();
    let ratio = |value: Option<f64>| value.map(|value| format!("{value:.2}")).unwrap_or_default();
    [
        row.what.clone(),
        row.unit.to_owned(),
        figure(row.ours),
        maybe(row.peer),
        row.peer_name.clone().unwrap_or_default(),
        ratio(row.ratio_peer),
        maybe(row.floor),
        ratio(row.ratio_floor),
        row.runs.to_string(),
    ]
}

/// Three places, or all before the point.
fn figure(value: f64) -> String {
    match value.abs() {
        _ if value == value.trunc() => format!("{value:.0}"),
        100.0.. => format!("{value:.0}"),
        10.0..100.0 => format!("{value:.1}"),
        1.0..10.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// Writes everything to `docs/benchmarks`.
pub fn keep(findings: &Findings) -> Result {
    let dir = find::workspace().join("docs/benchmarks");
    fs::create_dir_all(&dir)?;
    // First, because what is written here makes the checkout differ from its commit.
    let page = page(findings)?;
    let json = serde_json::to_string_pretty(&findings.rows)?;
    fs::write(dir.join("latest.json"), json + "\n")?;
    for plot in &findings.plots {
        picture::draw(plot, &dir.join(format!("{}.svg", plot.file)))?;
    }
    Ok(fs::write(dir.join("README.md"), page)?)
}

fn page(findings: &Findings) -> Result<String> {
    let mut page = "# Benchmarks\n\nWritten by `make bench`; the figures are also in [latest.json](latest.json), and \
        [performance.md](../performance.md) says what\nthey mean.\n\n## Machine and versions\n\n| | |\n|---|---|\n"
        .to_owned();
    for (what, value) in machine() {
        writeln!(page, "| {what} | {value} |")?;
    }
    page += "\n## Method\n\n\
        Everybody does the same thing in turn, round by round, in one run, each on a virtual node of its own, so that what\n\
        else the machine does hits all alike. A time is the median from before the fork to after the exit unless it says\n\
        otherwise. The floor is the same objects by bare netlink messages in a loop: no process, no JSON, no lease. Absolute\n\
        times belong to this machine; the ratios are the result. \"× better\": the peer's time ÷ ours, or our rate ÷ the\n\
        peer's; \"÷ floor\": what ours costs in floors.\n";
    if !findings.skipped.is_empty() {
        page += "\n## Not measured\n\n";
        for skipped in &findings.skipped {
            writeln!(page, "- {skipped}")?;
        }
    }
    writeln!(
        page,
        "\n## Figures\n\n| {} |\n|{}",
        HEADER.join(" | "),
        "---|".repeat(HEADER.len())
    )?;
    for row in &findings.rows {
        writeln!(page, "| {} |", cells(row).join(" | "))?;
    }
    page += "\n## Plots\n";
    for plot in &findings.plots {
        writeln!(page, "\n![{}]({}.svg)", plot.title, plot.file)?;
    }
    Ok(page)
}

/// What the figures were measured on.
fn machine() -> Vec<(&'static str, String)> {
    let here = Path::new("/");
    let of = |file: &str, key: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        let value = line.unwrap_or_default();
        value
            .trim_start_matches([' ', '\t', ':', '='])
            .trim_matches('"')
            .to_owned()
    };
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    vec![
        ("date", said("date -u +%F", here)),
        (
            "processor",
            format!(
                "{}, {processors} of them",
                of("/proc/cpuinfo", "model name")
            ),
        ),
        ("memory", of("/proc/meminfo", "MemTotal")),
        ("kernel", said("uname -r", here)),
        ("system", of("/etc/os-release", "PRETTY_NAME")),
        ("rustc", said("rustc --version", here)),
        (
            "heddle",
            said("git describe --always --dirty", find::workspace()),
        ),
    ]
}
