//! The CNI protocol, both sides of it: what a plugin needs to answer a call, and what a runtime needs to make one.
//!
//! A plugin implements [`Plugin`] and hands itself to [`run`]. Everything that comes in is checked at that door and
//! arrives as a [`Call`]; everything that goes out leaves as exactly one JSON document in the caller's version.
//! Specification: <https://github.com/containernetworking/cni/blob/main/SPEC.md>, all versions from 0.1.0 to 1.1.0.

mod args;
mod call;
mod cidr;
mod conf;
pub mod delegate;
mod door;
mod error;
mod exec;
pub mod files;
mod fold;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod identity;
mod names;
mod result;
pub mod runtime;
mod serve;
#[cfg(test)]
mod testing;
mod version;

pub use args::CniArgs;
pub use call::{Attachment, Call, Command};
pub use cidr::parse_cidr;
pub use conf::NetConf;
pub use door::Env;
pub use error::{Code, Error, Result};
pub use names::interface as check_interface_name;
pub use result::{AddResult, Dns, Interface, IpConfig, Route};
pub use serve::{Plugin, Reply, pretty, run, serve};
pub use version::Version;
