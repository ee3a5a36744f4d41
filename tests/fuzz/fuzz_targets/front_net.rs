//! [`fuzz::front_net`] behind libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::front_net::run(data));
