//! Heddle on a real Kubernetes: from `kubectl apply` to pods that talk, and back to a node as it was.

#![allow(clippy::print_stdout, reason = "the figures are what a reader wants")]

mod access;
mod drill;
mod joining;
mod leaving;
mod manifests;
mod many;
mod outage;
mod scale;
mod shaped;
mod shared;
mod traffic;
mod upgrade;

use std::process::ExitCode;

use lab::kubernetes::NEEDS;
use lab::{Case, Need};

fn main() -> ExitCode {
    let cases = [
        Case::new("apply_makes_the_nodes_ready", traffic::apply),
        Case::new("pods_reach_each_other_as_themselves", traffic::pods),
        Case::new("exec_and_logs", traffic::exec_and_logs),
        Case::new("a_service_is_balanced", traffic::service),
        Case::new("a_host_port_leads_to_its_pod", traffic::host_port),
        Case::new("annotations_shape_a_pod", shaped::annotated),
        Case::new("what_leaves_the_cluster_is_masqueraded", traffic::egress),
        Case::new("a_new_version_loses_nothing", upgrade::rolled),
        Case::new("the_condition_is_true", upgrade::condition_is_true),
        Case::new("a_quiet_cluster_is_not_written_to", drill::quiet),
        Case::new("a_missing_right_is_named", access::each_verb_missing),
        Case::new("a_hundred_pods_at_once", many::hundred),
        Case::new(
            "pods_deleted_meanwhile_leave_nothing",
            many::deleted_meanwhile,
        ),
        Case::new("the_manifests_agree", manifests::agree),
        Case::new("cleanup_leaves_nothing", leaving::leaves_nothing),
        Case::new("faults_of_a_cluster_are_named_first", drill::faults),
        Case::new("a_drained_node_changes_no_other", joining::drained),
        Case::new("a_reboot_without_the_api_server", outage::api_server_away),
        Case::new("a_node_joins_again_as_another", joining::joins_again),
    ];
    let without_cluster = [
        Case::new("five_thousand_nodes", scale::five_thousand_nodes).needs([
            Need::Heddle,
            Need::HeddleCni,
            Need::Link("vxlan"),
        ]),
    ];
    let cases = cases.map(|case| case.needs(NEEDS));
    let ended = lab::main_in_order(without_cluster.into_iter().chain(cases));
    shared::end();
    ended
}
