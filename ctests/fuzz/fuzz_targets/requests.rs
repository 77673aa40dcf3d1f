//! libFuzzer's door to `xcopy_fuzz::requests`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| xcopy_fuzz::requests::run(data));
