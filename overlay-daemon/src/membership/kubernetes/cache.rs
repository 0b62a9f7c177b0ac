//! What the API server last said, on disk: with it a node forwards while the API server is away, after a reboot too.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::membership::write_durably;
use crate::node::Node;

/// The content of the file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Cached {
    /// This node's pod CIDRs.
    pub own_cidrs: Vec<IpNetwork>,
    /// The other nodes.
    pub nodes: Vec<Arc<Node>>,
}

/// Its path.
pub(super) fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("kubernetes.json")
}

/// Reads it; what is damaged is worth as much as what is not there: the API server says it all again.
pub(super) fn load(path: &Path) -> Option<Cached> {
    let bytes = std::fs::read(path).ok()?;
    let read = serde_json::from_slice(&bytes);
    read.inspect_err(|error| tracing::warn!("{} is damaged and not used: {error}", path.display()))
        .ok()
}

/// Writes it.
pub(super) fn store(path: &Path, cached: &Cached) {
    let written = serde_json::to_vec(cached)
        .map_err(std::io::Error::other)
        .and_then(|bytes| write_durably(path, &bytes));
    if let Err(error) = written {
        tracing::warn!(
            "cannot write {}: {error}: a reboot without the API server would find no peers",
            path.display()
        );
    }
}
