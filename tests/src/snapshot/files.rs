//! The files' part of a snapshot: each with its kind, mode and content.
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use anyhow::Context;

use crate::Result;

/// One line for each file and directory below these.
pub(super) fn lines(roots: &[&str]) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for root in roots {
        walk(Path::new(root), &mut lines).with_context(|| format!("below {root}"))?;
    }
    Ok(lines)
}

fn walk(dir: &Path, lines: &mut Vec<String>) -> Result {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let metadata = fs::symlink_metadata(&path)?;
        let (kind, mode) = (metadata.file_type(), metadata.permissions().mode() & 0o7777);
        let name = path.display();
        if kind.is_dir() {
            lines.push(format!("file {name}/ {mode:o}"));
            walk(&path, lines)?;
        } else if kind.is_symlink() {
            lines.push(format!(
                "file {name} -> {}",
                fs::read_link(&path)?.display()
            ));
        } else if kind.is_socket() || kind.is_fifo() {
            lines.push(format!(
                "file {name} {mode:o} {}",
                if kind.is_socket() { "socket" } else { "fifo" }
            ));
        } else if path.parent() == Some(Path::new("/run/netns")) {
            // Reading a mounted namespace is an error; that it is there, and mounted, is what counts.
            let mounted = fs::read(&path).is_err();
            lines.push(format!(
                "file {name} {}",
                if mounted { "netns" } else { "plain" }
            ));
        } else {
            let bytes = fs::read(&path).with_context(|| format!("{name}"))?;
            lines.push(format!(
                "file {name} {mode:o} {:?}",
                String::from_utf8_lossy(&bytes)
            ));
        }
    }
    Ok(())
}
