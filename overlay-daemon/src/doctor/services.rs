//! kube-proxy's rules, without which no Service is reached.

use std::path::Path;

use netlink::nft::{Family, Table};

use super::{Finding, Patient};
use crate::config::MembershipKind;

const CHECK: &str = "services";
/// Where kube-proxy keeps its rules in the mode `iptables`, and in the mode `nftables`.
const IPTABLES: Table = Table {
    family: Family::Ipv4,
    name: "nat",
};
const NFTABLES: Table = Table {
    family: Family::Ipv4,
    name: "kube-proxy",
};
const CHAIN: &str = "KUBE-SERVICES";
const REMEDY: &str = "kubectl -n kube-system logs -l k8s-app=kube-proxy --tail 20; its pod on this node writes them when it is restarted";

pub(super) fn findings(patient: &mut Patient) -> Vec<Finding> {
    if patient.config.membership != MembershipKind::Kubernetes {
        return Vec::new();
    }
    vec![judge(patient)]
}

fn judge(patient: &mut Patient) -> Finding {
    let rules = patient.nft.rules(IPTABLES).unwrap_or_default();
    if rules.iter().any(|rule| rule.chain == CHAIN) {
        return Finding::good(CHECK, "kube-proxy has written its rules, by iptables");
    }
    let chains = patient.nft.chains(NFTABLES).unwrap_or_default();
    if !chains.is_empty() {
        return Finding::good(CHECK, "kube-proxy has written its rules, by nftables");
    }
    if Path::new("/proc/sys/net/ipv4/vs").is_dir()
        && matches!(patient.route.link("kube-ipvs0"), Ok(Some(_)))
    {
        return Finding::good(CHECK, "kube-proxy has its Services in IPVS");
    }
    if super::forwarding::legacy_table("nat") {
        return Finding::note(
            CHECK,
            "iptables-legacy has a table \"nat\", which cannot be read from here",
        )
        .with_remedy(format!("iptables-legacy -t nat -S {CHAIN} | head"));
    }
    let chain = patient.nft.chain(IPTABLES, CHAIN).ok().flatten();
    let text = match chain {
        Some(_) => {
            format!("kube-proxy's chain {CHAIN} is empty: no Service is reached from this node")
        }
        None => "there is no rule of kube-proxy's: no Service is reached from this node".to_owned(),
    };
    Finding::bad(CHECK, text, REMEDY)
}
