//! ADD beside many leases: what an allocator costs when the node is full.
use lab::{Result, conf};
use serde_json::json;

use crate::duel::Duel;
use crate::progress;
use crate::row::{Findings, Line, Plot, Row};
use crate::side::{Seat, Side};
use crate::times::MEDIAN;

/// Leases, and how often each side adds a pod beside them: the reference reads them all, each time.
const STEPS: [(u32, usize); 5] = [(0, 50), (10, 50), (1_000, 40), (10_000, 15), (100_000, 2)];

pub fn run(sides: &[Side]) -> Result<Findings> {
    let conf = conf::bridge(json!({
        "cniVersion": "1.0.0", "isDefaultGateway": true,
        "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.64.0.0/10", "rangeStart": "10.88.0.2"}]]},
    }));
    let (mut findings, mut lines) = (Findings::default(), Vec::new());
    for (leases, rounds) in STEPS {
        progress(&format!("leases: {leases}"));
        let seats: Vec<Seat> = sides.iter().map(Side::on_new_node).collect::<Result<_>>()?;
        let mut duel = Duel::default();
        for seat in &seats {
            seat.plugins.node().pod("pod")?;
            lab::leases::fill(seat.plugins.node(), leases)?;
            duel.seat(seat, |seat, clock| {
                clock.push("ADD", seat.side.timed("ADD", &conf, "pod")?);
                seat.side.timed("DEL", &conf, "pod").map(drop)
            });
        }
        duel.warm_up()?;
        duel.run(rounds)?;
        let what = format!("ADD beside {leases} leases");
        findings
            .rows
            .extend(duel.rows(&format!("leases.add.{leases}"), &what, "ADD", MEDIAN));
        duel.points(&mut lines, "ADD", f64::from(leases.max(1)));
    }
    let what = "ADD at 10,000 leases ÷ ADD at 10";
    findings
        .rows
        .extend(growth("leases.growth", what, &lines, 10.0, 10_000.0));
    findings.plots.push(Plot {
        file: "leases",
        title: "ADD beside leases of other pods",
        x: "leases on the node (0 stands at 1)",
        y: "ADD, median (ms)",
        lines,
    });
    Ok(findings)
}

/// How many times longer each takes at `most` than at `least`.
pub fn growth(id: &str, what: &str, lines: &[Line], least: f64, most: f64) -> Vec<Row> {
    let at = |line: &Line, x: f64| {
        let mut points = line.points.iter();
        points.find(|point| point.0 == x).map(|point| point.1)
    };
    let grown = lines
        .iter()
        .filter_map(|line| Some((line.name.as_str(), at(line, most)? / at(line, least)?)));
    let (floor, mut others): (Vec<_>, Vec<_>) = grown.partition(|(name, _)| *name == "floor");
    if others.is_empty() {
        return Vec::new();
    }
    let (_, ours) = others.remove(0);
    let mut row = Row::new(id, what, "×", ours);
    if let Some((_, floor)) = floor.first() {
        row = row.floor(*floor);
    }
    row.beside(others.into_iter())
}
