//! Which rows a change of a few peers is about.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink::Mac;

use super::Desired;
use crate::names::vtep_gateway;
use crate::node::Node;

/// Keys of rows; all others are planned as they were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Of the FDB.
    pub fdb: BTreeSet<Mac>,
    /// Of the neighbours.
    pub neighbours: BTreeSet<IpAddr>,
    /// Of the nexthops.
    pub nexthops: BTreeSet<u32>,
    /// Of the routes.
    pub routes: BTreeSet<IpNetwork>,
}

impl Touched {
    /// Takes down all rows that a peer may have in a plan.
    pub(super) fn take_down(&mut self, peer: &Node, plan: &Desired) {
        let mac = Mac::from(peer.vtep_mac);
        self.fdb.insert(mac);
        self.neighbours.insert(vtep_gateway(mac).into());
        self.routes.extend(&peer.pod_cidrs);
        let ways = peer
            .pod_cidrs
            .iter()
            .filter_map(|cidr| plan.routes.get(cidr));
        self.nexthops.extend(ways.map(|leads| leads.nexthop));
    }
}
