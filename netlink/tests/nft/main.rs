//! What transactions make of the ruleset, as `nft` sees it, and what is read of it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod atomic;
mod elements;
mod lists;
mod rules;
#[path = "../common/sandbox.rs"]
mod sandbox;
mod text;
mod tools;

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
            text,
            chains_hang_where_they_should,
            a_bridges_table_sees_frames,
            services_are_translated,
            elements_of_every_type_are_written,
            comments_are_shown_up_to_their_longest
        ),
        cases!(
            rules,
            addresses_are_matched,
            networks_of_every_length_are_matched,
            sets_and_maps_are_looked_up,
            what_is_known_of_a_packet_is_matched,
            what_happens_is_said
        ),
        cases!(
            atomic,
            a_refused_transaction_changes_nothing,
            each_kind_of_refusal_names_its_object,
            what_is_deleted_is_gone,
            adding_again_is_no_error_and_keeps_what_is_there,
            a_transaction_for_another_generation_is_stale,
            a_handle_speaks_to_its_own_namespace,
            more_refusals_than_the_socket_holds_are_one_error,
            nobody_waits_until_what_was_deleted_is_freed
        ),
        cases!(
            elements,
            one_is_found_by_its_key,
            they_are_listed_with_comments_and_values,
            keys_say_what_they_are,
            thousands_are_one_transaction
        ),
        cases!(
            lists,
            a_chain_that_drops_says_so,
            chains_are_those_of_the_table,
            uses_are_rules_and_jumps,
            rules_of_others_are_recognised,
            rules_come_in_their_order_with_comments,
            a_thousand_rules_and_chains_are_listed
        ),
    ];
    sandbox::main(cases.concat(), &["nft"])
}
