//! What the node's daemon says of its network: a file below `/run`, so that it is there from the moment when the node first
//! carries packets after a boot, and outlives restarts of the daemon, which cut nothing.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use cni::{Code, Error, Result};
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    code: u32,
    msg: String,
}

/// Passes on what the daemon wrote.
///
/// # Errors
/// Code 50 where it has not written since the boot, otherwise the code in the file: 50 or 51 (the specification's section
/// on STATUS).
pub fn status(file: &Path) -> Result<()> {
    let shown = file.display();
    let text = fs::read_to_string(file).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Error::new(
            Code::NotAvailable,
            "the heddle daemon has not said since boot that this node carries pod traffic: see `heddle status`",
        ),
        _ => Error::new(
            Code::NotAvailable,
            format!("\"statusFile\": cannot read {shown}: {error}"),
        ),
    })?;
    let answer: Answer = serde_json::from_str(&text).map_err(|error| {
        Error::new(
            Code::NotAvailable,
            format!("\"statusFile\": {shown} is not what the heddle daemon writes: {error}"),
        )
    })?;
    match answer.code {
        0 => Ok(()),
        code => Err(Error::new(Code::from(code), answer.msg)),
    }
}

/// Lets a pod wait for a node that cannot take it yet: after a boot the conflist is there before the network is, and may
/// even be of pod CIDRs that are another node's now.
///
/// # Errors
/// Code 11, so that the runtime tries again, where STATUS says 50.
pub fn may_add(file: &Path) -> Result<()> {
    match status(file) {
        Err(error) if error.code == Code::NotAvailable => {
            Err(Error::new(Code::TryAgainLater, error.msg))
        }
        _ => Ok(()),
    }
}
