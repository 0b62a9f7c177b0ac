//! What the API server last said, on disk: with it a node forwards while the API server is away, after a reboot too.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::membership::{Membership, write_durably};
use crate::node::Node;

/// Changes within this time of the first are written together.
const TOGETHER: Duration = Duration::from_secs(2);

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

/// Keeps it as whole sets of nodes are told of, for ever. `stored` is what it holds at the start.
pub(super) async fn keep(
    path: PathBuf,
    mut stored: Option<Cached>,
    mut membership: watch::Receiver<Membership>,
) {
    while membership.changed().await.is_ok() {
        sleep(TOGETHER).await;
        let now = membership.borrow_and_update().clone();
        let now = now.is_settled.then_some(Cached {
            own_cidrs: now.own_cidrs,
            nodes: now.nodes,
        });
        if let Some(now) = now {
            if stored.as_ref() != Some(&now) {
                let (path, written) = (path.clone(), now.clone());
                // Text of thousands of nodes, and a disk: meanwhile the rest goes on. It ends by itself.
                let _ = spawn_blocking(move || store(&path, &written)).await;
            }
            stored = Some(now);
        }
    }
}

/// Writes it.
fn store(path: &Path, cached: &Cached) {
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
