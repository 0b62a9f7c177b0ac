//! Calling another plugin from within a plugin (specification, section 4).

use std::path::PathBuf;

use crate::{AddResult, Call, Code, Error, Result};

/// The executable that `CNI_PATH` has for `plugin_type`.
pub fn find(_call: &Call, plugin_type: &str) -> Result<PathBuf> {
    Err(Error::new(Code::Internal, format!("not yet {plugin_type}")))
}

/// ADD of the delegate, with the whole configuration and environment of `call`.
pub fn add(call: &Call, plugin_type: &str) -> Result<AddResult> {
    find(call, plugin_type).map(|_| AddResult::default())
}

/// DEL of the delegate.
pub fn del(call: &Call, plugin_type: &str) -> Result<()> {
    find(call, plugin_type).map(|_| ())
}

/// CHECK of the delegate.
pub fn check(call: &Call, plugin_type: &str) -> Result<()> {
    find(call, plugin_type).map(|_| ())
}

/// GC of the delegate.
pub fn gc(call: &Call, plugin_type: &str) -> Result<()> {
    find(call, plugin_type).map(|_| ())
}

/// STATUS of the delegate.
pub fn status(call: &Call, plugin_type: &str) -> Result<()> {
    find(call, plugin_type).map(|_| ())
}
