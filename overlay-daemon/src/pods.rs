//! The network namespaces of this node's pods, as far as a name or a process leads to them.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use netlink::netns::Netns;

/// All but this process's own, each once, with a path that leads there: the named ones, then those of processes.
pub fn namespaces() -> impl Iterator<Item = (PathBuf, Netns)> {
    let own = Netns::current().ok();
    let mut seen = BTreeSet::new();
    named().chain(of_processes()).filter_map(move |path| {
        let inode = fs::metadata(&path).ok()?.ino();
        if !seen.insert(inode) {
            return None;
        }
        let netns = Netns::open(&path).ok()?;
        match netns.is_same(own.as_ref()?).ok()? {
            true => None,
            false => Some((path, netns)),
        }
    })
}

fn named() -> impl Iterator<Item = PathBuf> {
    entries(Path::new("/run/netns"))
}

fn of_processes() -> impl Iterator<Item = PathBuf> {
    let paths = entries(Path::new("/proc")).filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.bytes().all(|byte| byte.is_ascii_digit())
    });
    paths.map(|path| path.join("ns/net"))
}

fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path()))
}
