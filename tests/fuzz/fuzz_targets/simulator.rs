//! [`fuzz::simulator`] behind libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::simulator::run(data));
