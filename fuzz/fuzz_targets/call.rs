//! A plugin's environment and stdin.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cni::fuzzing::call(bytes));
