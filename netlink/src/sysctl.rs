//! Kernel settings under `/proc/sys`, of the calling thread's network namespace; another one's are
//! reached by [`crate::netns::Netns::run`].

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Where the kernel shows them.
const PROC_SYS: Tree<&str> = Tree("/proc/sys");

/// The settings as a directory shows them: where `/proc/sys` is read-only, as in most containers, the host's own can be
/// mounted elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct Tree<P>(P);

impl<P: AsRef<Path>> Tree<P> {
    /// Those of a directory.
    pub fn new(root: P) -> Self {
        Self(root)
    }

    /// Reads a setting, without white space around it. `key` is a path such as `net/ipv4/ip_forward`,
    /// so that interface names with dots need no escaping. Equals `sysctl -n KEY`.
    ///
    /// # Errors
    /// When there is no such setting, or it cannot be read.
    pub fn get(&self, key: &str) -> Result<String> {
        let text =
            fs::read_to_string(self.path(key)).map_err(Error::io(format!("read sysctl {key}")))?;
        Ok(text.trim().to_owned())
    }

    /// Writes a setting. Equals `sysctl -w KEY=VALUE`.
    ///
    /// # Errors
    /// When there is no such setting, or it cannot be written.
    pub fn set(&self, key: &str, value: &str) -> Result<()> {
        fs::write(self.path(key), value).map_err(Error::io(format!("set sysctl {key} to {value}")))
    }

    /// Writes a setting unless it has that value already, and says whether it had to.
    ///
    /// # Errors
    /// As [`Tree::get`] and [`Tree::set`].
    pub fn ensure(&self, key: &str, value: &str) -> Result<bool> {
        if self.get(key)? == value {
            return Ok(false);
        }
        self.set(key, value).map(|()| true)
    }

    fn path(&self, key: &str) -> PathBuf {
        self.0.as_ref().join(key)
    }
}

/// [`Tree::get`] of `/proc/sys`.
///
/// # Errors
/// As there.
pub fn get(key: &str) -> Result<String> {
    PROC_SYS.get(key)
}

/// [`Tree::set`] of `/proc/sys`.
///
/// # Errors
/// As there.
pub fn set(key: &str, value: &str) -> Result<()> {
    PROC_SYS.set(key, value)
}

/// [`Tree::ensure`] of `/proc/sys`.
///
/// # Errors
/// As there.
pub fn ensure(key: &str, value: &str) -> Result<bool> {
    PROC_SYS.ensure(key, value)
}
