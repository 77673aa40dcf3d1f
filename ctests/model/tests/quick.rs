//! A short run: every pairing and every fault that this machine and user allow.
#![allow(missing_docs)]

use std::process::Command;

#[test]
fn a_short_run_passes() {
    let output = Command::new(env!("CARGO_BIN_EXE_xcopy-model"))
        .args(["--ops", "3600", "--seed", "7"])
        .output()
        .expect("the program runs");
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    assert!(output.status.success(), "{text}");
    let last = text.lines().last().unwrap_or_default();
    assert!(
        last.contains(" 0 failed") && !last.starts_with("0 passed"),
        "{last}"
    );
}

#[test]
fn wrong_options_are_told() {
    for args in [&["--ops"][..], &["--seed", "x"], &["--what"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_xcopy-model"))
            .args(args)
            .output()
            .expect("the program runs");
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains("usage"));
    }
}
