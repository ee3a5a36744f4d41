//! [`fuzz::front_store`] behind libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::front_store::run(data));
