//! Heddle on a real Kubernetes: from `kubectl apply` to pods that talk, and back to a node as it was.

#![allow(clippy::print_stdout, reason = "the figures are what a reader wants")]

mod shared;
mod traffic;

use std::process::ExitCode;

use lab::Case;
use lab::kubernetes::NEEDS;

fn main() -> ExitCode {
    let cases = [
        Case::new("apply_makes_the_nodes_ready", traffic::apply),
        Case::new("pods_reach_each_other_as_themselves", traffic::pods),
        Case::new("exec_and_logs", traffic::exec_and_logs),
        Case::new("a_service_is_balanced", traffic::service),
        Case::new("a_host_port_leads_to_its_pod", traffic::host_port),
        Case::new("what_leaves_the_cluster_is_masqueraded", traffic::egress),
    ];
    let ended = lab::main_in_order(cases.map(|case| case.needs(NEEDS)));
    shared::end();
    ended
}
