//! A node, as the others need to know it.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

/// What a node tells the others about itself. Everything that the kernel is given for a peer follows from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name, unique in the cluster.
    pub name: String,
    /// Its addresses on the underlay, at most one of each family, at which it takes VXLAN.
    pub endpoints: Vec<IpAddr>,
    /// The MAC address of its VTEP.
    pub vtep_mac: [u8; 6],
    /// The pod CIDRs that it owns, at most one of each family; none while it has not been given any.
    pub pod_cidrs: Vec<IpNetwork>,
}
