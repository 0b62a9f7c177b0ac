//! `heddle trace` on a node with a thousand peers answers as on one with two.
use std::fmt::Write;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::ensure;
use lab::overlay::Cluster;
use lab::{Result, wait};

use super::{PATIENCE, trace};

/// For a debug build on a machine with other work; people have it in a fraction of this.
const LIMIT: Duration = Duration::from_millis(1_500);

pub fn peers() -> Result {
    let mut cluster = Cluster::new("membership = \"static\"")?;
    let mut text = String::new();
    for number in 1..=1_001 {
        let (high, low) = (number / 256, number % 256);
        let endpoint = match number {
            1 => "192.0.1.11".to_owned(),
            3 => "192.0.2.13".to_owned(),
            _ => format!("198.18.{high}.{low}"),
        };
        writeln!(
            text,
            "[[node]]\nname = \"n{number}\"\nendpoints = [\"{endpoint}\"]\npod_cidrs = [\"10.32.{}.{}/26\"]",
            number / 4,
            number % 4 * 64
        )?;
    }
    cluster.members.remove(1);
    for member in &mut cluster.members {
        member
            .node
            .run(|| fs::write("/etc/heddle/nodes.toml", &text))?;
        member.start()?;
    }
    for member in &cluster.members {
        member.wait_for("a thousand peers", |status| {
            let peers = status["peers"].as_object();
            peers.map_or(0, serde_json::Map::len) == 1_000 && status["ready"] == true
        })?;
    }
    let near = cluster.members[0].add_pod("pod")?.addresses[0].to_string();
    let far = cluster.members[1].add_pod("pod")?.addresses[0].to_string();
    wait::until(PATIENCE, "a quick answer", || {
        let began = Instant::now();
        let (good, trace) = trace(&cluster.members[0], &near, &far)?;
        let took = began.elapsed();
        ensure!(good && took < LIMIT, "{took:?}: {trace:#}");
        Ok(())
    })
}
