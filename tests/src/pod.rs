//! A pod sandbox on a node: a network namespace with a name under the node's own `/run/netns`.
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use anyhow::Context;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use crate::space::open_current;
use crate::{Command, Node, Result, Space};

/// A pod's network namespace; its files are the node's. Clones are the same pod. The name stays in the node's
/// `/run/netns` until [`Pod::unmount`] or the node's end.
#[derive(Clone, Debug)]
pub struct Pod {
    node: Node,
    space: Space,
    path: PathBuf,
}

impl Pod {
    pub(crate) fn new(node: &Node, name: &str) -> Result<Pod> {
        let path = Path::new("/run/netns").join(name);
        let net = node.run(|| -> Result<File> {
            File::create_new(&path).with_context(|| format!("{}", path.display()))?;
            unshare(CloneFlags::CLONE_NEWNET).context("a new network namespace")?;
            let (source, bind) = (Some("/proc/thread-self/ns/net"), MsFlags::MS_BIND);
            mount(source, &path, None::<&str>, bind, None::<&str>)
                .context("naming the pod's namespace")?;
            open_current("net")
        })?;
        let space = node.space().with_net(name, net);
        Ok(Pod {
            node: node.clone(),
            space,
            path,
        })
    }

    /// The name it was made with.
    pub fn name(&self) -> &str {
        self.space.name()
    }

    /// What a runtime passes as `CNI_NETNS`; valid on the node only.
    pub fn netns(&self) -> &Path {
        &self.path
    }

    /// The node it is on.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The namespaces themselves, for the fabric and the probes.
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// Runs `f` in the pod and waits for it (see [`Space::run`]).
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        self.space.run(f)
    }

    /// Runs `f` in the pod without waiting (see [`Space::spawn`]).
    pub fn spawn<T: Send + 'static>(
        &self,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        self.space.spawn(f)
    }

    /// A program to run in the pod, with the node's files.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.space.command(program)
    }

    /// Takes the name away as `ip netns del` does; the namespace itself lives on while the pod is held. With
    /// `leave_file` a plain file stays at the path, as after a reboot of a host whose `/run` is on disk.
    pub fn unmount(&self, leave_file: bool) -> Result {
        self.node.run(|| {
            umount2(&self.path, MntFlags::MNT_DETACH)
                .with_context(|| format!("{}", self.path.display()))?;
            if !leave_file {
                fs::remove_file(&self.path).with_context(|| format!("{}", self.path.display()))?;
            }
            Ok(())
        })
    }
}
