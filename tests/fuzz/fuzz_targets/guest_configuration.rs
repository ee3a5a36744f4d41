//! [`fuzz::guest_configuration`] behind libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::guest_configuration::run(data));
