//! The host's own part: whether it forwards, and by which route.

use std::net::IpAddr;

use netlink::sysctl::Tree;
use netlink::{Route, RouteFilter};

use super::refused::refused;
use super::underlay::Way;
use super::{Hop, Step, Tracer};
use crate::far::look::{forwarding_key, is_forward_dropped};
use crate::names::PROTOCOL;

/// Where the host's route leads.
pub(super) enum Leads {
    /// To the host itself.
    Here,
    /// To a pod of this node.
    ToPod,
    /// To another host.
    Away(Box<Way>),
}

impl Tracer<'_> {
    /// From the bridge to the link by which the host's route leads.
    pub(super) fn through(&mut self, src: IpAddr, dst: IpAddr) -> Step<Leads> {
        // ENETUNREACH and its like are answers.
        let found = self.route.route_to(dst).unwrap_or_default();
        let Some(found) = found else {
            if let Some(hop) = refused(&mut self.route, "node", dst) {
                self.pass(hop)?;
            }
            let (reason, remedy) = self.explain_no_route(dst);
            self.pass(Hop::new("node", format!("route to {dst}"), "").blocked(reason, remedy))?;
            return Step::Break(());
        };
        if found.local {
            self.pass(Hop::new(
                "node",
                format!("address {dst}"),
                "is the node's own: arrives",
            ))?;
            return Step::Continue(Leads::Here);
        }
        if found.src != Some(src) {
            self.forwarding(dst)?;
        }
        let asked = self.route.routes(RouteFilter {
            table: Some(netlink::route::MAIN_TABLE),
            ..RouteFilter::default()
        });
        let routes = self.ask("node", "routes", asked)?;
        let best = best(&routes, dst);
        let dev = self.link(found.dev).cloned();
        let Some(dev) = dev else {
            return Step::Break(());
        };
        let ours = best.is_some_and(|route| route.protocol == Some(PROTOCOL));
        let nexthop = best.and_then(|route| route.nexthop_id);
        let gw = match nexthop {
            // The gateway of an IPv4 route may be an IPv6 address, which stands in the nexthop only.
            Some(id) => {
                let asked = self.route.nexthops(PROTOCOL);
                let all = self.ask("node", "nexthops", asked)?;
                let named = all.iter().find(|nexthop| nexthop.id == id);
                named.map(|nexthop| nexthop.gw)
            }
            None => found.gw,
        };
        let gateway = gw.map_or_else(String::new, |gw| format!("via {gw} "));
        let shown = best.map_or_else(|| format!("to {dst}"), |route| route.dst.to_string());
        let hop = Hop {
            mtu: found.mtu,
            ..Hop::new(
                "node",
                format!("route {shown}"),
                format!("{gateway}dev {}", dev.name),
            )
        };
        let hop = hop.owned(ours);
        let is_pods = dev.name == self.config.bridge
            || dev
                .alias
                .as_deref()
                .is_some_and(|alias| alias.starts_with("heddle/"));
        let is_missing = best.is_none_or(|route| route.dst.prefix() == 0);
        self.pass(if ours || is_pods || !self.is_of_the_cluster(dst) {
            hop
        } else if is_missing {
            let (reason, remedy) = self.explain_no_route(dst);
            hop.blocked(
                format!("{reason}, and the packet leaves the cluster"),
                remedy,
            )
        } else {
            hop.blocked(
                "a route that is not ours takes packets for pods of another node",
                format!("ip route show {shown}; remove it where it comes from"),
            )
        })?;
        if is_pods {
            self.interface("node", &dev, "leads to the node's pods")?;
            return Step::Continue(Leads::ToPod);
        }
        Step::Continue(Leads::Away(Box::new(Way {
            dst,
            dev,
            gw,
            nexthop,
        })))
    }

    fn forwarding(&mut self, dst: IpAddr) -> Step {
        let key = forwarding_key(dst);
        let value = Tree::new(&self.config.sysctl_dir)
            .get(key)
            .unwrap_or_default();
        let hop = Hop::new("node", format!("sysctl {key}"), "the host forwards");
        self.pass(match value.as_str() {
            "0" => hop.blocked(
                "the host does not forward",
                format!("sysctl -w {}=1", key.replace('/', ".")),
            ),
            _ => hop,
        })?;
        self.policy(dst)
    }

    /// What forwards, and what a bridge passes on where the kernel shows that to iptables, goes through its chain FORWARD.
    pub(super) fn policy(&mut self, dst: IpAddr) -> Step {
        if !is_forward_dropped(dst) || self.config.ingress_policy.is_some() {
            return Step::Continue(());
        }
        let program = match dst {
            IpAddr::V4(_) => "iptables",
            IpAddr::V6(_) => "ip6tables",
        };
        let hop = Hop::new("node", format!("{program}'s chain FORWARD"), "");
        self.pass(hop.blocked(
            "its policy is DROP, and no rule of ours lets pods through",
            format!(
                "{program} -P FORWARD ACCEPT, or \"ingress_policy\" = \"open\" in the configuration"
            ),
        ))
    }

    pub(super) fn is_of_the_cluster(&self, dst: IpAddr) -> bool {
        self.peer_with(dst).is_some()
            || self
                .config
                .cluster_cidrs
                .iter()
                .any(|range| range.contains(dst))
    }

    fn peer_with(&self, dst: IpAddr) -> Option<String> {
        let peers = self.status?.peers.iter();
        let mut owners =
            peers.filter(|(_, peer)| peer.pod_cidrs.iter().any(|cidr| cidr.contains(dst)));
        owners.next().map(|(name, _)| name.clone())
    }

    fn explain_no_route(&self, dst: IpAddr) -> (String, String) {
        let daemon = "heddle status: the daemon puts it back within a second when it runs";
        match (self.peer_with(dst), self.status) {
            (Some(name), _) => (
                format!("the route to {name}'s pods is missing"),
                daemon.into(),
            ),
            (None, _) if !self.is_of_the_cluster(dst) => (
                format!("the host has no route to {dst}"),
                "ip route add default via …".into(),
            ),
            (None, None) => (
                format!("the route to {dst}, which is of the cluster's range, is missing"),
                daemon.into(),
            ),
            (None, Some(_)) => (
                format!("{dst} is of the cluster's range, but no node that this one knows has it"),
                "heddle peers".into(),
            ),
        }
    }
}

/// The route that the kernel takes, as far as the main table says it: the longest prefix, then the lowest metric.
fn best(routes: &[Route], dst: IpAddr) -> Option<&Route> {
    let matching = routes
        .iter()
        .filter(|route| route.dst.is_ipv4() == dst.is_ipv4() && route.dst.contains(dst));
    matching.min_by_key(|route| {
        (
            u8::MAX - route.dst.prefix(),
            route.priority.unwrap_or_default(),
        )
    })
}
