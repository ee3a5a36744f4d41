//! [`fuzz::store_messages`] behind libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::store_messages::run(data));
