//! [`fuzz::front_block`] behind libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::front_block::run(data));
