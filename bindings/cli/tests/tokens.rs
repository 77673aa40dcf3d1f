//! `xcopy token`, with the null plugin's tokens.

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Output;

use common::*;

const MIB: u64 = 1 << 20;

/// `xcopy token` with arguments.
fn token<A: AsRef<std::ffi::OsStr>>(args: &[A]) -> Output {
    xcopy().arg("token").args(args).output().unwrap()
}

/// A token of 1 MiB in a directory of its own.
fn a_token() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let name = file.to_str().unwrap();
    let made = token(&["create", "--length", "1M", "null:64M", "-o", name]);
    expect(&made, 0);
    (dir, file)
}

/// Puts `text` in place of what is as long in a token's file, and mends the checksum:
/// FNV-1a over all but its own bytes 16 to 23.
fn forge(file: &Path, from: &[u8], text: &[u8]) {
    assert_eq!(from.len(), text.len());
    let mut bytes = fs::read(file).unwrap();
    let at = bytes.windows(from.len()).position(|part| part == from);
    let at = at.expect("the text is in the token");
    bytes[at..at + text.len()].copy_from_slice(text);
    let mut sum = 0xcbf2_9ce4_8422_2325u64;
    for (index, byte) in bytes.iter().enumerate() {
        let byte = if (16..24).contains(&index) { 0 } else { *byte };
        sum = (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    bytes[16..24].copy_from_slice(&sum.to_le_bytes());
    fs::write(file, bytes).unwrap();
}

#[test]
fn tokens_that_nobody_can_make_leave_no_file() {
    let (dir, src, _) = with_source(4096);
    let file = dir.path().join("token");
    let create = || {
        let mut command = xcopy();
        command.args(["token", "create"]).arg(&src).arg("-o");
        command.arg(&file).output().unwrap()
    };
    let output = create();
    expect(&output, 1);
    assert!(err(&output).starts_with("xcopy: "), "{}", told(&output));
    for word in ["--method", "--force", "DST"] {
        assert!(!told(&output).contains(word), "{}", told(&output));
    }
    assert!(!file.exists());
    fs::write(&file, b"precious").unwrap();
    let output = create();
    expect(&output, 1);
    assert_eq!(fs::read(&file).unwrap(), b"precious");
}

#[test]
fn what_is_no_token_is_refused_and_not_printed() {
    let (dir, _, dst) = with_source(0);
    let file = dir.path().join("token");
    fs::write(&file, b"SECRET-SECRET-SECRET").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&dst, b"old").unwrap();
    let info = xcopy().args(["token", "info"]).arg(&file).output().unwrap();
    let write = xcopy()
        .args(["token", "write"])
        .arg(&file)
        .arg(&dst)
        .output()
        .unwrap();
    for output in [info, write] {
        expect(&output, 1);
        assert!(!told(&output).contains("SECRET"), "{}", told(&output));
        assert!(err(&output).contains("chmod 600"), "{}", told(&output));
        let named = format!("xcopy: {}: ", file.display());
        assert!(err(&output).contains(&named), "{}", told(&output));
    }
    assert_eq!(fs::read(&dst).unwrap(), b"old");
}

#[test]
fn a_token_makes_the_round_through_a_private_file() {
    let (_dir, file) = a_token();
    let name = file.to_str().unwrap();
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let output = token(&["info", name]);
    expect(&output, 0);
    assert!(out(&output).contains("bytes: 1048576"), "{}", told(&output));
    let output = token(&["write", name, "null:64M"]);
    expect(&output, 0);
    assert_eq!(out(&output), "wrote 1048576 bytes to null:64M\n");
    let output = token(&["release", name, "null:64M"]);
    expect(&output, 0);
    assert!(out(&output).contains("is removed"), "{}", told(&output));
    assert!(!file.exists());
    expect(&token(&["write", name, "null:64M"]), 1);
}

#[test]
fn a_part_of_a_token_is_written() {
    let (_dir, file) = a_token();
    let name = file.to_str().unwrap();
    let run = |args: &[&str]| {
        let mut all = vec!["write", "--json"];
        all.extend(args);
        all.extend([name, "null:64M"]);
        token(&all)
    };
    for (args, bytes) in [
        (&["--src-offset", "256K"][..], MIB - (256 << 10)),
        (&["--src-offset", "1020K", "--length", "4K"], 4096),
        (
            &["--durable", "--dst-offset", "63M", "--length", "512K"],
            512 << 10,
        ),
    ] {
        let output = run(args);
        expect(&output, 0);
        let report = json(&output);
        check_report(&report);
        assert_eq!(report["bytes"], bytes, "{args:?}: {report}");
        assert_eq!(report["methods"][0]["name"], "null");
    }
    for args in [
        &["--src-offset", "1M"][..],
        &["--src-offset", "2M"],
        &["--src-offset", "512K", "--length", "516K"],
        &["--length", "2M"],
    ] {
        let output = run(args);
        expect(&output, 1);
        check_report(&json(&output));
        assert!(
            err(&output).contains("stands for 1048576 bytes"),
            "{}",
            told(&output)
        );
    }
    assert!(file.exists());
}

#[test]
fn results_are_json_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let name = file.to_str().unwrap();
    let make = ["create", "--json", "--length", "1M", "null:64M", "-o", name];
    let output = token(&make);
    expect(&output, 0);
    check_report(&json(&output));
    let output = token(&["info", "--json", name]);
    expect(&output, 0);
    let info = json(&output);
    assert_eq!(info["bytes"], MIB);
    assert_eq!(
        (&info["plugin"], &info["method"]),
        (&"null".into(), &"null".into())
    );
    assert!(
        info["origin"].as_str().unwrap().ends_with(":null:64M"),
        "{info}"
    );
    assert_eq!(
        (&info["origin_offset"], &info["shows"]),
        (&0.into(), &"unknown".into())
    );
    assert!(info["created"].as_u64().unwrap() > 1_600_000_000, "{info}");
    assert!(
        info["lifetime"].is_null() && info["type"].is_u64(),
        "{info}"
    );
    let output = token(&make);
    expect(&output, 1);
    let report = json(&output);
    check_report(&report);
    assert_eq!(report["error"]["errno"], libc_eexist());
    let output = token(&["release", "--json", name, "null:64M"]);
    expect(&output, 0);
    let report = json(&output);
    check_report(&report);
    assert_eq!(report["bytes"], 0);
    assert!(!file.exists());
}

fn libc_eexist() -> i32 {
    nix::errno::Errno::EEXIST as i32
}

#[test]
fn a_release_that_fails_leaves_the_file() {
    let (dir, file) = a_token();
    let name = file.to_str().unwrap();
    let other = dir.path().join("other");
    fs::write(&other, stamped("other", 1, 4096)).unwrap();
    let output = token(&["release", name, other.to_str().unwrap()]);
    expect(&output, 1);
    assert!(file.exists());
    expect(&token(&["release", name, "/no/such/device"]), 1);
    assert!(file.exists());
}

#[test]
fn what_a_link_leads_to_is_removed_too() {
    let (dir, file) = a_token();
    let link = dir.path().join("link");
    symlink(&file, &link).unwrap();
    let output = token(&["release", link.to_str().unwrap(), "null:64M"]);
    expect(&output, 0);
    assert!(!file.exists(), "the secret stays behind the link");
}

#[test]
fn the_environment_limits_the_methods_of_tokens() {
    let (dir, file) = a_token();
    let name = file.to_str().unwrap();
    let second = dir.path().join("second");
    let second = second.to_str().unwrap();
    let run = |methods: &str, args: &[&str]| {
        let mut command = xcopy();
        command
            .env("XCOPY_METHODS", methods)
            .arg("token")
            .args(args);
        command.output().unwrap()
    };
    let create = ["create", "--length", "1M", "null:64M", "-o", second];
    for args in [
        &create[..],
        &["write", name, "null:64M"],
        &["release", name, "null:64M"],
    ] {
        let output = run("odx,read_write", args);
        expect(&output, 1);
        let words = err(&output);
        assert!(
            words.contains("XCOPY_METHODS leaves out") && words.contains("null"),
            "{args:?}: {words}"
        );
        expect(&run("no_such_method", args), 2);
    }
    assert!(file.exists() && !Path::new(second).exists());
    expect(&run("null", &create), 0);
    expect(&run("null,read_write", &["write", second, "null:64M"]), 0);
    expect(&run("read_write", &["info", name]), 0);
    expect(&run("null", &["release", second, "null:64M"]), 0);
}

#[test]
fn a_foreign_token_does_not_steer_the_terminal() {
    let (_dir, file) = a_token();
    let name = file.to_str().unwrap();
    forge(&file, b":null:64M\0", b"\x1b[2J\nage:\0");
    let output = token(&["info", name]);
    expect(&output, 0);
    let text = out(&output);
    assert!(text.contains("\\u{1b}[2J\\nage:, from byte 0"), "{text:?}");
    assert!(!text.contains('\x1b'), "{text:?}");
    assert_eq!(
        text.lines().filter(|line| line.starts_with("age:")).count(),
        1
    );
    let output = token(&["info", "--json", name]);
    expect(&output, 0);
    assert!(
        json(&output)["origin"]
            .as_str()
            .unwrap()
            .ends_with("\x1b[2J\nage:")
    );
}

#[test]
fn a_name_that_is_refused_does_not_steer_the_terminal() {
    let output = token(&["info", "/no/such\x1b[2J\nfile"]);
    expect(&output, 1);
    let text = err(&output);
    assert!(text.contains("/no/such\\u{1b}[2J\\nfile: "), "{text:?}");
    assert_eq!(text.lines().count(), 1, "{text:?}");
}

#[test]
fn a_disk_without_tokens_says_why() {
    let (dir, src, _) = with_source(1 << 20);
    let Some(disk) = Loop::over(&src) else { return };
    let file = dir.path().join("token");
    let output = token(&["create", &disk.0, "-o", file.to_str().unwrap()]);
    expect(&output, 1);
    let words = err(&output);
    assert!(
        words.contains(&format!("{}: no method can use tokens here", disk.0))
            && words.contains("is not a SCSI disk"),
        "{words}"
    );
    assert!(!file.exists());
    let (_dir, file) = a_token();
    let name = file.to_str().unwrap();
    for deed in ["write", "release"] {
        let output = token(&[deed, name, &disk.0]);
        expect(&output, 1);
        let words = err(&output);
        assert!(words.contains("name a device of plugin null"), "{words}");
    }
    assert!(file.exists());
}

#[test]
fn a_device_of_unknown_size_wants_a_length() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let name = file.to_str().unwrap();
    let output = token(&["create", "--src-offset", "64M", "null:64M", "-o", name]);
    expect(&output, 1);
    let words = err(&output);
    assert!(
        words.contains("--src-offset") || words.contains("--length"),
        "{words}"
    );
    assert!(!words.contains("DST"), "{words}");
    assert!(!file.exists());
}
