//! Address arithmetic that the plugins share.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

/// Every IPv4 address, `0.0.0.0/0`: the destination of a default route.
pub const ANY_V4: IpNetwork = v4(Ipv4Addr::UNSPECIFIED, 0);
/// Every IPv6 address, `::/0`.
pub const ANY_V6: IpNetwork = v6(Ipv6Addr::UNSPECIFIED, 0);
/// Addresses of the host itself, which no wire may carry (RFC 1122, section 3.2.1.3).
pub const LOOPBACK_V4: IpNetwork = v4(Ipv4Addr::new(127, 0, 0, 0), 8);
/// IPv4 multicast (RFC 5771).
pub const MULTICAST_V4: IpNetwork = v4(Ipv4Addr::new(224, 0, 0, 0), 4);
/// IPv6 multicast (RFC 4291, section 2.7).
pub const MULTICAST_V6: IpNetwork = v6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8);

const fn v4(address: Ipv4Addr, prefix: u8) -> IpNetwork {
    match Ipv4Network::new_checked(address, prefix) {
        Some(network) => IpNetwork::V4(network),
        None => unreachable!(),
    }
}

const fn v6(address: Ipv6Addr, prefix: u8) -> IpNetwork {
    match Ipv6Network::new_checked(address, prefix) {
        Some(network) => IpNetwork::V6(network),
        None => unreachable!(),
    }
}

/// The first host address of the subnet that `address` stands in: its network address plus one.
pub fn first_host(address: IpNetwork) -> IpAddr {
    match address.network() {
        IpAddr::V4(network) => Ipv4Addr::from(u32::from(network).saturating_add(1)).into(),
        IpAddr::V6(network) => Ipv6Addr::from(u128::from(network).saturating_add(1)).into(),
    }
}

/// Whether the prefix leaves room for one address only, so that there is no subnet around it.
pub fn is_host(address: IpNetwork) -> bool {
    address.prefix() == if address.is_ipv4() { 32 } else { 128 }
}

/// Whether both are IPv4 or both are IPv6.
pub fn same_family(a: IpAddr, b: IpAddr) -> bool {
    a.is_ipv4() == b.is_ipv4()
}

/// `address` with its own prefix length turned into the subnet it stands in: `10.0.0.7/24` into
/// `10.0.0.0/24`.
pub fn of(address: IpNetwork) -> IpNetwork {
    // A prefix that was valid for the address is valid for its network.
    IpNetwork::new(address.network(), address.prefix()).unwrap_or(address)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn first_host_is_network_plus_one() {
        assert_eq!(
            first_host("10.1.2.77/24".parse().unwrap()).to_string(),
            "10.1.2.1"
        );
        assert_eq!(
            first_host("fd00:1::7/64".parse().unwrap()).to_string(),
            "fd00:1::1"
        );
    }

    #[test]
    fn subnet_drops_host_bits() {
        assert_eq!(
            of("10.1.2.77/24".parse().unwrap()).to_string(),
            "10.1.2.0/24"
        );
    }
}
