//! Kernel settings under `/proc/sys`, of the calling thread's network namespace; another one's are
//! reached by [`crate::netns::Netns::run`].

use std::fs;

use crate::error::{Error, Result};

/// Reads a setting, without white space around it. `key` is a path such as `net/ipv4/ip_forward`,
/// so that interface names with dots need no escaping. Equals `sysctl -n KEY`.
///
/// # Errors
/// When there is no such setting, or it cannot be read.
pub fn get(key: &str) -> Result<String> {
    let text = fs::read_to_string(path(key)).map_err(Error::io(format!("read sysctl {key}")))?;
    Ok(text.trim().to_owned())
}

/// Writes a setting. Equals `sysctl -w KEY=VALUE`.
///
/// # Errors
/// When there is no such setting, or it cannot be written: `/proc/sys` is read-only in most containers.
pub fn set(key: &str, value: &str) -> Result<()> {
    fs::write(path(key), value).map_err(Error::io(format!("set sysctl {key} to {value}")))
}

/// Writes a setting unless it has that value already, and says whether it had to.
///
/// # Errors
/// As [`get`] and [`set`].
pub fn ensure(key: &str, value: &str) -> Result<bool> {
    if get(key)? == value {
        return Ok(false);
    }
    set(key, value).map(|()| true)
}

fn path(key: &str) -> String {
    format!("/proc/sys/{key}")
}
