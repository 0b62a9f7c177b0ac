//! From the host's route to the other host: nexthop, neighbour, FDB, VXLAN, and what the probes say of the way.

use std::net::IpAddr;

use netlink::Link;

use super::refused::refused;
use super::{Hop, Step, Tracer};
use crate::names::{DEVICE, PROTOCOL};

const PUT_BACK: &str = "heddle status: the daemon puts it back within a second when it runs";

/// How a packet leaves the host.
pub(super) struct Way {
    /// Where it goes.
    pub dst: IpAddr,
    /// By which link.
    pub dev: Link,
    /// The gateway.
    pub gw: Option<IpAddr>,
    /// Number of the nexthop object.
    pub nexthop: Option<u32>,
}

impl Tracer<'_> {
    /// To the peer's pod, or as far as this node can see: to the next router.
    pub(super) fn travel(&mut self, way: &Way, src: IpAddr) -> Step {
        if let Some(id) = way.nexthop {
            let gw = way.gw.map_or_else(String::new, |gw| format!("via {gw} "));
            let hop = Hop::new(
                "node",
                format!("nexthop {id}"),
                format!("{gw}dev {}", way.dev.name),
            );
            self.pass(hop.owned(true))?;
        }
        let carried = if way.dev.name == DEVICE {
            self.encapsulate(way)?
        } else {
            way.dst
        };
        self.interface_below(carried)?;
        let owner = self.status.and_then(|status| {
            let mut peers = status.peers.iter();
            peers.find(|(_, peer)| peer.pod_cidrs.iter().any(|cidr| cidr.contains(way.dst)))
        });
        match owner {
            Some((name, peer)) => self.enter(way, src, name, peer),
            None => self.pass(Hop::new(
                "underlay",
                format!("{carried}"),
                "is out of the cluster: what is beyond cannot be seen from here",
            )),
        }
    }

    /// Neighbour, FDB and device; the address on the underlay that the outer packet goes to.
    fn encapsulate(&mut self, way: &Way) -> Step<IpAddr> {
        let gw = way.gw.unwrap_or(way.dst);
        let asked = self.route.neighbours(way.dev.index);
        let neighbours = self.ask("node", "neighbours", asked)?;
        let hop = Hop::new("node", format!("neighbour {gw}"), "");
        let Some(neighbour) = neighbours.iter().find(|row| row.ip == gw) else {
            self.pass(hop.blocked(format!("{DEVICE} does not know the MAC of {gw}"), PUT_BACK))?;
            return Step::Break(());
        };
        self.pass(Hop {
            what: format!("lladdr {}", neighbour.mac),
            ..hop.owned(neighbour.protocol == Some(PROTOCOL))
        })?;
        let asked = self.route.fdb(way.dev.index);
        let rows = self.ask("node", "FDB", asked)?;
        let hop = Hop::new("node", format!("FDB {}", neighbour.mac), "").owned(true);
        let Some(row) = rows.iter().find(|row| row.mac == neighbour.mac) else {
            self.pass(hop.blocked(
                format!("{DEVICE} does not know which peer has {}", neighbour.mac),
                PUT_BACK,
            ))?;
            return Step::Break(());
        };
        let endpoint = self.status.and_then(|status| {
            let mut peers = status.peers.values();
            peers
                .find(|peer| peer.pod_cidrs.iter().any(|cidr| cidr.contains(way.dst)))?
                .endpoint
        });
        let hop = Hop {
            what: format!("dst {}", row.dst),
            ..hop
        };
        self.pass(match endpoint {
            Some(endpoint) if endpoint != row.dst => hop.blocked(
                format!("the peer is at {endpoint}, not at {}", row.dst),
                PUT_BACK,
            ),
            _ => hop,
        })?;
        let (vni, port) = (self.config.vni, self.config.vxlan_port);
        self.interface("node", &way.dev, &format!("VXLAN {vni}, UDP port {port}"))?;
        Step::Continue(row.dst)
    }

    /// The route of what goes out to `to` in the end, and its link.
    fn interface_below(&mut self, to: IpAddr) -> Step {
        let found = self.route.route_to(to).ok().flatten();
        let Some(found) = found else {
            let hop = refused(&mut self.route, "underlay", to).unwrap_or_else(|| {
                let hop = Hop::new("underlay", format!("route to {to}"), "");
                hop.blocked(format!("the host has no route to {to}"), "ip route show")
            });
            return self.pass(hop);
        };
        let Some(dev) = self.link(found.dev).cloned() else {
            return Step::Break(());
        };
        let gw = found
            .gw
            .map_or_else(|| "on-link".to_owned(), |gw| format!("via {gw}"));
        self.interface("underlay", &dev, &format!("to {to}, {gw}"))
    }
}
