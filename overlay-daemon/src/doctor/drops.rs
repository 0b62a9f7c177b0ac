//! What the host has just dropped, and what it is about to drop.

use super::{Finding, Patient};
use crate::drops::{CHECKSUM, CONNTRACK, REVERSE_PATH, VXLAN};
use crate::names::DEVICE;

const CHECK: &str = "drops";

pub(super) fn findings(patient: &mut Patient) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(connections(patient));
    if let Ok(status) = &patient.status {
        let dropped = status.drops.iter();
        findings.extend(dropped.filter_map(|(reason, count)| explain(patient, reason, *count)));
    }
    if findings.is_empty() {
        findings.push(Finding::good(
            CHECK,
            "the host has dropped nothing within the last ten seconds",
        ));
    }
    findings
}

fn explain(patient: &Patient, reason: &str, count: u64) -> Option<Finding> {
    let lately = "within the last ten seconds";
    let uplink = patient
        .local
        .as_ref()
        .map_or("IFACE", |local| local.name.as_str());
    Some(match reason {
        CHECKSUM => Finding::bad(
            CHECK,
            format!(
                "{count} UDP packets came with a wrong checksum {lately}: a network card or hypervisor on the way spoils them"
            ),
            format!(
                "on this node and on its peers: ethtool -K {uplink} tx off rx off; if it helps, make it permanent there"
            ),
        ),
        CONNTRACK => Finding::bad(
            CHECK,
            format!("{count} packets found no room in the table of connections {lately}"),
            "sysctl -w net.netfilter.nf_conntrack_max=N with twice the N of now; conntrack -S shows the drops",
        ),
        REVERSE_PATH => Finding::note(
            CHECK,
            format!("{count} packets were dropped by a reverse path filter {lately}"),
        )
        .with_remedy("sysctl -a -r '\\.rp_filter' | grep '= 1' shows the strict ones; 2 is loose"),
        VXLAN => Finding::note(
            CHECK,
            format!("{count} packets were lost in {DEVICE} {lately}"),
        )
        .with_remedy(format!(
            "ip -s -s link show {DEVICE}; heddle trace says which peer has no FDB entry"
        )),
        _ => return None,
    })
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
