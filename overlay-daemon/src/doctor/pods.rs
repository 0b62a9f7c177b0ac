//! The pods of this node as they are inside: their addresses, their routes, their interfaces.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cni::identity;
use ipnetwork::IpNetwork;
use netlink::netns::Netns;
use netlink::{Handle, RouteFilter};

use super::{Finding, Patient};
use crate::conflist::NETWORK;
use crate::pods;

const CHECK: &str = "pods";
const AGAIN: &str = "delete the pod, so that it is made anew";

pub(super) fn findings(patient: &mut Patient) -> Vec<Finding> {
    let pods = match all(patient) {
        Ok(pods) => pods,
        Err(why) => return vec![Finding::note(CHECK, why.to_string())],
    };
    let mut findings: Vec<_> = pods.iter().filter_map(Pod::finding).collect();
    findings.extend(twice(&pods));
    if findings.is_empty() {
        findings.push(Finding::good(
            CHECK,
            format!(
                "{} pods, each with its own address and a way out",
                pods.len()
            ),
        ));
    }
    findings
}

/// A pod by its end of the veth pair.
struct Pod {
    /// Container and interface.
    name: String,
    netns: String,
    is_up: bool,
    addresses: Vec<IpAddr>,
    /// Families that it has an address of, and no default route.
    stuck: Vec<&'static str>,
}

/// The host's end of a pod's veth pair.
struct Port {
    name: String,
    peer: Option<u32>,
}

/// What is known of pods from outside.
struct Outside {
    /// By index.
    ports: BTreeMap<u32, Port>,
    /// The bridge's.
    networks: Vec<IpNetwork>,
}

/// The pods of our network whose namespace can be found.
fn all(patient: &mut Patient) -> netlink::Result<Vec<Pod>> {
    let bridge = patient.route.link(&patient.config.bridge)?;
    let networks = match bridge {
        Some(bridge) => patient.route.addresses(Some(bridge.index))?,
        None => return Ok(Vec::new()),
    };
    let ports = patient.route.links()?.into_iter().filter_map(|link| {
        let (network, attachment) = identity::parse_mark(link.alias.as_deref()?)?;
        let port = Port {
            name: format!("{} of {}", attachment.ifname, attachment.container_id),
            peer: link.peer_index,
        };
        (network == NETWORK && link.kind.as_deref() == Some("veth")).then_some((link.index, port))
    });
    let outside = Outside {
        ports: ports.collect(),
        networks: networks.iter().map(|address| address.network).collect(),
    };
    let found = pods::namespaces()
        .filter_map(|(path, netns)| look(&netns, &path.display().to_string(), &outside).ok());
    Ok(found.flatten().collect())
}

/// Indexes are given anew in each namespace, so that those of another host's pods, where one can see them, may be equal: only
/// an address of this node's tells.
fn look(netns: &Netns, path: &str, outside: &Outside) -> netlink::Result<Vec<Pod>> {
    let mut inside = Handle::in_netns(netns)?;
    let mut pods = Vec::new();
    for link in inside.links()? {
        let port = link.peer_index.and_then(|peer| outside.ports.get(&peer));
        let Some(port) = port.filter(|port| port.peer == Some(link.index)) else {
            continue;
        };
        let addresses = inside.addresses(Some(link.index))?.into_iter();
        let addresses: Vec<IpAddr> = addresses
            .map(|address| address.network.ip())
            .filter(|ip| !matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local()))
            .collect();
        let is_ours = |ip: &IpAddr| outside.networks.iter().any(|network| network.contains(*ip));
        if !addresses.is_empty() && !addresses.iter().any(is_ours) {
            continue;
        }
        let routes = inside.routes(RouteFilter::default())?;
        let lacks = |v6: bool| {
            let has_address = addresses.iter().any(|ip| ip.is_ipv6() == v6);
            let mut defaults = routes.iter().filter(|route| route.dst.prefix() == 0);
            has_address && !defaults.any(|route| route.dst.is_ipv6() == v6)
        };
        let families = [(false, "IPv4"), (true, "IPv6")];
        let stuck = families.into_iter().filter(|(v6, _)| lacks(*v6));
        pods.push(Pod {
            name: port.name.clone(),
            netns: path.to_owned(),
            is_up: link.up,
            stuck: stuck.map(|(_, family)| family).collect(),
            addresses,
        });
    }
    Ok(pods)
}

impl Pod {
    fn finding(&self) -> Option<Finding> {
        let Self { name, netns, .. } = self;
        let text = match (self.is_up, self.addresses.is_empty(), self.stuck.first()) {
            (false, ..) => format!("{name} is down in the pod ({netns})"),
            (true, true, _) => format!("{name} has no address ({netns})"),
            (true, false, Some(family)) => {
                format!("the pod with {name} has no {family} default route ({netns})")
            }
            (true, false, None) => return None,
        };
        Some(Finding::bad(CHECK, text, AGAIN))
    }
}

/// Two pods with one address: frames for it reach now the one, now the other.
fn twice(pods: &[Pod]) -> Vec<Finding> {
    let mut owners: BTreeMap<IpAddr, Vec<&str>> = BTreeMap::new();
    for pod in pods {
        for address in &pod.addresses {
            owners.entry(*address).or_default().push(&pod.name);
        }
    }
    let twice = owners.into_iter().filter(|(_, names)| names.len() > 1);
    twice
        .map(|(address, names)| {
            Finding::bad(
                CHECK,
                format!(
                    "{address} is the address of {} pods: {}",
                    names.len(),
                    names.join(" and ")
                ),
                "delete those of them that have no lease (heddle doctor, check leases)",
            )
        })
        .collect()
}
