//! libFuzzer's door to `xcopy_fuzz::names`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| xcopy_fuzz::names::run(data));
