//! The plugin side: from environment and stdin to one JSON document.

use std::process::ExitCode;

use crate::{AddResult, Call, Result, Version};

/// One plugin: what it does for each command, given a call that has passed every check of the protocol.
pub trait Plugin {
    /// Printed when someone runs the plugin by hand, without `CNI_COMMAND`.
    fn about(&self) -> &'static str;
    /// The versions that the plugin speaks.
    fn versions(&self) -> &'static [Version] {
        Version::ALL
    }
    /// ADD.
    fn add(&self, call: &Call) -> Result<AddResult>;
    /// DEL: never fails because something is missing.
    fn del(&self, call: &Call) -> Result<()>;
    /// CHECK: `call.conf.prev_result` is what ADD gave.
    fn check(&self, call: &Call) -> Result<()>;
    /// GC: called only when `call.conf.valid_attachments` is there.
    fn gc(&self, call: &Call) -> Result<()>;
    /// STATUS: changes nothing.
    fn status(&self, call: &Call) -> Result<()>;
}

/// The part of the environment that the protocol defines. `None`: not set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Env {
    /// `CNI_COMMAND`.
    pub command: Option<String>,
    /// `CNI_CONTAINERID`.
    pub container_id: Option<String>,
    /// `CNI_NETNS`.
    pub netns: Option<String>,
    /// `CNI_IFNAME`.
    pub ifname: Option<String>,
    /// `CNI_ARGS`.
    pub args: Option<String>,
    /// `CNI_PATH`.
    pub path: Option<String>,
    /// `CNI_NETNS_OVERRIDE`.
    pub netns_override: Option<String>,
}

/// What a call comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// One JSON document, or nothing after a success that has nothing to say.
    pub stdout: Vec<u8>,
    /// Whether the process exits with 0.
    pub success: bool,
}

/// Answers one call, given its environment and its stdin; `run` without the process around it.
pub fn serve(_plugin: &dyn Plugin, _env: &Env, _stdin: &[u8]) -> Reply {
    Reply {
        stdout: Vec::new(),
        success: false,
    }
}

/// Answers the call that this process was started for: the whole `main` of a plugin.
pub fn run(plugin: &dyn Plugin) -> ExitCode {
    let reply = serve(plugin, &Env::default(), b"");
    if reply.success {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
