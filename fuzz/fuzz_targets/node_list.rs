//! The API server's Nodes, an event of the watch, the file of what it last said.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| heddle::fuzzing::node_list(bytes));
