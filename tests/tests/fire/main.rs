//! The daemon under fire: what it needs is taken from it, what it hears is false, and who talks to it means ill. It says so,
//! keeps what carries packets, and is as before when it is over.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

mod access;
mod api;
mod clock;
mod kernel;
mod memory;
mod network;
mod resources;
mod scale;
mod versions;

use std::process::ExitCode;

use lab::overlay::NEEDS;
use lab::{Case, Need, soak};

/// How long something lasts: so many seconds, or a quarter of what the long version has.
fn seconds(short: u64) -> u64 {
    soak::budget().map_or(short, |all| short.max(all.as_secs() / 4))
}

fn main() -> ExitCode {
    let case = |name, body| Case::new(name, body).needs(NEEDS);
    lab::main([
        case("a_full_disk_ends_nothing", resources::full_disk),
        case("a_damaged_state_is_waited_for", resources::damaged),
        case("no_descriptors_end_nothing", resources::no_descriptors)
            .needs([Need::Program("prlimit")]),
        case("too_little_memory_writes_no_row", memory::limited).needs([Need::Program("prlimit")]),
        case("a_memory_cgroup_writes_no_row", memory::in_a_cgroup),
        case("clocks_that_jump_between_runs", clock::jumps).needs([Need::TimeNamespace]),
        case("a_lease_outlives_a_jump_of_the_clock", clock::leases).needs([Need::TimeNamespace]),
        case("a_flooded_page_still_answers", resources::flooded),
        case("a_flood_of_events_hides_nothing", kernel::lost_events),
        case("a_flapping_uplink_is_followed", kernel::flapping),
        case("lost_datagrams_cut_nobody_off", network::lossy),
        case("a_one_way_partition_heals", network::one_way),
        case("an_api_server_that_lies_writes_no_row", api::lies),
        case("5000_updates_a_second_are_followed", api::storm),
        case("one_capability_is_enough", access::capabilities),
        case("the_socket_is_root_s_alone", access::socket),
        case("strangers_cannot_inject_over_ipv6", access::forged),
        case("a_browser_by_another_name_is_refused", access::rebinding),
        case("very_many_peers_come_back", scale::peers),
        case("two_versions_make_one_cluster", versions::mixed)
            .needs([Need::Variable(versions::BEFORE)]),
    ])
}
