//! The marks by which the overlay's kernel objects are known as its own.

use netlink::Mac;
use netlink::nft::{Family, Table};
use sha2::{Digest, Sha256};

/// The VXLAN device.
pub const DEVICE: &str = "vxlan.heddle";
/// Protocol of our routes, nexthops and neighbours, beyond those of iproute2's `rt_protos`.
pub const PROTOCOL: u8 = 176;
/// The alias that `heddle-bridge` gives a bridge of its own making.
pub const BRIDGE_ALIAS: &str = "heddle";
/// Our nftables table.
pub const TABLE: Table = Table {
    family: Family::Inet,
    name: "heddle",
};

/// The MAC of a node's VTEP: always the same for one name, locally administered, of one station.
pub fn vtep_mac(node_name: &str) -> [u8; 6] {
    let [a, b, c, d, e, f] = digest(&["vtep", node_name]);
    [a & 0xfc | 0x02, b, c, d, e, f]
}

/// The link-local address that stands for a VTEP as a gateway (RFC 4291, appendix A): routes of both families may
/// lead to it.
pub fn vtep_gateway(mac: Mac) -> std::net::Ipv6Addr {
    let [a, b, c, d, e, f] = mac.bytes();
    std::net::Ipv6Addr::from([
        0xfe,
        0x80,
        0,
        0,
        0,
        0,
        0,
        0,
        a ^ 0x02,
        b,
        c,
        0xff,
        0xfe,
        d,
        e,
        f,
    ])
}

/// A number for the nexthop that leads to a node in one way; with the highest bits out of the range that people use.
pub fn nexthop_id(node_name: &str, way: &str) -> u32 {
    let [a, b, c, d, ..] = digest(&["nexthop", node_name, way]);
    u32::from_be_bytes([a & 0x3f | 0x40, b, c, d])
}

fn digest(parts: &[&str]) -> [u8; 6] {
    let digest = Sha256::digest(parts.join("\n"));
    let mut first = [0; 6];
    first.copy_from_slice(&digest[..6]);
    first
}
