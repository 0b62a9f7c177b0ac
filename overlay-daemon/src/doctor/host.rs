//! The node's own links, addresses and routes, as others may have spoilt them.

use netlink::RouteFilter;

use super::{Finding, Patient};
use crate::names::PROTOCOL;

const CHECK: &str = "host";

pub(super) fn findings(patient: &mut Patient) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(duplicates(patient));
    findings.extend(overlaps(patient));
    findings.extend(bridge_ports(patient));
    if findings.is_empty() {
        findings.push(Finding::good(
            CHECK,
            "no foreign route, no duplicate address; the bridge's ports are up and open",
        ));
    }
    findings
}

/// What IPv6 found by itself (RFC 4862, 5.4): the kernel does not use such an address.
fn duplicates(patient: &mut Patient) -> Vec<Finding> {
    let addresses = patient.route.addresses(None).unwrap_or_default();
    let links = patient.route.links().unwrap_or_default();
    let name = |index| {
        links
            .iter()
            .find(|link| link.index == index)
            .map(|link| &link.name)
    };
    let duplicate = addresses.iter().filter(|address| address.duplicate);
    let named = duplicate.filter_map(|address| Some((address.network, name(address.index)?)));
    named
        .map(|(network, name)| {
            Finding::bad(
                CHECK,
                format!(
                    "{} on {name} is used by somebody else as well, and so not used here",
                    network.ip()
                ),
                format!(
                    "give this node another address; then ip address delete {network} dev {name}"
                ),
            )
        })
        .collect()
}

/// Another's route into a peer's pod CIDR that counts more than ours.
fn overlaps(patient: &mut Patient) -> Vec<Finding> {
    let Ok(status) = &patient.status else {
        return Vec::new();
    };
    let Ok(routes) = patient.route.routes(RouteFilter {
        table: Some(netlink::route::MAIN_TABLE),
        ..RouteFilter::default()
    }) else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    for (name, peer) in &status.peers {
        for cidr in &peer.pod_cidrs {
            let stolen = routes.iter().find(|route| {
                route.protocol != Some(PROTOCOL)
                    && route.dst.is_ipv4() == cidr.is_ipv4()
                    && route.dst.prefix() >= cidr.prefix()
                    && cidr.contains(route.dst.network())
            });
            if let Some(route) = stolen {
                findings.push(Finding::bad(
                    CHECK,
                    format!(
                        "a route to {} that is not ours takes packets for {name}'s pods ({cidr})",
                        route.dst
                    ),
                    format!("ip route show {}; remove it where it comes from", route.dst),
                ));
            }
        }
    }
    findings
}

/// Pods that the bridge keeps apart without the conflist having said so.
fn bridge_ports(patient: &mut Patient) -> Vec<Finding> {
    let Ok(Some(bridge)) = patient.route.link(&patient.config.bridge) else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    if !bridge.up {
        findings.push(Finding::bad(
            CHECK,
            format!(
                "{} is down: no pod of this node reaches anything",
                bridge.name
            ),
            format!("ip link set dev {} up", bridge.name),
        ));
    }
    let links = patient.route.links().unwrap_or_default();
    for link in links
        .iter()
        .filter(|link| link.master == Some(bridge.index))
    {
        if link.port.as_ref().is_some_and(|port| port.isolated) {
            findings.push(Finding::bad(
                CHECK,
                format!(
                    "{} is an isolated port of {}: its pod reaches no other pod of this node",
                    link.name, bridge.name
                ),
                format!("bridge link set dev {} isolated off", link.name),
            ));
        }
        if !link.up {
            findings.push(Finding::bad(
                CHECK,
                format!("{} is down: its pod is cut off", link.name),
                format!("ip link set dev {} up", link.name),
            ));
        }
    }
    findings
}
