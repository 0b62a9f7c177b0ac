//! Kernel settings under `/proc/sys`, of the calling thread's network namespace; another one's are
//! reached by [`crate::netns::Netns::run`].

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

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
        let text = self.path(key).and_then(|path| {
            // Most settings come whole in one read; asking for the size of such a file says nothing.
            let mut text = Vec::with_capacity(64);
            File::open(path)?.take(u64::MAX).read_to_end(&mut text)?;
            String::from_utf8(text)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
        });
        let text = text.map_err(Error::io(format!("read sysctl {key}")))?;
        Ok(text.trim().to_owned())
    }

    /// Writes a setting. Equals `sysctl -w KEY=VALUE`.
    ///
    /// # Errors
    /// When there is no such setting, or it cannot be written.
    pub fn set(&self, key: &str, value: &str) -> Result<()> {
        let path = self.path(key);
        path.and_then(|path| fs::write(path, value))
            .map_err(Error::io(format!("set sysctl {key} to {value}")))
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

    /// Keys also come from files that were written earlier: none of them leads out of the tree.
    fn path(&self, key: &str) -> io::Result<PathBuf> {
        let mut parts = Path::new(key).components();
        match parts.all(|part| matches!(part, Component::Normal(_))) {
            true => Ok(self.0.as_ref().join(key)),
            false => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "this is no path below /proc/sys",
            )),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_leads_out_of_the_tree() {
        let outside = std::env::temp_dir().join(format!("heddle-sysctl-{}", std::process::id()));
        fs::write(&outside, "as it was").unwrap();
        let tree = Tree::new("/tmp/heddle-no-such-tree");
        let name = outside.file_name().unwrap().to_str().unwrap();
        for key in [
            outside.to_str().unwrap(),
            &format!("../{name}"),
            &format!("net/../../{name}"),
        ] {
            assert!(
                tree.get(key).is_err() && tree.set(key, "ours").is_err(),
                "{key}"
            );
        }
        assert_eq!(fs::read_to_string(&outside).unwrap(), "as it was");
        fs::remove_file(&outside).unwrap();
    }
}
