//! A file of the runtime's cache of results.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cni::fuzzing::cached(bytes));
