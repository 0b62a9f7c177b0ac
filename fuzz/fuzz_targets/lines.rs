//! Lines of the plugins' calls; events, as the command line reads them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| heddle::fuzzing::lines(bytes));
