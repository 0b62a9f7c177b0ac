//! Others' packet filters on the way of forwarded packets.

use std::fs;

use netlink::nft::{Family, Table};

use super::{Finding, Patient, Verdict};

const CHECK: &str = "forwarding";

pub(super) fn findings(patient: &mut Patient) -> Vec<Finding> {
    let families = [(Family::Ipv4, "iptables"), (Family::Ipv6, "ip6tables")];
    let mut findings: Vec<_> = families
        .into_iter()
        .filter_map(|(family, program)| policy(patient, family, program))
        .collect();
    findings.extend(legacy());
    if findings.is_empty() {
        findings.push(Finding::good(CHECK, "no FORWARD chain has the policy DROP"));
    }
    findings
}

/// Docker's doing, among others. An accept in a table of ours would not help: what one table drops is dropped.
fn policy(patient: &mut Patient, family: Family, program: &str) -> Option<Finding> {
    let table = Table {
        family,
        name: "filter",
    };
    let chain = patient.nft.chain(table, "FORWARD").ok().flatten()?;
    if !chain.drops {
        return None;
    }
    Some(match patient.config.ingress_policy {
        Some(_) => Finding::good(
            CHECK,
            format!("{program} drops what is forwarded, but the conflist chains the plugin firewall, which lets pods through"),
        ),
        None => Finding::new(
            CHECK,
            Verdict::Bad,
            format!("{program}'s FORWARD chain has the policy DROP: pods reach only pods of the same node"),
        )
        .with_remedy(format!("{program} -P FORWARD ACCEPT, or \"ingress_policy\" = \"open\" in the configuration")),
    })
}

/// iptables of old keeps its rules where nftables does not see them.
fn legacy() -> Option<Finding> {
    legacy_table("filter").then(|| {
        Finding::note(
            CHECK,
            "iptables-legacy has a table \"filter\", which cannot be read from here",
        )
        .with_remedy("iptables-legacy -S FORWARD | head -n 1")
    })
}

/// Whether iptables of old has a table.
pub(super) fn legacy_table(name: &str) -> bool {
    let tables = fs::read_to_string("/proc/net/ip_tables_names").unwrap_or_default();
    tables.lines().any(|table| table == name)
}
