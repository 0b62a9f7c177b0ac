//! What the daemon itself complains about, and the paths as its probes find them.

use super::{Finding, Patient};
use crate::status::{Peer, Status};

const CHECK: &str = "daemon";
const PATHS: &str = "paths";

pub(super) fn findings(patient: &mut Patient) -> Vec<Finding> {
    let status = match &patient.status {
        Ok(status) => status,
        Err(why) => {
            return vec![Finding::bad(
                CHECK,
                why.clone(),
                "systemctl start heddle (or see its log: journalctl -u heddle, kubectl -n heddle logs)",
            )];
        }
    };
    let mut findings: Vec<_> = status
        .problems
        .iter()
        .map(|problem| Finding::new(CHECK, super::Verdict::Bad, problem.clone()))
        .collect();
    if findings.is_empty() {
        findings.push(Finding::good(
            CHECK,
            format!("runs, version {}, ready", status.version),
        ));
    }
    findings.extend(paths(status));
    findings
}

fn paths(status: &Status) -> Vec<Finding> {
    let peers = status.peers.iter();
    let mut findings: Vec<_> = peers
        .filter_map(|(name, peer)| path(name, peer, status))
        .collect();
    if findings.is_empty() {
        findings.push(Finding::good(
            PATHS,
            format!("every one of {} peers answers", status.peers.len()),
        ));
    }
    findings
}

fn path(name: &str, peer: &Peer, status: &Status) -> Option<Finding> {
    let reason = peer.reason.clone().unwrap_or_default();
    match peer.state.as_str() {
        "established" => {
            // A path that is narrower than the pods' interfaces: each new connection pays for it once.
            let (found, own) = (peer.mtu?, status.mtu?);
            (found < own).then(|| {
                Finding::note(
                    PATHS,
                    format!("{name}: packets of {found} bytes pass and larger ones do not, while pods send {own}"),
                )
                .with_remedy("set the MTU of the underlay's link to what the whole way takes: ip link set dev IFACE mtu N")
            })
        }
        "failed" => None, // Among the daemon's own problems.
        "probing" | "waiting" => Some(Finding::note(PATHS, format!("{name} is {}", peer.state))),
        state => Some(Finding::bad(
            PATHS,
            format!("{name} is {state}: {reason}"),
            format!("heddle peers; on {name}: heddle doctor"),
        )),
    }
}
