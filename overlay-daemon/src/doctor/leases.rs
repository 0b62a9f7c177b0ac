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
    findings.extend(full(patient, &inventory));
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

/// New pods get no address.
fn full(patient: &Patient, inventory: &Inventory) -> Option<Finding> {
    let room = patient.status.as_ref().ok()?.room();
    let leased = inventory.leases.iter();
    let leased = leased.filter(|lease| lease.address.is_ipv4()).count() as u64;
    (room > 0 && leased >= room).then(|| {
        Finding::bad(
            CHECK,
            format!("all {room} IPv4 addresses of this node are leased: the next pod gets none"),
            "heddle gc removes what pods have left; if nothing is left over, drain some pods: kubectl cordon NODE",
        )
    })
}

fn name(all: &[String]) -> String {
    let more = if all.len() > NAMED { " …" } else { "" };
    format!("{}{more}", all[..all.len().min(NAMED)].join(" "))
}
