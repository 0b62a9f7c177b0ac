//! For tests: a directory with plugins that are shell scripts, write down how they were called, and act as told.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

/// The directory; it goes with the value.
pub(crate) struct Workshop(TempDir);

impl Workshop {
    pub(crate) fn new() -> Self {
        Workshop(TempDir::new().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn bin(&self) -> PathBuf {
        self.path().join("bin")
    }

    /// Makes the plugin `name`; having read its stdin it does what `script` says, with `$command` as CNI_COMMAND.
    pub(crate) fn plugin(&self, name: &str, script: &str) -> PathBuf {
        let file = self.bin().join(name);
        let dir = self.path().display();
        let text = format!(
            "#!/bin/sh\ncommand=$CNI_COMMAND\necho \"$command {name}\" >> {dir}/order\n\
             env | grep ^CNI_ | sort > {dir}/$command.{name}.env\ncat > {dir}/$command.{name}.stdin\n{script}\n"
        );
        self.file(&format!("bin/{name}"), &text);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        file
    }

    /// Writes the file `name`, with its directories.
    pub(crate) fn file(&self, name: &str, text: &str) {
        let file = self.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    /// The calls since the last look, as `COMMAND name`.
    pub(crate) fn order(&self) -> Vec<String> {
        let file = self.path().join("order");
        let text = fs::read_to_string(&file).unwrap_or_default();
        let _ = fs::remove_file(file);
        text.lines().map(str::to_owned).collect()
    }

    /// What the plugin got on stdin with the last `command`.
    pub(crate) fn stdin(&self, command: &str, name: &str) -> Value {
        let file = self.path().join(format!("{command}.{name}.stdin"));
        serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
    }

    /// The CNI variables that the plugin had with the last `command`.
    pub(crate) fn env(&self, command: &str, name: &str) -> Vec<String> {
        let file = self.path().join(format!("{command}.{name}.env"));
        let text = fs::read_to_string(file).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}
