//! What an API server, or the file of what it said, may hold. For the tests and for `fuzz/`; not part of a build.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::api::KubeNode;
use super::cache::Cached;
use super::publish::Published;
use super::set::Set;
use crate::config::Config;
use crate::node::Node;

/// The nodes that these bytes mean to the node `config` is of: as the file, as a list, or as an event of the watch. A list with
/// anything in it that is no Node is none, as for the client.
pub(crate) fn nodes(bytes: &[u8], config: &Config) -> Vec<Arc<Node>> {
    #[derive(Deserialize)]
    struct List {
        items: Vec<KubeNode>,
    }
    if let Ok(cached) = serde_json::from_slice::<Cached>(bytes) {
        return cached.nodes;
    }
    let document: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let listed = match List::deserialize(&document) {
        Ok(list) => list.items,
        Err(_) => Vec::from_iter(KubeNode::deserialize(&document["object"]).ok()),
    };
    let mut set = Set::default();
    for node in &listed {
        let _ = Published::of(node);
        set.apply(node);
    }
    let seen = set.seen(config);
    assert!(seen.nodes.len() + seen.notes.len() <= 2 * listed.len());
    for node in &listed {
        set.remove(node);
    }
    assert_eq!(set, Set::default());
    seen.nodes
}
