//! A place to run code in: a network namespace and maybe a mount namespace, held by nothing but descriptors.
use std::fs::File;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;

use anyhow::Context;
use nix::sched::{CloneFlags, setns, unshare};

use crate::{Command, Disk, Result, mounts};

/// A network namespace, with the mount namespace that belongs to it. Clones are the same place; the namespaces live as
/// long as the last clone, process or bind mount that refers to them.
#[derive(Clone, Debug)]
pub struct Space {
    name: Arc<str>,
    net: Arc<File>,
    mnt: Option<Arc<File>>,
}

impl Space {
    /// A new network namespace with `lo` up, seeing the host's files (equals `unshare -n`).
    pub fn bare(name: &str) -> Result<Space> {
        let net = thread::scope(|s| {
            spawn(s, name, || {
                unshare(CloneFlags::CLONE_NEWNET)
                    .context("a new network namespace (root is needed)")?;
                open_current("net")
            })
        })?;
        let space = Space {
            name: name.into(),
            net: Arc::new(net),
            mnt: None,
        };
        space.loopback_up()?;
        Ok(space)
    }

    /// A new network namespace with `lo` up and a mount namespace in which `/run`, `/sys`, `/etc`, `/opt` and
    /// `/var/lib` can be written without the host seeing it.
    pub fn private(name: &str) -> Result<Space> {
        Space::on_disk(name, &Disk::new()?)
    }

    /// The same with files that outlive it: what another space has left on the disk is there.
    pub(crate) fn on_disk(name: &str, disk: &Disk) -> Result<Space> {
        let (net, mnt) = thread::scope(|s| {
            spawn(s, name, || -> Result<_> {
                disk.enter()?;
                unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
                    .context("new network and mount namespaces (root is needed)")?;
                mounts::make_node()?;
                Ok((open_current("net")?, open_current("mnt")?))
            })
        })?;
        let space = Space {
            name: name.into(),
            net: Arc::new(net),
            mnt: Some(Arc::new(mnt)),
        };
        space.loopback_up()?;
        Ok(space)
    }

    /// Another network namespace seen with this one's files.
    pub(crate) fn with_net(&self, name: &str, net: File) -> Space {
        Space {
            name: name.into(),
            net: Arc::new(net),
            mnt: self.mnt.clone(),
        }
    }

    /// What the place is called in messages and thread names.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The network namespace, for instance as the far side of a veth pair.
    pub fn net(&self) -> &File {
        &self.net
    }

    /// Runs `f` here, on a thread of its own, and waits for it; a panic in `f` goes on in the caller. The current
    /// directory is `/`. Threads and processes that `f` starts are here too.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        thread::scope(|s| {
            spawn(s, &self.name, || {
                self.enter();
                f()
            })
        })
    }

    /// Runs `f` here on a thread of its own and does not wait: for servers and meters.
    pub fn spawn<T: Send + 'static>(
        &self,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let space = self.clone();
        let named = thread::Builder::new().name(self.name.to_string());
        let run = move || {
            space.enter();
            f()
        };
        named
            .spawn(run)
            .expect("the system can start one more thread")
    }

    /// A program to run here, found on the `PATH` of the caller.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        Command::new(self.clone(), program.as_ref())
    }

    /// Moves the calling thread, which must be one of our own, into the namespaces.
    fn enter(&self) {
        if let Some(mnt) = &self.mnt {
            unshare(CloneFlags::CLONE_FS).expect("a thread can have its own root and directory");
            setns(mnt, CloneFlags::CLONE_NEWNS).expect("entering the node's mount namespace");
        }
        setns(&self.net, CloneFlags::CLONE_NEWNET).expect("entering the network namespace");
    }

    fn loopback_up(&self) -> Result {
        self.command("ip")
            .args(["link", "set", "lo", "up"])
            .ok()
            .map(drop)
    }
}

/// The calling thread's namespace of a kind (`/proc/self` would be the main thread's).
pub(crate) fn open_current(kind: &str) -> Result<File> {
    let path = format!("/proc/thread-self/ns/{kind}");
    File::open(&path).with_context(|| path)
}

/// Runs `f` on a scoped thread called `name` and passes on its value or its panic.
fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    name: &str,
    f: impl FnOnce() -> T + Send + 'scope,
) -> T {
    let named = thread::Builder::new().name(name.to_owned());
    let thread = named
        .spawn_scoped(scope, f)
        .expect("the system can start one more thread");
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}
