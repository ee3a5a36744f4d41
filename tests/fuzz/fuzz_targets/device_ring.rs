//! [`fuzz::device_ring`] behind libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::device_ring::run(data));
