//! [`fuzz::console_ring`] behind libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::console_ring::run(data));
