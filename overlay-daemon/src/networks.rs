//! Networks beside each other.

use ipnetwork::IpNetwork;

/// Whether two networks have addresses in common.
pub(crate) fn overlap(a: IpNetwork, b: IpNetwork) -> bool {
    a.is_ipv4() == b.is_ipv4() && (a.contains(b.network()) || b.contains(a.network()))
}
