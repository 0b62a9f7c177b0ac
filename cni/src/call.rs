//! One validated call of a plugin.

use std::path::PathBuf;

use crate::{CniArgs, NetConf};

/// What identifies an attachment within its network: container id and interface name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Attachment {
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_IFNAME`.
    pub ifname: String,
}

/// What the runtime wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Attach a container to the network.
    Add,
    /// Detach it, or finish a detachment that was begun.
    Del,
    /// See whether the attachment is still what ADD made.
    Check,
    /// Free what belongs to no valid attachment.
    Gc,
    /// Say whether ADD could be served now.
    Status,
    /// Say which versions are spoken.
    Version,
}

impl Command {
    /// As it stands in `CNI_COMMAND`.
    pub fn as_str(self) -> &'static str {
        match self {
            Command::Add => "ADD",
            Command::Del => "DEL",
            Command::Check => "CHECK",
            Command::Gc => "GC",
            Command::Status => "STATUS",
            Command::Version => "VERSION",
        }
    }
}

/// One call, with everything in it already checked.
#[derive(Clone, Debug)]
pub struct Call {
    /// What is to be done.
    pub command: Command,
    /// Whose interface it is about; both parts are empty for GC and STATUS.
    pub attachment: Attachment,
    /// `CNI_NETNS`; `None` when it is empty, which only DEL, GC and STATUS may see.
    pub netns: Option<PathBuf>,
    /// `CNI_ARGS`.
    pub args: CniArgs,
    /// `CNI_PATH`, split.
    pub path: Vec<PathBuf>,
    /// `CNI_NETNS_OVERRIDE`: the container may live in the plugin's own network namespace.
    pub netns_override: bool,
    /// The network configuration.
    pub conf: NetConf,
}
