//! The virtual node: what a container host is to CNI, without being one.
use std::ffi::OsStr;
use std::thread::JoinHandle;

use crate::{Command, Disk, Pod, Result, Space};

/// A network namespace (`lo` up, nothing else) with private `/run`, `/sys`, `/etc`, `/opt` and `/var/lib`, where
/// `/run/netns`, `/etc/cni/net.d`, `/opt/cni/bin` and `/var/lib/cni` exist and are empty. Clones are the same node.
/// It is gone when the last clone is dropped or the process ends.
#[derive(Clone, Debug)]
pub struct Node {
    space: Space,
}

impl Node {
    /// Makes a node. Needs root.
    pub fn new(name: &str) -> Result<Node> {
        Ok(Node {
            space: Space::private(name)?,
        })
    }

    /// Makes a node that finds on `disk` what an earlier one left there, as after a reboot.
    pub fn on_disk(name: &str, disk: &Disk) -> Result<Node> {
        Ok(Node {
            space: Space::on_disk(name, disk)?,
        })
    }

    /// The name it was made with.
    pub fn name(&self) -> &str {
        self.space.name()
    }

    /// The namespaces themselves, for the fabric and the probes.
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// Runs `f` on the node and waits for it (see [`Space::run`]).
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        self.space.run(f)
    }

    /// Runs `f` on the node without waiting (see [`Space::spawn`]).
    pub fn spawn<T: Send + 'static>(
        &self,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        self.space.spawn(f)
    }

    /// A program to run on the node.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.space.command(program)
    }

    /// A new pod sandbox as a runtime makes it: an empty network namespace (`lo` down) at `/run/netns/<name>`.
    pub fn pod(&self, name: &str) -> Result<Pod> {
        Pod::new(self, name)
    }
}
