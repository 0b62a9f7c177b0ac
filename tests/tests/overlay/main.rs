//! The overlay on real kernels: who reaches whom, what is put right by itself, what a restart costs.
#![allow(clippy::unwrap_used)]

mod bad_input;
mod check;
mod doctor;
mod drill;
mod events;
mod fast_path;
mod gossip;
mod healing;
mod page;
mod restarts;
mod seeing;
mod trace;
mod traffic;

use std::process::ExitCode;

use lab::overlay::NEEDS;
use lab::{Case, Need};

fn main() -> ExitCode {
    let case = |name, body| Case::new(name, body).needs(NEEDS);
    lab::main([
        case("every_pod_reaches_every_pod", traffic::every_pair),
        case(
            "what_crosses_the_router_is_vxlan",
            traffic::vxlan_on_the_wire,
        ),
        case("egress_is_masqueraded_but_for_exclusions", traffic::egress),
        case("nodes_and_pods_reach_each_other", traffic::nodes_and_pods),
        case(
            "an_ipv6_underlay_carries_both_families",
            traffic::ipv6_underlay,
        ),
        case("a_narrow_path_has_its_own_mtu", traffic::narrow_path),
        case("strangers_cannot_inject", traffic::strangers),
        case("the_fast_path_carries_connections", fast_path::carries),
        case(
            "the_fast_path_leaves_the_rest_alone",
            fast_path::leaves_alone,
        ),
        case(
            "without_rights_there_is_no_fast_path",
            fast_path::without_rights,
        ),
        case("each_row_heals", healing::each),
        case("the_device_heals", healing::device),
        case("the_uplink_heals", healing::uplink),
        case("others_rows_are_untouched", healing::others),
        case("members_come_and_go", healing::members),
        case("rows_heal_while_members_change", healing::meanwhile),
        case("killed_daemons_lose_no_packet", restarts::killed),
        case("killed_gossipers_lose_no_packet", restarts::killed_gossip),
        case(
            "an_unchanged_restart_writes_nothing",
            restarts::writes_nothing,
        ),
        case(
            "the_plugin_passes_on_what_the_daemon_knows",
            seeing::through_the_plugin,
        ),
        case("each_fault_is_named_first", drill::each),
        case("each_fault_of_gossip_is_named_first", drill::gossip),
        case("doctor_mends_what_is_safe", doctor::fixes),
        case("doctor_sees_faults_elsewhere", doctor::elsewhere),
        case("a_trace_shows_every_hop", trace::every_way),
        case("a_trace_ends_where_the_packet_does", trace::every_fault),
        case(
            "a_trace_knows_the_other_nodes_part",
            trace::far::every_fault,
        ),
        case(
            "marked_packets_are_seen_up_to_where_they_are_lost",
            trace::live::each,
        ),
        case("a_trace_is_quick_with_1000_peers", trace::many::peers),
        case(
            "a_trace_follows_services_in_every_form",
            trace::service::every_form,
        )
        .needs([
            Need::Program("iptables-nft"),
            Need::Program("iptables-legacy"),
        ]),
        case(
            "a_check_reaches_everyone_and_leaves_nothing",
            check::everyone_is_reached,
        ),
        case(
            "shells_and_man_know_the_commands",
            seeing::completions_and_manual,
        ),
        case("gc_removes_what_pods_have_left", doctor::leftovers),
        case(
            "a_report_has_everything_but_secrets",
            seeing::report_without_secrets,
        ),
        case("cleanup_removes_all_and_only_ours", restarts::cleanup),
        case("gossip_finds_everyone", gossip::three_nodes),
        case(
            "a_stranger_with_another_key_is_not_heard",
            gossip::wrong_key,
        ),
        case(
            "a_claim_outlives_the_daemon_and_the_electors",
            gossip::claims,
        ),
        case("a_node_that_is_gone_is_removed", gossip::gone),
        case("a_range_that_is_too_small_is_named", gossip::exhausted),
        case("names_that_do_not_do_are_named", gossip::names),
        case("it_answers_over_http", seeing::over_http),
        case("events_name_object_and_remedy", events::told),
        case("the_page_shows_a_cluster", page::three_nodes).needs([Need::Program("chromium")]),
        case(
            "the_page_shows_200_nodes_and_runs_no_name",
            page::many_nodes,
        )
        .needs([Need::Program("chromium")]),
        case(
            "file_environment_and_flags_go_over_each_other",
            seeing::configuration,
        ),
        case("bad_configurations_are_refused", bad_input::refused),
        case(
            "missing_rights_and_taken_ports_are_named",
            bad_input::not_allowed,
        ),
        case("trouble_is_named_and_the_rest_goes_on", bad_input::degraded),
    ])
}
