//! One validated call of a plugin.

use std::path::PathBuf;

use crate::{CniArgs, NetConf, Version};

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

    /// The command that `CNI_COMMAND` names.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [
            Command::Add,
            Command::Del,
            Command::Check,
            Command::Gc,
            Command::Status,
            Command::Version,
        ]
        .into_iter()
        .find(|command| command.as_str() == name)
    }

    /// Whether it is about one attachment.
    pub(crate) fn is_for_attachment(self) -> bool {
        matches!(self, Command::Add | Command::Del | Command::Check)
    }

    /// The oldest configuration that may ask for it (specification, section 4; reference: `skel`).
    pub(crate) fn since(self) -> Version {
        match self {
            Command::Add | Command::Del | Command::Version => Version::V0_1_0,
            Command::Check => Version::V0_4_0,
            Command::Gc | Command::Status => Version::V1_1_0,
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
