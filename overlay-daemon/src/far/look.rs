//! The answering side: what this node would do with a packet from another, read from the kernel as it is now.

use std::net::IpAddr;

use cni::identity;
use netlink::nft::{self, Family, Table};
use netlink::sysctl::Tree;
use netlink::{Handle, Link, Route, RouteFilter};

use super::{Interface, Lead, PodSeen, Question, Told};
use crate::config::Config;
use crate::gc;
use crate::names::{DEVICE, PROTOCOL};
use crate::reconciler::Report;

/// Looks; none where the kernel cannot be asked. Enters no pod.
pub fn look(config: &Config, report: &Report, question: &Question) -> Option<Told> {
    let mut route = Handle::new().ok()?;
    let bridge = route.link(&config.bridge).ok()?;
    let found = route.route_to(question.dst).ok()?;
    let lead = match found {
        None if is_refused(&mut route, question.dst) => Lead::Refused,
        None => Lead::Nowhere,
        Some(found) if found.local => Lead::Node,
        Some(found) if bridge.as_ref().is_some_and(|link| link.index == found.dev) => Lead::Pods,
        Some(_) => Lead::Elsewhere,
    };
    Some(Told {
        is_let_in: is_let_in(config, report, &mut route, question),
        lead,
        forwards: forwards(config, question.dst),
        is_forward_dropped: config.ingress_policy.is_none() && is_forward_dropped(question.dst),
        bridge: bridge.as_ref().map(interface),
        pod: pod(&mut route, question.dst),
        has_way_back: has_way_back(report, &mut route, question.src),
    })
}

fn is_refused(route: &mut Handle, dst: IpAddr) -> bool {
    let routes = route.refusing_routes().unwrap_or_default();
    routes
        .iter()
        .any(|route| route.dst.is_ipv4() == dst.is_ipv4() && route.dst.contains(dst))
}

/// Strict where the greater of `all` and the device's own is 1: then the way back has to be the way in (RFC 3704,
/// section 2.2).
fn is_let_in(config: &Config, report: &Report, route: &mut Handle, question: &Question) -> bool {
    let entry = match (question.is_vxlan, &report.local) {
        (true, _) => DEVICE,
        (false, Some(local)) => local.name.as_str(),
        (false, None) => return true,
    };
    let tree = Tree::new(&config.sysctl_dir);
    let of = |device: &str| -> u8 {
        let value = tree.get(&format!("net/ipv4/conf/{device}/rp_filter"));
        value.ok().and_then(|value| value.parse().ok()).unwrap_or(0)
    };
    if question.src.is_ipv6() || of("all").max(of(entry)) != 1 {
        return true;
    }
    let back = route.route_to(question.src).ok().flatten();
    let index = route.link(entry).ok().flatten().map(|link| link.index);
    back.map(|back| back.dev) == index
}

fn forwards(config: &Config, dst: IpAddr) -> bool {
    let value = Tree::new(&config.sysctl_dir).get(forwarding_key(dst));
    value.map_or(true, |value| value != "0")
}

/// The sysctl that lets a host forward.
pub(crate) fn forwarding_key(dst: IpAddr) -> &'static str {
    match dst {
        IpAddr::V4(_) => "net/ipv4/ip_forward",
        IpAddr::V6(_) => "net/ipv6/conf/all/forwarding",
    }
}

/// The rows of the main table that are ours lead to the pods of other nodes.
fn has_way_back(report: &Report, route: &mut Handle, src: IpAddr) -> bool {
    let mut cidrs = report.peers.values().flat_map(|reach| reach.cidrs());
    if !cidrs.any(|cidr| cidr.contains(src)) {
        return true;
    }
    let ours = RouteFilter {
        protocol: Some(PROTOCOL),
        ..RouteFilter::default()
    };
    let covers = |route: &Route| route.dst.contains(src);
    route
        .routes(ours)
        .map_or(true, |routes| routes.iter().any(covers))
}

/// Whether the policy of iptables' chain FORWARD is DROP.
pub(crate) fn is_forward_dropped(dst: IpAddr) -> bool {
    let family = match dst {
        IpAddr::V4(_) => Family::Ipv4,
        IpAddr::V6(_) => Family::Ipv6,
    };
    let table = Table {
        family,
        name: "filter",
    };
    let chain = nft::Handle::new().and_then(|mut nft| nft.chain(table, "FORWARD"));
    chain.ok().flatten().is_some_and(|chain| chain.drops)
}

fn pod(route: &mut Handle, dst: IpAddr) -> PodSeen {
    let leases = gc::leases().unwrap_or_default();
    let Some(lease) = leases.into_iter().find(|lease| lease.address == dst) else {
        return PodSeen::NotLeased;
    };
    let name = lease.owner.map(|owner| identity::host_link_name(&owner.0));
    let port = name.and_then(|name| route.link(&name).ok().flatten());
    port.map_or(PodSeen::Lease, |port| PodSeen::Port(interface(&port)))
}

fn interface(link: &Link) -> Interface {
    let mark = link.alias.as_deref().unwrap_or_default();
    Interface {
        mtu: link.mtu,
        is_up: link.up,
        // A bridge has the carrier of its ports: that they are down is said of them.
        has_carrier: link.carrier || link.bridge.is_some(),
        is_forwarding: link.port.as_ref().is_none_or(|port| port.forwarding),
        is_ours: mark.starts_with("heddle"),
    }
}
