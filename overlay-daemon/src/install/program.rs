//! The executable that is installed, and the plugins that it has.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::{Error, Result};

/// Its name in a directory of plugins.
pub const NAME: &str = "heddle-cni";

/// An executable that runs here.
#[derive(Debug)]
pub struct Program {
    /// All of it, read once: what is measured is what is written.
    pub bytes: Vec<u8>,
    /// The plugins' names.
    pub plugins: Vec<String>,
}

impl Program {
    /// Reads it and asks it for its plugins; the one beside the running program where nothing is named.
    ///
    /// # Errors
    /// When it is not there, or is no `heddle-cni` for this machine.
    pub fn read(from: Option<&Path>) -> Result<Self> {
        let path = from.map_or_else(beside_us, Path::to_owned);
        // Without a slash it would be looked for on the PATH.
        let path = path.canonicalize().unwrap_or(path);
        if !path.is_file() {
            return Err(Error::NoProgram(path));
        }
        let bytes = fs::read(&path).map_err(Error::file("read", &path))?;
        match plugins(&path) {
            Some(plugins) => Ok(Self { bytes, plugins }),
            None => Err(Error::NotOurProgram(path)),
        }
    }
}

fn beside_us() -> PathBuf {
    env::current_exe().map_or_else(|_| NAME.into(), |us| us.with_file_name(NAME))
}

/// What `heddle-cni --list` says.
fn plugins(program: &Path) -> Option<Vec<String>> {
    #[allow(
        clippy::disallowed_methods,
        reason = "that it runs here is what has to be known"
    )]
    let output = Command::new(program).arg("--list").output().ok()?;
    let names = String::from_utf8(output.stdout).ok()?;
    let is_name = |name: &&str| {
        let mut letters = name.bytes();
        letters
            .all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == b'-')
    };
    let good =
        output.status.success() && !names.is_empty() && names.lines().all(|name| is_name(&name));
    good.then(|| names.lines().map(str::to_owned).collect())
}
