//! `static`: every node stands in a file, read again when it changes.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use ipnetwork::IpNetwork;
use itertools::{EitherOrBoth, Itertools};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde::Deserialize;
use tokio::sync::Notify;

use super::{Inputs, Membership};
use crate::config::Config;
use crate::names::vtep_mac;
use crate::node::Node;
use crate::{ticks, view};

/// How often the file is looked at, should the kernel not have told of a change.
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
    let hints = hints(&config.nodes_file);
    let mut look = ticks::every(LOOK);
    let mut seen = None;
    loop {
        let changed = stamp(&config.nodes_file);
        if changed.is_none() || changed != seen {
            seen = changed;
            match read(&config.nodes_file, &config) {
                Ok(mut membership) => {
                    share(&mut membership.nodes, &out.borrow().nodes);
                    out.send_replace(membership)
                }
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
        tokio::select! {
            _ = look.tick() => {}
            () = hints.notified() => {}
        }
    }
}

/// By what a file that is another is known; `None` where there is none.
fn stamp(path: &Path) -> Option<(u64, u64, SystemTime)> {
    let meta = fs::metadata(path).ok()?;
    Some((meta.ino(), meta.len(), meta.modified().ok()?))
}

/// Is notified when the kernel says that the file's directory has changed; never where it cannot be watched.
fn hints(file: &Path) -> Arc<Notify> {
    let hints = Arc::new(Notify::new());
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC);
    let whole = AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVED_TO;
    let told = Arc::clone(&hints);
    if let (Ok(inotify), Some(directory)) = (inotify, file.parent())
        && inotify.add_watch(directory, whole).is_ok()
    {
        // Without the thread the file is still looked at once a second.
        let _ = thread::Builder::new()
            .name("nodes-file".into())
            .spawn(move || {
                while inotify.read_events().is_ok() {
                    told.notify_one();
                }
            });
    }
    hints
}

/// A node that is as it was is the one that others have already.
fn share(nodes: &mut [Arc<Node>], before: &[Arc<Node>]) {
    let pairs = nodes
        .iter_mut()
        .merge_join_by(before, |a, b| a.name.cmp(&b.name));
    for (node, before) in pairs.filter_map(EitherOrBoth::both) {
        if node == before {
            *node = Arc::clone(before);
        }
    }
}

fn read(path: &Path, config: &Config) -> Result<Membership, String> {
    let text = fs::read_to_string(path)
        .map_err(|error| format!("\"nodes_file\": cannot read {}: {error}", path.display()))?;
    parse(&text, path, config)
}

/// What stands in the file.
pub(crate) fn parse(text: &str, path: &Path, config: &Config) -> Result<Membership, String> {
    let own_name = &config.node_name;
    let file: File = toml::from_str(text).map_err(|error| {
        format!(
            "\"nodes_file\": {}: {}",
            path.display(),
            error.to_string().trim()
        )
    })?;
    let nodes = file.node.into_iter().map(|row| {
        Arc::new(Node {
            vtep_mac: vtep_mac(&row.name),
            name: row.name,
            endpoints: row.endpoints,
            pod_cidrs: row.pod_cidrs,
        })
    });
    let (own, mut nodes): (Vec<_>, Vec<_>) = nodes.partition(|node| &node.name == own_name);
    nodes.sort_by(|a: &Arc<Node>, b| a.name.cmp(&b.name));
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
