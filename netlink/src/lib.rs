//! The only room that talks to the kernel: links, addresses, routes, nftables, network namespaces,
//! sysctls. Blocking, batched and typed; each verb says which `ip`, `bridge` or `nft` command it
//! equals. It knows nothing of CNI and decides nothing.
//!
//! A [`Handle`] is one netlink socket in one network namespace. Changes are [`Request`]s, made by the
//! functions of the noun they are about ([`link`], [`address`], [`route`]), and several of them travel
//! in one system call by [`Handle::execute`]. Rules are another matter, with handles and atomic
//! transactions of their own: [`nft`].

pub mod address;
mod attributes;
pub mod conntrack;
pub mod device;
mod error;
mod fdb;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod handle;
pub mod link;
mod mac;
mod monitor;
mod neighbour;
pub mod netns;
mod nexthop;
pub mod nft;
mod request;
pub mod route;
mod rule;
mod socket;
pub mod sysctl;
pub mod tap;
pub mod tc;

pub use address::Address;
pub use error::{Error, Result};
pub use fdb::FdbEntry;
pub use handle::Handle;
pub use link::{Link, LinkSettings};
pub use mac::Mac;
pub use monitor::{Event, Monitor};
pub use neighbour::Neighbour;
pub use nexthop::Nexthop;
pub use request::Request;
pub use route::{Refusal, RefusingRoute, Route, RouteFilter, RouteHop};
pub use rule::Rule;
