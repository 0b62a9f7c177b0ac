//! The state file of gossip.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| heddle::fuzzing::state(bytes));
