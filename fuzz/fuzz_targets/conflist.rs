//! A network's list of plugins.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cni::fuzzing::conflist(bytes));
