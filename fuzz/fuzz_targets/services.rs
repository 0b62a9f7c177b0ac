//! kube-proxy's rules, in each of their forms.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| heddle::fuzzing::services(bytes));
