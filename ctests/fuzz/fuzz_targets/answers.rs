//! libFuzzer's door to `xcopy_fuzz::answers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| xcopy_fuzz::answers::run(data));
