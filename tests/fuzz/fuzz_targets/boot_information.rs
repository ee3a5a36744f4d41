//! [`fuzz::boot_information`] behind libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::boot_information::run(data));
