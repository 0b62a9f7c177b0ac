//! The sysctls without which packets do not flow; each is set only where it differs.

use netlink::sysctl;

use crate::local::Local;
use crate::names::DEVICE;

/// Turns forwarding on, and what goes with it. Returns what could not be set, a sentence each.
pub fn prepare(local: &Local) -> Vec<String> {
    let uplink = &local.name;
    let device = |family: &str, key: &str| format!("net/{family}/conf/{DEVICE}/{key}");
    let mut problems = Vec::new();
    let mut ensure = |key: &str, value: &str| match sysctl::ensure(key, value) {
        Ok(true) => tracing::info!("sysctl {key} = {value}"),
        Ok(false) => {}
        Err(error) if error.is_not_found() => {}
        Err(error) => problems.push(format!(
            "{error}: set it by hand, or give the daemon a writable /proc/sys"
        )),
    };
    ensure("net/ipv4/ip_forward", "1");
    // A host that forwards passes router advertisements over, and loses its default route, unless told not to.
    let accepts = sysctl::get(&format!("net/ipv6/conf/{uplink}/accept_ra"));
    if accepts.is_ok_and(|value| value.trim() == "1") {
        ensure(&format!("net/ipv6/conf/{uplink}/accept_ra"), "2");
    }
    ensure("net/ipv6/conf/all/forwarding", "1");
    ensure(&device("ipv6", "accept_ra"), "0");
    // Loose: a packet may come by VXLAN and its answer leave directly. The stricter of this and `all` would be 1.
    ensure(&device("ipv4", "rp_filter"), "2");
    problems
}
