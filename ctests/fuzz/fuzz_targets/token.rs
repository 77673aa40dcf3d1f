//! libFuzzer's door to `xcopy_fuzz::token`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| xcopy_fuzz::token::run(data));
