//! Gossip: from a stranger, and from a member.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| heddle::fuzzing::datagram(bytes));
