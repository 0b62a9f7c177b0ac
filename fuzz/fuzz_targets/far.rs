//! What comes to the port of the probes: another node's question, or its answer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| heddle::fuzzing::far(bytes));
