//! Forwarding between interfaces, which the host has to do for its pods. It is never switched off again: others
//! may rely on it.

use cni::Result;
use ipnetwork::IpNetwork;
use netlink::sysctl;

use crate::error::kernel;

/// The setting of each family, and whether it is IPv6's.
const SETTINGS: [(bool, &str); 2] = [
    (false, "net/ipv4/ip_forward"),
    (true, "net/ipv6/conf/all/forwarding"),
];

/// Switches forwarding on for the families of `addresses`.
///
/// # Errors
/// When a setting cannot be written.
pub fn enable(addresses: &[IpNetwork]) -> Result<()> {
    for (v6, key) in SETTINGS {
        if addresses.iter().any(|address| address.is_ipv6() == v6) {
            sysctl::ensure(key, "1").map_err(kernel)?;
        }
    }
    Ok(())
}
