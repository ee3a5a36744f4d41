//! [`fuzz::hypercalls`] behind libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::hypercalls::run(data));
