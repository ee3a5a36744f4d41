//! [`fuzz::store_ring`] behind libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::store_ring::run(data));
