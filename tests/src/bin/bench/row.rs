//! One figure of ours beside a peer's and the kernel's floor: what every section returns, the table shows and
//! `docs/benchmarks/latest.json` keeps.
use serde::Serialize;

use crate::times::Times;

/// A figure. Rows without a peer or without a floor have neither it nor its ratio.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Section and figure, such as `pod.add.p50`; a second peer's row ends in `/` and that peer's name.
    pub id: String,
    /// What is measured, for a person.
    pub what: String,
    /// Of the three figures; one that ends in `/s` is a rate, of which more is better.
    pub unit: &'static str,
    pub ours: f64,
    pub peer: Option<f64>,
    pub peer_name: Option<String>,
    /// The same objects by bare netlink in a loop, host networking, or what else no plugin can beat.
    pub floor: Option<f64>,
    /// How many times better ours is than the peer.
    pub ratio_peer: Option<f64>,
    /// How many times the floor's cost ours is.
    pub ratio_floor: Option<f64>,
    /// How often each side was measured.
    pub runs: usize,
}

impl Row {
    /// A figure that stands alone as yet.
    pub fn new(
        id: impl Into<String>,
        what: impl Into<String>,
        unit: &'static str,
        ours: f64,
    ) -> Row {
        Row {
            id: id.into(),
            what: what.into(),
            unit,
            ours,
            peer: None,
            peer_name: None,
            floor: None,
            ratio_peer: None,
            ratio_floor: None,
            runs: 1,
        }
    }

    /// A rank of measured times, in microseconds.
    pub fn time(id: impl Into<String>, what: impl Into<String>, ours: &Times, rank: usize) -> Row {
        Row::new(id, what, "µs", ours.micros(rank)).runs(ours.len())
    }

    /// With a peer's figure of the same unit.
    pub fn peer(mut self, name: &str, figure: f64) -> Row {
        self.ratio_peer = self.cost(figure, self.ours);
        self.peer = Some(figure);
        self.peer_name = Some(name.to_owned());
        self
    }

    /// A row for each peer, whose ids differ by its name; this one alone where there is no peer.
    pub fn beside<'a>(self, peers: impl Iterator<Item = (&'a str, f64)>) -> Vec<Row> {
        let mut rows = Vec::new();
        for (name, figure) in peers {
            let mut row = self.clone().peer(name, figure);
            if !rows.is_empty() {
                row.id = format!("{}/{}", row.id, name.replace(' ', "-"));
            }
            rows.push(row);
        }
        match rows.is_empty() {
            true => vec![self],
            false => rows,
        }
    }

    /// With the floor's figure of the same unit.
    pub fn floor(mut self, figure: f64) -> Row {
        self.ratio_floor = self.cost(self.ours, figure);
        self.floor = Some(figure);
        self
    }

    /// How often each side was measured; once unless told.
    pub fn runs(mut self, runs: usize) -> Row {
        self.runs = runs;
        self
    }

    /// How many times dearer `one` is than `other`; nothing can be said of what costs nothing.
    fn cost(&self, one: f64, other: f64) -> Option<f64> {
        let (cost, unit) = match self.unit.ends_with("/s") {
            true => (other, one),
            false => (one, other),
        };
        (unit != 0.0).then(|| cost / unit)
    }
}

/// What a section found out.
#[derive(Debug, Default)]
pub struct Findings {
    pub rows: Vec<Row>,
    pub plots: Vec<Plot>,
    /// What was not measured, and why.
    pub skipped: Vec<String>,
}

impl Findings {
    /// Adds what another part of the section found.
    pub fn extend(&mut self, other: Findings) {
        self.rows.extend(other.rows);
        self.plots.extend(other.plots);
        self.skipped.extend(other.skipped);
    }
}

/// Lines in a picture of their own, `docs/benchmarks/<file>.svg`; all values are above zero.
#[derive(Debug)]
pub struct Plot {
    pub file: &'static str,
    pub title: &'static str,
    /// The axis' label, with its unit.
    pub x: &'static str,
    pub y: &'static str,
    pub lines: Vec<Line>,
}

/// One side's points, by growing x.
#[derive(Debug)]
pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}
