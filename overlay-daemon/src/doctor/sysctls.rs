//! Settings of the kernel that swallow packets without a word.

use netlink::nft::{Family, Table};

use super::{Finding, Patient, Verdict};
use crate::names::DEVICE;

const CHECK: &str = "sysctls";

pub(super) fn findings(patient: &mut Patient) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(forwarding(patient));
    findings.extend(reverse_path(patient));
    findings.extend(router_advertisements(patient));
    findings.extend(proxy_arp(patient));
    findings.extend(bridged_packets(patient));
    if findings.is_empty() {
        findings.push(Finding::good(
            CHECK,
            "forwarding, rp_filter, accept_ra, proxy_arp and bridge-nf-call-iptables are right",
        ));
    }
    findings
}

fn forwarding(patient: &Patient) -> Vec<Finding> {
    let cidrs = patient
        .status
        .as_ref()
        .map(|status| status.pod_cidrs.clone());
    let cidrs = cidrs.unwrap_or_default();
    let wanted = [
        ("net/ipv4/ip_forward", "IPv4", true),
        (
            "net/ipv6/conf/all/forwarding",
            "IPv6",
            cidrs.iter().any(ipnetwork::IpNetwork::is_ipv6),
        ),
    ];
    let off = wanted.into_iter().filter(|(key, _, needed)| {
        *needed && patient.sysctl(key).is_some_and(|value| value == "0")
    });
    off.map(|(key, family, _)| {
        let text = format!("{key} is 0: no {family} packet passes between pods and other hosts");
        Finding::setting(CHECK, text, key, "1")
    })
    .collect()
}

/// The stricter of a device's own value and that of `all` counts (Documentation/networking/ip-sysctl.rst); 1 is strict.
fn reverse_path(patient: &Patient) -> Option<Finding> {
    let of = |name: &str| {
        let value = patient.sysctl(&format!("net/ipv4/conf/{name}/rp_filter"))?;
        value.parse::<u8>().ok()
    };
    let strict = of(DEVICE)?.max(of("all")?) == 1;
    strict.then(|| {
        let key = format!("net/ipv4/conf/{DEVICE}/rp_filter");
        let text = format!(
            "{key} is strict: what comes by VXLAN and is answered by another way is dropped"
        );
        Finding::setting(CHECK, text, &key, "2")
    })
}

fn router_advertisements(patient: &Patient) -> Option<Finding> {
    let uplink = &patient.local.as_ref().ok()?.name;
    let key = format!("net/ipv6/conf/{uplink}/accept_ra");
    let forwards = patient.sysctl("net/ipv6/conf/all/forwarding")? == "1";
    (forwards && patient.sysctl(&key)? == "1").then(|| {
        let text = format!("{key} is 1 while the host forwards: router advertisements are ignored, and the default route they bring expires");
        Finding::setting(CHECK, text, &key, "2")
    })
}

fn proxy_arp(patient: &Patient) -> Option<Finding> {
    let key = format!("net/ipv4/conf/{}/proxy_arp", patient.config.bridge);
    (patient.sysctl(&key)? == "1").then(|| {
        let text = format!("{key} is 1: the host answers for pods' neighbours, and pods of this node miss each other");
        Finding::setting(CHECK, text, &key, "0")
    })
}

/// kube-proxy's rules see what a bridge passes on only where the kernel hands it to them.
fn bridged_packets(patient: &mut Patient) -> Option<Finding> {
    let nat = Table {
        family: Family::Ipv4,
        name: "nat",
    };
    let services = patient.nft.chain(nat, "KUBE-SERVICES").ok().flatten();
    services?;
    let key = "net/bridge/bridge-nf-call-iptables";
    match patient.sysctl(key).as_deref() {
        Some("0") => {
            let text = format!("{key} is 0: a Service that answers from a pod of the same node is not reached");
            Some(Finding::setting(CHECK, text, key, "1"))
        }
        None => Some(
            Finding::new(CHECK, Verdict::Bad, "br_netfilter is not loaded: a Service that answers from a pod of the same node is not reached")
                .with_remedy("modprobe br_netfilter"),
        ),
        Some(_) => None,
    }
}
