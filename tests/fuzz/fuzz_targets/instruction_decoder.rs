//! [`fuzz::instruction_decoder`] behind libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::instruction_decoder::run(data));
