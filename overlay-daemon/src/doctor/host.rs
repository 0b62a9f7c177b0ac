//! What else lives on the host and takes hold of links, routes or memory.

use std::fs;
use std::path::Path;

use netlink::RouteFilter;

use super::{Finding, Patient};
use crate::names::{DEVICE, PROTOCOL};

const CHECK: &str = "host";

pub(super) fn findings(patient: &mut Patient) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(network_manager(patient));
    findings.extend(networkd());
    findings.extend(connections(patient));
    findings.extend(overlaps(patient));
    findings.extend(bridge_ports(patient));
    if findings.is_empty() {
        findings.push(Finding::good(
            CHECK,
            "nothing else takes hold of links, routes or connections",
        ));
    }
    findings
}

/// Whether any of the files of a configuration with drop-ins says this.
fn says(main: &str, directories: &[&str], wanted: impl Fn(&str) -> bool) -> bool {
    let files = directories
        .iter()
        .filter_map(|directory| fs::read_dir(directory).ok());
    let files = files.flatten().filter_map(|entry| Some(entry.ok()?.path()));
    std::iter::once(Path::new(main).to_path_buf())
        .chain(files)
        .filter_map(|file| fs::read_to_string(file).ok())
        .any(|text| text.lines().map(str::trim).any(&wanted))
}

fn network_manager(patient: &Patient) -> Option<Finding> {
    if !Path::new("/run/NetworkManager").is_dir() {
        return None;
    }
    let spared = |line: &str| line.starts_with("unmanaged-devices") && line.contains("heddle");
    let directories = [
        "/etc/NetworkManager/conf.d",
        "/run/NetworkManager/conf.d",
        "/usr/lib/NetworkManager/conf.d",
    ];
    if says(
        "/etc/NetworkManager/NetworkManager.conf",
        &directories,
        spared,
    ) {
        return None;
    }
    let bridge = &patient.config.bridge;
    Some(
        Finding::note(CHECK, "NetworkManager runs and may take addresses and routes off our links").with_remedy(format!(
            "printf '[keyfile]\\nunmanaged-devices=interface-name:{bridge};interface-name:{DEVICE};interface-name:veth*\\n' >/etc/NetworkManager/conf.d/heddle.conf && nmcli general reload"
        )),
    )
}

fn networkd() -> Option<Finding> {
    if !Path::new("/run/systemd/netif/links").is_dir() {
        return None;
    }
    let spared = |line: &str| {
        line.replace(' ', "")
            .eq_ignore_ascii_case("ManageForeignRoutes=no")
    };
    let directories = [
        "/etc/systemd/networkd.conf.d",
        "/run/systemd/networkd.conf.d",
        "/usr/lib/systemd/networkd.conf.d",
    ];
    if says("/etc/systemd/networkd.conf", &directories, spared) {
        return None;
    }
    Some(
        Finding::note(CHECK, "systemd-networkd runs and removes routes that it did not make, whenever it is restarted").with_remedy(
            "mkdir -p /etc/systemd/networkd.conf.d && printf '[Network]\\nManageForeignRoutes=no\\n' >/etc/systemd/networkd.conf.d/heddle.conf && systemctl restart systemd-networkd",
        ),
    )
}

fn connections(patient: &Patient) -> Option<Finding> {
    let figure = |key: &str| patient.sysctl(key)?.parse::<u64>().ok();
    let count = figure("net/netfilter/nf_conntrack_count")?;
    let limit = figure("net/netfilter/nf_conntrack_max")?;
    (limit > 0 && count * 10 >= limit * 9).then(|| {
        Finding::bad(
            CHECK,
            format!("{count} of {limit} connections are tracked: new ones are dropped when the table is full"),
            format!("sysctl -w net.netfilter.nf_conntrack_max={}", limit * 2),
        )
    })
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
