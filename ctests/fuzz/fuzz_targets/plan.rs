//! libFuzzer's door to `xcopy_fuzz::plan`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| xcopy_fuzz::plan::run(data));
