//! Who has which address: the `host-local` and `static` IPAM plugins.
//!
//! Both are ordinary plugins and can be called in process as well, with the very call that their caller
//! got. They touch files under their data directory and nothing else.

mod host_local;
mod requests;
mod static_addresses;

#[cfg(any(test, fuzzing))]
pub use host_local::fuzzing;
pub use host_local::{HostLocal, Lease, Owner, leases};
pub use static_addresses::Static;
