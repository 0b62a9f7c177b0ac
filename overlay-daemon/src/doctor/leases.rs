//! Addresses that nobody uses, and pods whose address somebody else may get.

use super::{Finding, Patient};
use crate::gc::Inventory;

const CHECK: &str = "leases";
/// More are counted, not named.
const NAMED: usize = 5;

pub(super) fn findings(patient: &mut Patient) -> Vec<Finding> {
    let inventory = match Inventory::take(&mut patient.route) {
        Ok(inventory) => inventory,
        Err(why) => return vec![Finding::note(CHECK, why)],
    };
    let all = inventory.leases.len();
    let mut findings = Vec::new();
    let unused: Vec<String> = inventory
        .unused()
        .iter()
        .map(|lease| lease.address.to_string())
        .collect();
    if !unused.is_empty() {
        let text = format!(
            "{} of {all} leases belong to no pod of this node: {}",
            unused.len(),
            name(&unused)
        );
        findings.push(Finding::bad(
            CHECK,
            text,
            "heddle gc --dry-run, then heddle gc",
        ));
    }
    let unleased: Vec<String> = inventory
        .unleased()
        .into_iter()
        .map(str::to_owned)
        .collect();
    if !unleased.is_empty() {
        let text = format!(
            "{} pods have no lease, and another may get their address: {}",
            unleased.len(),
            name(&unleased)
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
            format!("{all} leases, each of a pod that is there"),
        ));
    }
    findings
}

fn name(all: &[String]) -> String {
    let more = if all.len() > NAMED { " …" } else { "" };
    format!("{}{more}", all[..all.len().min(NAMED)].join(" "))
}
