//! libFuzzer's door to `xcopy_fuzz::scsi`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| xcopy_fuzz::scsi::run(data));
