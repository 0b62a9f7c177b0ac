//! Where the set of nodes comes from: a source runs as a task and says, again and again, all that it knows.

pub mod fixed;
pub mod gossip;
pub mod kubernetes;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use cni::files;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use crate::config::{Config, MembershipKind};
use crate::doctor::Verdict;
use crate::health::Health;
use crate::node::Node;

/// All that a source knows at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Membership {
    /// Whether the source has said anything yet: until then nothing in the kernel is to be touched.
    pub is_known: bool,
    /// Whether it has had the time to hear of every node: until then nothing in the kernel is to be removed.
    pub is_settled: bool,
    /// This node's pod CIDRs; none while it has not been given any.
    pub own_cidrs: Vec<ipnetwork::IpNetwork>,
    /// The other nodes, those among them that are not to be seen at the moment too.
    pub nodes: Vec<Arc<Node>>,
    /// How a node is, where the source can tell; by name.
    pub states: BTreeMap<String, PeerState>,
    /// Whether this node may give addresses of its CIDRs away.
    pub may_hand_out: bool,
    /// What is wrong, a sentence each.
    pub problems: Vec<String>,
    /// What a person may want to know: the claim, the electors …
    pub notes: Vec<String>,
    /// What is wrong elsewhere, and does not keep this node from carrying what it knows.
    pub warnings: Vec<Warning>,
}

/// Something that is wrong with the membership, but not with this node's readiness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Warning {
    /// What it is about.
    pub about: About,
    /// How bad it is.
    pub verdict: Verdict,
    /// A sentence that names the object.
    pub text: String,
    /// What to do about it.
    pub remedy: String,
}

/// What a [`Warning`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum About {
    /// The keys that gossip is sealed with.
    Keys,
    /// The clocks of the nodes.
    Clock,
    /// Kubernetes' API server.
    Api,
}

/// How a node is, as far as a source can tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerState {
    /// It is there.
    #[default]
    Up,
    /// It has not been heard of for a moment.
    Suspect,
    /// It has gone; its rows stay for the grace time.
    Down,
}

/// What a person may ask a source to do.
#[derive(Debug)]
pub enum Command {
    /// Forget a node that never comes back, and what was granted to it.
    Forget(String),
}

/// What a source is given.
#[derive(Debug)]
pub struct Inputs {
    /// The configuration.
    pub config: Config,
    /// This node's addresses on the underlay, as they change.
    pub endpoints: watch::Receiver<Vec<IpAddr>>,
    /// Whether this node carries pod traffic, as it changes.
    pub health: watch::Receiver<Health>,
    /// What people ask for.
    pub commands: mpsc::Receiver<Command>,
    /// Where to say what is known.
    pub out: watch::Sender<Membership>,
}

/// Runs the configured source; it comes back only when it cannot go on.
///
/// # Errors
/// A sentence that says why.
pub async fn run(inputs: Inputs) -> Result<(), String> {
    match inputs.config.membership {
        MembershipKind::Static => fixed::run(inputs).await,
        MembershipKind::Gossip => gossip::run(inputs).await,
        MembershipKind::Kubernetes => kubernetes::run(inputs).await,
    }
}

/// Writes a file whole, on disk before it takes its name.
///
/// # Errors
/// What the file system said.
pub(crate) fn write_durably(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    let directory = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(directory)?;
    let temporary = path.with_extension("new");
    let mut file = files::create(&temporary, 0o600)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    std::fs::File::open(directory)?.sync_all()
}
