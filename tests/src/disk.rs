//! What of a node's files outlives the node.
use std::fs::File;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, anyhow};
use nix::sched::{CloneFlags, setns, unshare};

use crate::space::open_current;
use crate::{Result, mounts};

/// What nodes made on it write to `/etc`, `/opt`, `/var/lib` and `/var/log`, in memory. One node at a time; clones are the
/// same disk, which is gone with the last of them and of its nodes.
#[derive(Clone, Debug)]
pub struct Disk {
    mnt: Arc<File>,
}

impl Disk {
    /// An empty disk. Needs root.
    pub fn new() -> Result<Disk> {
        let made = thread::spawn(|| -> Result<File> {
            unshare(CloneFlags::CLONE_NEWNS).context("a new mount namespace (root is needed)")?;
            mounts::make_disk()?;
            open_current("mnt")
        });
        let mnt = made
            .join()
            .map_err(|_| anyhow!("the thread that makes a disk panicked"))??;
        Ok(Disk { mnt: Arc::new(mnt) })
    }

    /// Moves the calling thread, which must be one of our own, to the disk.
    pub(crate) fn enter(&self) -> Result {
        unshare(CloneFlags::CLONE_FS).context("a root and directory of the thread's own")?;
        setns(&self.mnt, CloneFlags::CLONE_NEWNS).context("entering the disk's mount namespace")
    }
}
