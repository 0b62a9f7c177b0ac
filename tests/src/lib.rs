//! The lab: virtual nodes, pods and the fabric between them, for tests, the demo and the benches.
//!
//! A [`Node`] is a network namespace and a private mount namespace held by two descriptors: nothing is named on the
//! host, so the kernel removes everything when the process ends, also after a panic, Ctrl-C or kill. The host's own
//! namespaces, `/etc/cni` and `/var/lib/cni` are never touched.
//!
//! ```no_run
//! # fn main() -> lab::Result<()> {
//! let node = lab::Node::new("n1")?;
//! let pod = node.pod("web")?; // /run/netns/web, seen only inside the node
//! node.command("ip").args(["link", "add", "cbr0", "type", "bridge"]).ok()?;
//! pod.run(|| std::net::TcpListener::bind("127.0.0.1:80"))?;
//! # Ok(()) }
//! ```

// Everything here runs inside a test or the demo, where a broken premise should stop it at once.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used
)]

pub mod chain;
mod command;
pub mod conf;
mod daemon;
mod disk;
pub mod drill;
mod fabric;
pub mod find;
pub mod inspect;
pub mod kubernetes;
pub mod leases;
mod mounts;
mod need;
mod node;
pub mod oci;
pub mod overlay;
mod plugins;
mod pod;
pub mod podman;
pub mod probe;
mod processes;
pub mod report;
mod runner;
mod snapshot;
pub mod soak;
mod space;
pub mod wait;
pub mod whole_chain;

pub use command::{Command, Output};
pub use daemon::{Daemon, Work};
pub use disk::Disk;
pub use fabric::Fabric;
pub use need::Need;
pub use node::Node;
pub use plugins::{Call, Effect, Fault, Plugins, Reply, Trace, with_prev};
pub use pod::Pod;
pub use processes::Processes;
pub use runner::{Case, main, main_in_order};
pub use snapshot::Snapshot;
pub use space::Space;

/// What everything here returns: the lab's errors are read by people, never matched on.
pub type Result<T = ()> = anyhow::Result<T>;
