//! Addresses that nobody uses, and pods whose address somebody else may get.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cni::identity;
use ipam::Lease;

use super::{Finding, LEASES, Patient};
use crate::conflist::NETWORK;

const CHECK: &str = "leases";
/// More are counted, not named.
const NAMED: usize = 5;

pub(super) fn findings(patient: &mut Patient) -> Vec<Finding> {
    let directory = Path::new(LEASES).join(NETWORK);
    let leases = match ipam::leases(&directory) {
        Ok(leases) => leases,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            return vec![Finding::note(
                CHECK,
                format!("cannot read {}: {error}", directory.display()),
            )];
        }
    };
    let links = match patient.route.links() {
        Ok(links) => links,
        Err(error) => return vec![Finding::note(CHECK, error.to_string())],
    };
    let ports: BTreeMap<String, String> = links
        .into_iter()
        .filter_map(|link| Some((link.name, link.alias?)))
        .filter(|(_, alias)| identity::belongs_to(alias, NETWORK))
        .collect();
    let mut findings = Vec::new();
    let unused: Vec<_> = leases
        .iter()
        .filter(|lease| !is_used(lease, &ports))
        .collect();
    if !unused.is_empty() {
        let text = format!(
            "{} of {} leases belong to no pod of this node: {}",
            unused.len(),
            leases.len(),
            name(unused.iter().map(|lease| lease.address.to_string()))
        );
        let remedy = format!(
            "if nothing is being started just now: cd {} && rm {}",
            directory.display(),
            name(unused.iter().map(|lease| lease.address.to_string()))
        );
        findings.push(Finding::bad(CHECK, text, remedy));
    }
    let leased: BTreeSet<String> = leases
        .iter()
        .filter_map(|lease| Some(identity::host_link_name(&lease.owner.as_ref()?.0)))
        .collect();
    let unleased: Vec<_> = ports
        .keys()
        .filter(|port| !leased.contains(*port))
        .cloned()
        .collect();
    if !unleased.is_empty() {
        let text = format!(
            "{} pods have no lease, and another may get their address: {}",
            unleased.len(),
            name(unleased.iter().cloned())
        );
        findings.push(Finding::bad(
            CHECK,
            text,
            "delete these pods, so that they are made anew",
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::good(
            CHECK,
            format!("{} leases, each of a pod that is there", leases.len()),
        ));
    }
    findings
}

/// A lease of before interfaces were written down is judged by its container alone.
fn is_used(lease: &Lease, ports: &BTreeMap<String, String>) -> bool {
    let Some(owner) = &lease.owner else {
        return false;
    };
    match owner.0.ifname.is_empty() {
        false => ports.contains_key(&identity::host_link_name(&owner.0)),
        true => ports
            .values()
            .any(|alias| alias.split('/').nth(2) == Some(owner.0.container_id.as_str())),
    }
}

fn name(all: impl ExactSizeIterator<Item = String>) -> String {
    let count = all.len();
    let mut named: Vec<String> = all.take(NAMED).collect();
    if count > NAMED {
        named.push("…".into());
    }
    named.join(" ")
}
