//! Where the programs under test and those they are compared with are.
use std::env;
use std::path::{Path, PathBuf};

use anyhow::bail;

use crate::Result;

/// The top of the workspace, for example configurations.
pub fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Our executable: `$HEDDLE_CNI`, or what `make build` left in `dist/`.
pub fn heddle_cni() -> Result<PathBuf> {
    built("HEDDLE_CNI", "heddle-cni")
}

/// Our daemon: `$HEDDLE`, or what `make build` left in `dist/`.
pub fn heddle() -> Result<PathBuf> {
    built("HEDDLE", "heddle")
}

/// The directory of the reference plugins: `$CNI_REFERENCE_DIR`, or where Debian puts them.
pub fn reference_dir() -> PathBuf {
    env::var_os("CNI_REFERENCE_DIR")
        .unwrap_or_else(|| "/usr/lib/cni".into())
        .into()
}

/// The directory of the newest reference plugins: where `make bench-peers` puts them.
pub fn latest_reference_dir() -> PathBuf {
    workspace().join("target/tools/reference")
}

/// flanneld, where `make bench-peers` puts it.
pub fn flanneld() -> Option<PathBuf> {
    let file = latest_reference_dir().join("flanneld");
    file.is_file().then_some(file)
}

/// A program on the caller's `PATH`.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

fn built(variable: &str, name: &str) -> Result<PathBuf> {
    let file = match env::var_os(variable) {
        Some(file) => PathBuf::from(file),
        None => workspace().join("dist").join(name),
    };
    if !file.is_file() {
        bail!(
            "{} is not there: run `make build`, or set {variable}",
            file.display()
        );
    }
    Ok(file)
}
