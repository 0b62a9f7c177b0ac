//! The device that the default route leaves by: what a pod's packets have to fit through, and what links are put
//! on where the configuration names none.

use cni::Result;
use netlink::route::MAIN_TABLE;
use netlink::{Handle, Link, RouteFilter};

use crate::error::kernel;

/// MTU on a host without a default route, in bytes (Ethernet's).
const FALLBACK_MTU: u32 = 1500;

/// The device of the default route that counts, IPv4's first; `None` without a default route.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn device(handle: &mut Handle) -> Result<Option<Link>> {
    let main = RouteFilter {
        table: Some(MAIN_TABLE),
        ..RouteFilter::default()
    };
    let routes = handle.routes(main).map_err(kernel)?;
    let default = routes
        .iter()
        .filter(|route| route.dst.prefix() == 0)
        .min_by_key(|route| (route.dst.is_ipv6(), route.priority));
    match default.and_then(|route| route.dev) {
        Some(dev) => handle.link_by_index(dev).map_err(kernel),
        None => Ok(None),
    }
}

/// Its MTU in bytes: pods cannot send more than it carries.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn mtu(handle: &mut Handle) -> Result<u32> {
    Ok(device(handle)?.map_or(FALLBACK_MTU, |uplink| uplink.mtu))
}
