//! The same packets with a thousand more pods on the bridge of one of the nodes.
use anyhow::Context;
use lab::Result;

use super::{Figures, SIDES, Way, Ways, ways};
use crate::progress;
use crate::row::{Findings, Row};
use crate::times::MEDIAN;

const PODS: u16 = 1_000;
const ROUNDS: usize = 9;

/// Fills the bridges, and measures those whose bridges they are.
pub fn run(ways: &Ways) -> Result<Findings> {
    progress(&format!("packet: beside {PODS} pods"));
    ways.fill(PODS)?;
    let crowded = [ways::FLANNEL, ways::SLOW, ways::FAST];
    let all = ways.all.iter().filter(|way| crowded.contains(&way.name));
    let mut all: Vec<(&Way, Figures)> = all.map(|way| (way, Figures::default())).collect();
    for _ in 0..ROUNDS {
        for (way, figures) in &mut all {
            way.udp(&mut figures.udp).context(way.name)?;
        }
    }
    let mut findings = Findings::default();
    for (ours, id, what, _) in SIDES {
        for (rank, name, title) in [
            (MEDIAN, "p50", "UDP round trip"),
            (99, "p99", "UDP round trip, p99"),
        ] {
            let of = |wanted: &str| {
                let (_, figures) = all.iter().find(|(way, _)| way.name == wanted)?;
                Some(figures.udp.micros(rank))
            };
            let Some(figure) = of(ours) else {
                continue;
            };
            let row = Row::new(
                format!("{id}.crowd.udp.{name}"),
                format!("{title} {what}, {PODS} pods on one"),
                "µs",
                figure,
            );
            let peer = of(ways::FLANNEL).map(|figure| (ways::FLANNEL, figure));
            let rows = row.runs(ROUNDS).beside(peer.into_iter());
            findings.rows.extend(rows);
        }
    }
    Ok(findings)
}
