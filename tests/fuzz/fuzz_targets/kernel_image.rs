//! [`fuzz::kernel_image`] behind libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::kernel_image::run(data));
