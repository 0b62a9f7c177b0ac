//! The daemon's configuration.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| heddle::fuzzing::config(bytes));
