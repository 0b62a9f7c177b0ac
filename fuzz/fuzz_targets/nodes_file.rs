//! Static membership's file of nodes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| heddle::fuzzing::nodes_file(bytes));
