//! A part of the machine's cgroups for one node: what runs there limits and counts only itself.
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::{Processes, Result};

const ROOT: &str = "/sys/fs/cgroup";
const PREFIX: &str = "heddle-lab-";

/// A directory in each of the machine's hierarchies (cgroups(7)), which a node sees as the whole. The directories go with
/// it, and those of tests that were killed go when the next one starts.
#[derive(Debug)]
pub struct Cgroups {
    dirs: Vec<PathBuf>,
}

impl Cgroups {
    /// Makes the directories for a node called `name`, and mounts them over the node's `/sys/fs/cgroup`.
    pub fn new(processes: &Processes, name: &str) -> Result<Cgroups> {
        let mut cgroups = Cgroups { dirs: Vec::new() };
        processes.sh("mkdir /run/cgroup\nmount -t tmpfs lab /run/cgroup")?;
        for hierarchy in hierarchies()? {
            sweep(&hierarchy);
            let dir = hierarchy.join(format!("{PREFIX}{}-{name}", std::process::id()));
            fs::create_dir_all(&dir).with_context(|| format!("{}", dir.display()))?;
            for file in ["cpuset.cpus", "cpuset.mems"] {
                // A new group of cpuset(7) has no processor until it is told.
                if let Ok(value) = fs::read(hierarchy.join(file)) {
                    fs::write(dir.join(file), value).ok();
                }
            }
            let to = hierarchy.strip_prefix(ROOT).unwrap_or(&hierarchy);
            let (from, to) = (dir.display(), Path::new("/run/cgroup").join(to));
            let to = to.display();
            processes.sh(&format!("mkdir -p {to}\nmount --bind {from} {to}"))?;
            cgroups.dirs.push(dir);
        }
        processes.sh("umount -R /sys/fs/cgroup\nmount --move /run/cgroup /sys/fs/cgroup")?;
        Ok(cgroups)
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        self.dirs.iter().for_each(|dir| remove(dir));
    }
}

/// The mounted hierarchies: one of version 2, or each of version 1.
fn hierarchies() -> Result<Vec<PathBuf>> {
    let root = Path::new(ROOT);
    if root.join("cgroup.controllers").exists() {
        return Ok(vec![root.to_owned()]);
    }
    let dirs = fs::read_dir(root)?.map(|dir| Ok(dir?.path()));
    let dirs: Result<Vec<PathBuf>> = dirs.collect();
    let mut dirs = dirs?;
    dirs.retain(|dir| dir.join("cgroup.procs").exists() && !dir.is_symlink());
    Ok(dirs)
}

/// Removes what tests that no longer run have left.
fn sweep(hierarchy: &Path) {
    for dir in fs::read_dir(hierarchy).into_iter().flatten().flatten() {
        let name = dir.file_name().to_string_lossy().into_owned();
        let pid = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove(&dir.path());
        }
    }
}

/// Removes a directory of cgroups, from below; one that still has processes stays.
fn remove(dir: &Path) {
    for below in fs::read_dir(dir).into_iter().flatten().flatten() {
        if below.path().is_dir() {
            remove(&below.path());
        }
    }
    fs::remove_dir(dir).ok();
}
