//! Which nodes are believed. Whoever speaks for them, an API server, a member of the gossip or a file: what no node can be
//! must not become a row of the kernel.

use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use netlink::Mac;

use crate::config::Config;
use crate::node::Node;

/// The longest name of a Node (RFC 1123, subdomain).
const LONGEST_NAME: usize = 253;

/// The node with its CIDRs as routes have them, or why it is not believed.
///
/// # Errors
/// What of it no node can be, as the rest of a sentence that begins with the node's name.
pub(super) fn credible(mut node: Arc<Node>, config: &Config) -> Result<Arc<Node>, String> {
    let mac = Mac::from(node.vtep_mac);
    let [first, ..] = node.vtep_mac;
    if first & 1 != 0 || node.vtep_mac == [0; 6] {
        return Err(format!("its VTEP MAC {mac} is no address of one station"));
    }
    if let Some(ip) = node.endpoints.iter().find(|ip| !is_host(**ip)) {
        return Err(format!("its underlay address {ip} is no address of a host"));
    }
    let inside = |ip: &&IpAddr| {
        config
            .cluster_cidrs
            .iter()
            .any(|range| range.contains(**ip))
    };
    if let Some(ip) = node.endpoints.iter().find(inside) {
        return Err(format!(
            "its underlay address {ip} is one of the pods' (\"cluster_cidrs\")"
        ));
    }
    for number in 0..node.pod_cidrs.len() {
        let cidr = pod_cidr(node.pod_cidrs[number], config)?;
        // Most are as they should be, and shared with whoever told of them.
        if cidr != node.pod_cidrs[number] {
            Arc::make_mut(&mut node).pod_cidrs[number] = cidr;
        }
    }
    for v6 in [false, true] {
        let endpoints = node.endpoints.iter().filter(|ip| ip.is_ipv6() == v6);
        let cidrs = node.pod_cidrs.iter().filter(|cidr| cidr.is_ipv6() == v6);
        if endpoints.count() > 1 || cidrs.count() > 1 {
            return Err("it has two underlay addresses or two pod CIDRs of one family".into());
        }
    }
    Ok(node)
}

/// Whether this can be a node's name, which is printed on terminals as it is.
pub(super) fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    !name.is_empty() && name.len() <= LONGEST_NAME && name.chars().all(allowed)
}

fn is_host(ip: IpAddr) -> bool {
    let is_special = match ip {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast() || v4.octets()[0] == 0,
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.to_ipv4_mapped().is_some(),
    };
    !is_special && !ip.is_loopback() && !ip.is_multicast() && !ip.is_unspecified()
}

/// A pod CIDR as routes have it, without host bits.
///
/// # Errors
/// Why pods cannot have it, as the rest of a sentence that begins with the node's name.
pub(super) fn pod_cidr(cidr: IpNetwork, config: &Config) -> Result<IpNetwork, String> {
    let network = IpNetwork::new(cidr.network(), cidr.prefix()).unwrap_or(cidr);
    if network.prefix() == 0 || !is_host(network.ip()) {
        return Err(format!(
            "its pod CIDR {network} is not one that pods can have"
        ));
    }
    let mut ranges = config
        .cluster_cidrs
        .iter()
        .filter(|range| range.is_ipv4() == network.is_ipv4())
        .peekable();
    let within =
        |range: &IpNetwork| range.prefix() <= network.prefix() && range.contains(network.ip());
    match ranges.peek().is_none() || ranges.any(within) {
        true => Ok(network),
        false => Err(format!(
            "its pod CIDR {network} is not within \"cluster_cidrs\""
        )),
    }
}

#[cfg(test)]
mod tests;
