//! Calling another plugin from within a plugin (specification, section 4).
//!
//! The delegate is run with the whole configuration and the environment of the call, but for `CNI_COMMAND`. If it fails,
//! its own error comes back, code and all. Whoever delegated an ADD has to delegate DEL when a later step fails.

use std::path::PathBuf;

use crate::exec::{self, Invocation};
use crate::{AddResult, Call, Command, Result};

/// The executable that `CNI_PATH` has for `plugin_type`.
///
/// Code 7 if the name is empty, has a `/`, or nothing is found; code 4 if `CNI_PATH` is empty.
pub fn find(call: &Call, plugin_type: &str) -> Result<PathBuf> {
    exec::find(plugin_type, &call.path)
}

/// ADD of the delegate. Code 6 if it succeeds but prints no result that can be read.
pub fn add(call: &Call, plugin_type: &str) -> Result<AddResult> {
    invocation(call, plugin_type, Command::Add).add(call.conf.version)
}

/// DEL of the delegate.
pub fn del(call: &Call, plugin_type: &str) -> Result<()> {
    invocation(call, plugin_type, Command::Del).run().map(drop)
}

/// CHECK of the delegate.
pub fn check(call: &Call, plugin_type: &str) -> Result<()> {
    invocation(call, plugin_type, Command::Check)
        .run()
        .map(drop)
}

/// GC of the delegate.
pub fn gc(call: &Call, plugin_type: &str) -> Result<()> {
    invocation(call, plugin_type, Command::Gc).run().map(drop)
}

/// STATUS of the delegate.
pub fn status(call: &Call, plugin_type: &str) -> Result<()> {
    invocation(call, plugin_type, Command::Status)
        .run()
        .map(drop)
}

fn invocation<'a>(call: &'a Call, plugin_type: &'a str, command: Command) -> Invocation<'a> {
    Invocation {
        plugin_type,
        command,
        attachment: &call.attachment,
        netns: call.netns.as_deref(),
        args: call.args.raw(),
        path: &call.path,
        conf: call.conf.raw(),
    }
}

#[cfg(test)]
mod tests;
