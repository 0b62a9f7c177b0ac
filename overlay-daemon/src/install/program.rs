//! The executable that is installed, and the plugins that it has.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::error::Error;

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
    pub fn read(from: Option<&Path>) -> Result<Self, Error> {
        let path = from.map_or_else(beside_us, Path::to_owned);
        // Without a slash it would be looked for on the PATH.
        let path = path.canonicalize().unwrap_or(path);
        if !path.is_file() {
            return Err(Error::NoProgram(path));
        }
        let bytes = fs::read(&path).map_err(Error::file("read", &path))?;
        match plugins(&path) {
            Ok(plugins) => Ok(Self { bytes, plugins }),
            Err(why) => Err(Error::NotOurProgram { path, why }),
        }
    }
}

fn beside_us() -> PathBuf {
    env::current_exe().map_or_else(|_| NAME.into(), |us| us.with_file_name(NAME))
}

/// What `heddle-cni --list` says.
fn plugins(program: &Path) -> Result<Vec<String>, String> {
    #[allow(
        clippy::disallowed_methods,
        reason = "that it runs here is what has to be known"
    )]
    let mut list = Command::new(program);
    // Not /dev/null, which an image need not have.
    let output = list.arg("--list").stdin(Stdio::inherit()).output();
    let output = output.map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let names: Vec<_> = text.lines().map(str::to_owned).collect();
    if !output.status.success() || names.is_empty() || !names.iter().all(|name| is_name(name)) {
        return Err(format!("--list: {}, no plugins", output.status));
    }
    Ok(names)
}

fn is_name(text: &str) -> bool {
    let mut letters = text.bytes();
    letters.all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == b'-')
}
