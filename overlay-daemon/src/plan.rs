//! What the kernel should hold: a pure function of the set of nodes, this node's place, and the configuration.

mod planned;
mod touched;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink::Mac;
use netlink::link::VxlanInfo;

pub use self::planned::Planned;
pub use self::touched::Touched;
use crate::config::{Config, DirectRouting};
use crate::firewall::Firewall;
use crate::local::Local;
use crate::names::{nexthop_id, vtep_gateway, vtep_mac};
use crate::networks::overlap;
use crate::node::Node;
use crate::view::View;

/// All rows that should be there, and no other of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// The VXLAN device.
    pub device: Device,
    /// Frames to this MAC go to that underlay address.
    pub fdb: BTreeMap<Mac, IpAddr>,
    /// The MAC behind each gateway on the VXLAN device.
    pub neighbours: BTreeMap<IpAddr, Mac>,
    /// The ways to the peers, by number.
    pub nexthops: BTreeMap<u32, Hop>,
    /// Which way leads to a pod CIDR.
    pub routes: BTreeMap<IpNetwork, Leads>,
    /// The nftables table.
    pub firewall: Firewall,
    /// How each peer is reached, by name.
    pub peers: BTreeMap<String, Reach>,
    /// Whether the numbers of two nexthops would have been the same.
    is_crowded: bool,
}

/// The VXLAN device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// What cannot be changed without making it anew.
    pub info: VxlanInfo,
    /// Its MAC.
    pub mac: Mac,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// The node's own addresses on it: the base of each of its CIDRs.
    pub addresses: BTreeSet<IpNetwork>,
}

/// A way to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The gateway.
    pub gw: IpAddr,
    /// By which link.
    pub way: Way,
}

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leads {
    /// The way's number.
    pub nexthop: u32,
    /// The path's MTU in bytes, where it is less than the link's.
    pub mtu: Option<u32>,
}

/// By which link a packet leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The VXLAN device.
    Vxlan,
    /// The uplink: the peer is in the same layer 2 network.
    Direct,
}

/// How a peer is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// The way of each of its CIDRs, in their order; none where there is no way.
    pub ways: Vec<(IpNetwork, Way)>,
    /// The underlay address it is reached at.
    pub endpoint: Option<IpAddr>,
    /// The largest packet in bytes that fits every one of the ways and a pod's interface.
    pub mtu: Option<u32>,
    /// Why not all of its CIDRs are reached.
    pub problem: Option<String>,
}

/// Plans for `view` as this node, `own`, sees it. Nodes with this node's name are not peers.
pub fn plan(view: &View, own: &Node, local: &Local, config: &Config) -> Desired {
    let mut desired = Desired {
        device: device(own, local, config),
        fdb: BTreeMap::new(),
        neighbours: BTreeMap::new(),
        nexthops: BTreeMap::new(),
        routes: BTreeMap::new(),
        firewall: Firewall::new(own, config),
        peers: BTreeMap::new(),
        is_crowded: false,
    };
    for peer in view.nodes().filter(|node| node.name != own.name) {
        let reach = desired.add(peer, own, local, config);
        desired.peers.insert(peer.name.clone(), reach);
    }
    for (name, why) in view.conflicts() {
        let problem = Some(why.to_owned());
        desired.peers.entry(name.to_owned()).or_default().problem = problem;
    }
    desired
}

fn device(own: &Node, local: &Local, config: &Config) -> Device {
    let base = |cidr: &IpNetwork| {
        let length = if cidr.is_ipv4() { 32 } else { 128 };
        IpNetwork::new(cidr.network(), length).ok()
    };
    Device {
        info: VxlanInfo {
            vni: config.vni,
            local: local.vtep(),
            port: config.vxlan_port,
            learning: false,
        },
        mac: Mac::from(vtep_mac(&own.name)),
        mtu: local.overlay_mtu(),
        addresses: own.pod_cidrs.iter().filter_map(base).collect(),
    }
}

impl Reach {
    /// The CIDRs to which there is a way.
    pub fn cidrs(&self) -> impl Iterator<Item = &IpNetwork> {
        self.ways.iter().map(|(cidr, _)| cidr)
    }

    /// The first thing that is wrong is the one to begin with.
    fn fail(&mut self, why: String) {
        self.problem.get_or_insert(why);
    }
}

impl Desired {
    fn add(&mut self, peer: &Node, own: &Node, local: &Local, config: &Config) -> Reach {
        let mut reach = Reach::default();
        // One VXLAN device speaks one family: that of this node's own endpoint.
        let same_family = |ip: &&IpAddr| {
            local
                .vtep()
                .is_some_and(|vtep| vtep.is_ipv4() == ip.is_ipv4())
        };
        let vtep = peer.endpoints.iter().find(same_family).copied();
        reach.endpoint = vtep;
        if let Some(ip) = peer
            .endpoints
            .iter()
            .find(|ip| local.endpoints.contains(ip))
        {
            reach.fail(format!(
                "its underlay address {ip} is this node's own: give each node its own"
            ));
            return reach;
        }
        self.firewall.accept(&peer.endpoints);
        for cidr in &peer.pod_cidrs {
            if let Some(ip) = local.endpoints.iter().find(|ip| cidr.contains(**ip)) {
                reach.fail(format!(
                    "its pod CIDR {cidr} contains this node's own address {ip} on the underlay"
                ));
                continue;
            }
            if let Some(mine) = own.pod_cidrs.iter().find(|mine| overlap(**mine, *cidr)) {
                reach.fail(format!(
                    "its pod CIDR {cidr} overlaps this node's own {mine}"
                ));
                continue;
            }
            let direct = peer
                .endpoints
                .iter()
                .find(|ip| ip.is_ipv4() == cidr.is_ipv4() && local.is_on_link(**ip))
                .filter(|_| config.direct_routing != DirectRouting::Never);
            let hop = match (direct, vtep) {
                (Some(gw), _) => Hop {
                    gw: *gw,
                    way: Way::Direct,
                },
                (None, _) if config.direct_routing == DirectRouting::Always => {
                    reach.fail(format!(
                        "\"direct_routing\" is \"always\", but no address of it is on-link for {cidr} at {}",
                        local.name
                    ));
                    continue;
                }
                (None, Some(endpoint)) => self.vxlan_hop(Mac::from(peer.vtep_mac), endpoint),
                (None, None) => {
                    let family = if local.vtep().is_some_and(|vtep| vtep.is_ipv6()) {
                        "IPv6"
                    } else {
                        "IPv4"
                    };
                    reach.fail(format!(
                        "it has no {family} address on the underlay, and this node's VXLAN is {family}"
                    ));
                    continue;
                }
            };
            let id = self.number(&peer.name, hop);
            self.nexthops.insert(id, hop);
            let mtu = match (hop.way, vtep) {
                (Way::Direct, _) => local.path_mtu(hop.gw),
                (Way::Vxlan, Some(endpoint)) => local.overlay_path_mtu(endpoint),
                (Way::Vxlan, None) => None,
            };
            self.routes.insert(*cidr, Leads { nexthop: id, mtu });
            reach.ways.push((*cidr, hop.way));
            let mtu = mtu.unwrap_or(local.overlay_mtu()).min(local.overlay_mtu());
            reach.mtu = reach.mtu.min(Some(mtu)).or(Some(mtu));
        }
        reach.ways.sort_by_key(|(cidr, _)| *cidr);
        reach
    }

    fn vxlan_hop(&mut self, mac: Mac, endpoint: IpAddr) -> Hop {
        let gw = IpAddr::from(vtep_gateway(mac));
        self.fdb.insert(mac, endpoint);
        self.neighbours.insert(gw, mac);
        Hop {
            gw,
            way: Way::Vxlan,
        }
    }

    /// The nexthop's number: from the peer's name, the next free one where two names share it.
    fn number(&mut self, name: &str, hop: Hop) -> u32 {
        let way = match (hop.way, hop.gw) {
            (Way::Vxlan, _) => "vxlan",
            (Way::Direct, IpAddr::V4(_)) => "direct4",
            (Way::Direct, IpAddr::V6(_)) => "direct6",
        };
        let mut id = nexthop_id(name, way);
        while self.nexthops.get(&id).is_some_and(|other| *other != hop) {
            self.is_crowded = true;
            id += 1;
        }
        id
    }
}
