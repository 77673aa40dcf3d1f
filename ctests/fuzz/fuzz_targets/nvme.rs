//! libFuzzer's door to `xcopy_fuzz::nvme`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| xcopy_fuzz::nvme::run(data));
