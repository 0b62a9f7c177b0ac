//! A lease, a row of the index, resolv.conf.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ipam::fuzzing::file(bytes));
