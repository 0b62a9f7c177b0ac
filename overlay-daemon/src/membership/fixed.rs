//! `static`: every node stands in a file, read again when it changes.

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use ipnetwork::IpNetwork;
use serde::Deserialize;

use super::{Inputs, Membership};
use crate::config::Config;
use crate::names::vtep_mac;
use crate::node::Node;
use crate::view;

/// How often the file's time of modification is looked at.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    node: Vec<Row>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    endpoints: Vec<IpAddr>,
    pod_cidrs: Vec<IpNetwork>,
}

pub(super) async fn run(inputs: Inputs) -> Result<(), String> {
    let Inputs { config, out, .. } = inputs;
    let mut seen: Option<SystemTime> = None;
    loop {
        let changed = std::fs::metadata(&config.nodes_file)
            .and_then(|meta| meta.modified())
            .ok();
        if changed.is_none() || changed != seen {
            seen = changed;
            match read(&config.nodes_file, &config) {
                Ok(membership) => out.send_replace(membership),
                // What was read before goes on: a slip of the pen must not cut a cluster.
                Err(why) => {
                    out.send_if_modified(|membership| {
                        let problems = vec![why];
                        std::mem::replace(&mut membership.problems, problems.clone()) != problems
                    });
                    Membership::default()
                }
            };
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn read(path: &Path, config: &Config) -> Result<Membership, String> {
    let own_name = &config.node_name;
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("\"nodes_file\": cannot read {}: {error}", path.display()))?;
    let file: File = toml::from_str(&text).map_err(|error| {
        format!(
            "\"nodes_file\": {}: {}",
            path.display(),
            error.to_string().trim()
        )
    })?;
    let nodes = file.node.into_iter().map(|row| Node {
        vtep_mac: vtep_mac(&row.name),
        name: row.name,
        endpoints: row.endpoints,
        pod_cidrs: row.pod_cidrs,
    });
    let (own, nodes): (Vec<_>, Vec<_>) = nodes.partition(|node| &node.name == own_name);
    let own_cidrs = own
        .first()
        .map(|node| view::own_cidrs(&node.pod_cidrs, config));
    let own_cidrs = own_cidrs
        .transpose()
        .map_err(|why| format!("\"nodes_file\": {}: {own_name}: {why}", path.display()))?;
    let problems = match own.len() {
        1 => Vec::new(),
        0 => vec![format!(
            "\"nodes_file\": {} does not name this node, {own_name}: add it with its pod CIDRs",
            path.display()
        )],
        _ => vec![format!(
            "\"nodes_file\": {} names {own_name} more than once: give each node its own name",
            path.display()
        )],
    };
    Ok(Membership {
        is_known: true,
        is_settled: true,
        may_hand_out: own.len() == 1,
        own_cidrs: own_cidrs.unwrap_or_default(),
        nodes,
        problems,
        ..Membership::default()
    })
}
