//! A datagram from the kernel, as every object that its messages may hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    netlink::fuzzing::datagram(bytes);
});
