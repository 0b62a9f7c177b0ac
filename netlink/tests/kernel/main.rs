//! What this crate asks of a real kernel, as `ip` and `bridge` see it, and what it reads of what they made.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod addresses;
mod batches;
mod fdb;
mod kinds;
mod links;
mod monitor;
mod namespaces;
mod neighbours;
mod nexthops;
mod paths;
mod ports;
mod routes;
mod rules;
#[path = "../common/sandbox.rs"]
mod sandbox;
mod settings;
mod sysctls;
mod tools;
mod waiting;

use std::process::ExitCode;

/// The cases of one module, by the names of their functions.
macro_rules! cases {
    ($module:ident, $($case:ident),*) => {
        [$((concat!(stringify!($module), "::", stringify!($case)), $module::$case as fn())),*].to_vec()
    };
}

fn main() -> ExitCode {
    let cases = [
        cases!(
            links,
            a_veth_reaches_into_another_namespace,
            a_veth_whose_peer_stays_here_says_so,
            a_name_that_is_taken_on_either_side_is_refused,
            a_bridge_is_born_down_with_its_mtu,
            a_vxlan_device_is_what_was_asked_for,
            what_it_has_carried_is_counted
        ),
        cases!(
            ports,
            vlans_are_set_or_refused_as_the_kernel_can,
            port_settings_are_made_and_left_alone
        ),
        cases!(
            settings,
            settings_of_any_link_are_changed,
            wrong_settings_are_refused_in_the_kernels_words,
            links_are_found_and_listed,
            a_pair_is_deleted_whole
        ),
        cases!(
            kinds,
            a_macvlan_is_born_elsewhere_as_asked,
            a_link_moves_and_keeps_its_other_names,
            a_name_that_is_taken_stops_a_move,
            a_tap_stays_where_it_was_made,
            kinds_are_known_or_not_and_none_is_made
        ),
        cases!(
            addresses,
            an_ipv4_address_has_its_broadcast_and_scope,
            a_route_to_the_subnet_is_made_unless_refused,
            ipv6_is_tentative_until_nobody_else_has_it,
            lists_are_those_of_one_link_or_of_all,
            a_long_list_is_whole,
            what_is_there_or_not_there_is_refused
        ),
        cases!(
            routes,
            every_attribute_reaches_the_kernel,
            what_is_not_said_is_as_for_ip,
            create_refuses_an_existing_one_of_anybody,
            replace_makes_or_replaces_and_never_doubles,
            another_path_is_added_beside_the_first,
            delete_takes_the_one_that_is_meant,
            onlink_takes_a_gateway_that_no_subnet_knows,
            a_thousand_are_listed,
            those_that_lead_nowhere_are_listed_apart
        ),
        cases!(rules, they_are_made_listed_and_deleted),
        cases!(
            paths,
            filters_let_through_what_they_say,
            a_route_by_a_nexthop_object_says_so,
            a_lookup_says_where_a_packet_would_go
        ),
        cases!(
            nexthops,
            they_are_made_listed_replaced_and_deleted,
            what_cannot_be_is_refused,
            an_ipv4_route_goes_by_an_ipv6_gateway,
            foreign_ones_are_left_alone,
            a_thousand_are_listed
        ),
        cases!(
            neighbours,
            they_are_made_replaced_and_deleted,
            only_permanent_ones_of_the_link_are_listed
        ),
        cases!(
            fdb,
            a_row_is_made_moved_and_deleted,
            rows_are_those_of_one_device,
            a_peer_of_the_other_family_is_refused,
            five_thousand_rows_are_made_and_listed
        ),
        cases!(
            monitor,
            each_kind_of_change_is_told,
            a_queue_is_seen_and_its_coming_told,
            ipv6_is_told_as_well,
            what_is_no_change_here_is_not_told,
            an_event_wakes_who_polls,
            what_was_lost_is_told_and_the_rest_goes_on,
            lost_changes_of_the_ruleset_are_told_too
        ),
        cases!(
            batches,
            one_that_fails_stops_none_of_the_others,
            of_two_failures_the_first_is_told,
            a_batch_of_failures_is_read_to_its_end,
            requests_are_carried_out_in_their_order,
            errors_say_what_the_kernel_said
        ),
        cases!(
            namespaces,
            run_comes_back_with_the_outcome,
            run_comes_back_from_a_panic,
            one_is_made_and_removed_by_its_name,
            a_handle_stays_where_it_was_opened,
            namespaces_are_told_apart,
            a_namespace_lives_as_long_as_it_is_held,
            what_is_no_network_namespace_is_refused
        ),
        cases!(
            sysctls,
            they_are_read_and_written_in_the_threads_namespace,
            ensure_writes_only_what_differs,
            a_name_with_a_dot_needs_no_escape,
            what_is_missing_or_wrong_is_named
        ),
        cases!(
            waiting,
            a_port_that_forwards_is_not_waited_for,
            a_port_that_is_down_is_given_up_in_time,
            a_port_that_comes_up_is_seen_at_once,
            the_spanning_tree_is_waited_for,
            a_flood_of_other_events_does_no_harm
        ),
    ];
    sandbox::main(cases.concat(), &["ip", "bridge", "nft"])
}
