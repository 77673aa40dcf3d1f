//! What is refused, with which status, and that nothing changed.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use common::*;

#[test]
fn wrong_usage_is_2_and_says_so_on_standard_error() {
    let (dir, src, dst) = with_source(4096);
    let (src, dst) = (src.to_str().unwrap(), dst.to_str().unwrap());
    let wrong: &[&[&str]] = &[
        &[],
        &["frobnicate"],
        &["copy"],
        &["copy", src],
        &["copy", src, dst, "third"],
        &["copy", "--no-such-option", src, dst],
        &["copy", "--length", "1.5G", src, dst],
        &["copy", "--length", "1KB", src, dst],
        &["copy", "--length", "-1", src, dst],
        &["copy", "--src-offset", "99999999999999999999", src, dst],
        &["copy", "--rate", "0", src, dst],
        &["copy", "--chunk", "0", src, dst],
        &["copy", "--depth", "0", src, dst],
        &["copy", "--depth", "65537", src, dst],
        &["copy", "--method", "no_such_method", src, dst],
        &["copy", "--method", "", src, dst],
        &["copy", "-", dst],
        &["copy", src, "-"],
        &["probe", src],
        &["info"],
        &["plugins", "extra"],
        &["token"],
        &["token", "create", src],
        &["token", "create", "--lifetime", "0", src, "-o", dst],
        &["token", "write", "--src-offset", "-1", src, dst],
        &["token", "release", src],
    ];
    for args in wrong {
        let output = xcopy().current_dir(&dir).args(*args).output().unwrap();
        expect(&output, 2);
        assert!(
            !err(&output).is_empty() && out(&output).is_empty(),
            "{args:?}"
        );
        let files = fs::read_dir(&dir).unwrap().count();
        assert_eq!(files, 1, "{args:?} made a file");
    }
    let output = xcopy().arg("--help").output().unwrap();
    expect(&output, 0);
    assert!(out(&output).contains("copy"));
}

#[test]
fn no_fallback_refuses_what_only_the_host_can_do() {
    let (_dir, src, dst) = with_source(4096);
    let before = stamped("dst", 2, 9999);
    let run = || {
        copy(
            &["--json", "--no-fallback", "--method", "read_write"],
            &src,
            &dst,
        )
    };
    let output = run();
    expect(&output, 1);
    let report = json(&output);
    check_report(&report);
    assert_eq!(report["bytes"], 0);
    assert_eq!(report["error"]["errno"], 95, "{report}");
    assert_eq!(report["error"]["bytes_done"], 0);
    assert!(err(&output).starts_with("xcopy: "), "{}", told(&output));
    assert!(!dst.exists(), "an empty file was left behind");
    fs::write(&dst, &before).unwrap();
    expect(&run(), 1);
    assert!(
        fs::read(&dst).unwrap() == before,
        "a refused copy changed the destination"
    );
}

#[test]
fn the_same_file_is_refused_by_every_name() {
    let (dir, src, dst) = with_source(50_000);
    let link = dir.path().join("link");
    fs::hard_link(&src, &dst).unwrap();
    std::os::unix::fs::symlink(&src, &link).unwrap();
    for other in [&src, &dst, &link, &dir.path().to_owned()] {
        let output = copy(&["--json"], &src, other);
        expect(&output, 1);
        assert!(err(&output).contains("same file"), "{}", told(&output));
        check_report(&json(&output));
    }
    assert!(fs::read(&src).unwrap() == stamped("src", 1, 50_000));
    // Pieces of one file that lie apart are copied, those that overlap are not.
    let pieces = |from: &str, to: &str, length: &str| {
        let places = ["--src-offset", from, "--dst-offset", to, "--length", length];
        copy(&[&["--json"], &places[..]].concat(), &src, &dst)
    };
    for (from, to) in [("100", "9099"), ("9099", "100"), ("5", "5")] {
        let output = pieces(from, to, "9000");
        expect(&output, 1);
        assert!(err(&output).contains("do not overlap"), "{}", told(&output));
    }
    assert!(fs::read(&src).unwrap() == stamped("src", 1, 50_000));
    let mut wanted = stamped("src", 1, 50_000);
    for (from, to, end) in [
        (100, 9100, 18_100),
        (9100, 100, 9100),
        (10_000, 50_000, 59_000),
    ] {
        expect(&pieces(&from.to_string(), &to.to_string(), "9000"), 0);
        wanted.resize(wanted.len().max(end), 0);
        wanted.copy_within(from..from + 9000, to);
        assert!(fs::read(&src).unwrap() == wanted, "{from} to {to}");
    }
}

#[test]
fn what_cannot_be_a_source_or_destination_is_told() {
    let (dir, src, dst) = with_source(4096);
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let dangling = dir.path().join("dangling");
    std::os::unix::fs::symlink(dir.path().join("nowhere"), &dangling).unwrap();
    let missing = dir.path().join("missing");
    let below = missing.join("dst");
    let slash = dir.path().join("new/");
    for (from, to) in [
        (&missing, &dst),
        (&dir.path().to_owned(), &dst),
        (&fifo, &dst),
        (&src, &fifo),
        (&src, &below),
        (&src, &dangling),
        (&src, &slash),
    ] {
        let output = copy(&["--json"], from, to);
        expect(&output, 1);
        let report = json(&output);
        check_report(&report);
        assert_eq!(report["bytes"], 0);
        assert!(err(&output).starts_with("xcopy: "), "{}", told(&output));
        assert!(!dst.exists());
    }
}

#[test]
fn offsets_beyond_the_end_are_refused_before_anything_is_made() {
    let (_dir, src, dst) = with_source(4096);
    for args in [
        ["--src-offset", "4097", "--length", "0"],
        ["--src-offset", "1", "--length", "4096"],
        ["--dst-offset", "18446744073709551615", "--length", "4096"],
    ] {
        expect(&copy(&args, &src, &dst), 1);
        assert!(!dst.exists(), "{args:?}");
    }
}

#[test]
fn a_read_only_destination_is_refused_to_an_ordinary_user() {
    let (dir, src, dst) = with_source(4096);
    let before = stamped("dst", 2, 100);
    fs::write(&dst, &before).unwrap();
    fs::set_permissions(&dst, fs::Permissions::from_mode(0o444)).unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    // The build directory may be closed to others: run a copy of the command.
    let binary = dir.path().join("xcopy");
    // Another process makes it: a write handle that a test running beside this
    // one inherits for a moment would make it "busy".
    let made = Command::new("install")
        .args(["-m", "755", env!("CARGO_BIN_EXE_xcopy")])
        .arg(&binary)
        .status()
        .unwrap();
    assert!(made.success());
    let new = dir.path().join("new");
    for to in [&dst, &new] {
        let root = nix::unistd::geteuid().is_root();
        if !root && to == &new {
            continue;
        }
        let mut command = Command::new(&binary);
        command
            .env_remove("XCOPY_METHODS")
            .arg("copy")
            .arg("--json")
            .arg(&src)
            .arg(to);
        if root {
            command.uid(65_534).gid(65_534);
        }
        let output = command.output().unwrap();
        expect(&output, 1);
        let report = json(&output);
        check_report(&report);
        assert_eq!(report["error"]["errno"], 13, "{report}");
    }
    assert!(fs::read(&dst).unwrap() == before && !new.exists());
}

#[test]
fn a_full_standard_output_is_a_failure_and_no_panic() {
    let (_dir, src, dst) = with_source(4096);
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = xcopy()
        .args(["copy", "--json"])
        .arg(&src)
        .arg(&dst)
        .stdout(full)
        .output()
        .unwrap();
    expect(&output, 1);
    assert!(
        err(&output).starts_with("xcopy: standard output"),
        "{}",
        err(&output)
    );
    assert_eq!(fs::read(&dst).unwrap(), fs::read(&src).unwrap());
}

#[test]
fn a_refusal_names_the_files_and_the_options_that_help() {
    let (dir, src, dst) = with_source(4096);
    let told = |args: &[&str]| {
        let output = copy(args, &src, &dst);
        expect(&output, 1);
        let (from, to) = (src.to_str().unwrap(), dst.to_str().unwrap());
        let words = err(&output);
        assert!(words.contains(to), "{args:?} {words}");
        assert!(!words.contains("XCOPY_"), "{args:?} {words}");
        assert!(!dst.exists(), "{args:?}");
        (words.replace(from, "").replace(to, ""), out(&output))
    };
    let (words, _) = told(&["--dst-offset", "9223372036854775807"]);
    assert!(words.contains("2^63"), "{words}");
    // What was not given is not to be left out.
    let (words, list) = told(&["--method", "null"]);
    assert!(
        words.contains("no loaded plugin") && !words.contains("--no-fallback"),
        "{words}"
    );
    assert!(words.contains("allow read_write"), "{words}");
    assert!(list.contains("null not used: no loaded plugin"), "{list}");
    assert!(
        !list.contains("slower") && !list.contains("by name"),
        "{list}"
    );
    let (words, _) = told(&["--method", "null", "--no-fallback"]);
    assert!(
        words.contains("leave out --no-fallback and allow read_write"),
        "{words}"
    );
    let token = dir.path().join("token");
    let output = xcopy()
        .args(["token", "create", "-o"])
        .arg(&token)
        .arg(&src)
        .output()
        .unwrap();
    expect(&output, 1);
    let words = err(&output);
    assert!(
        words.contains("it is a file") && words.contains("SCSI disk"),
        "{words}"
    );
    assert!(!token.exists());
}

#[test]
fn files_of_the_kernel_are_no_destination() {
    let (_dir, src, _) = with_source(4096);
    for file in [
        "/proc/version",
        "/proc/self/comm",
        "/sys/kernel/uevent_seqnum",
    ] {
        let file = Path::new(file);
        if fs::OpenOptions::new().write(true).open(file).is_err() {
            // An ordinary user is refused earlier; sysfs may be read-only.
            expect(&copy(&[], &src, file), 1);
            continue;
        }
        let output = copy(&["--json"], &src, file);
        expect(&output, 1);
        assert!(
            err(&output).contains("interface of the kernel"),
            "{}",
            told(&output)
        );
        check_report(&json(&output));
    }
}

#[test]
fn a_claimed_disk_says_how_to_write_all_the_same() {
    use std::os::unix::fs::OpenOptionsExt;
    let (dir, src, _) = with_source(4096);
    let image = dir.path().join("image");
    fs::write(&image, stamped("image", 6, 1 << 20)).unwrap();
    let Some(disk) = Loop::over(&image) else {
        return;
    };
    let held = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_EXCL)
        .open(&disk.0)
        .unwrap();
    let output = copy(&["--json"], &src, Path::new(&disk.0));
    expect(&output, 1);
    assert!(err(&output).contains("give --force"), "{}", told(&output));
    assert!(!err(&output).contains("XCOPY_"), "{}", told(&output));
    assert_eq!(json(&output)["error"]["errno"], 16);
    expect(&copy(&["--force"], &src, Path::new(&disk.0)), 0);
    // The file behind the device is the same storage under another name.
    let before = fs::read(&image).unwrap();
    let output = copy(&["--json"], &src, &image);
    expect(&output, 1);
    let device = Path::new(&disk.0).file_name().unwrap().to_str().unwrap();
    for words in ["give --force", device, image.to_str().unwrap()] {
        assert!(err(&output).contains(words), "{words}: {}", told(&output));
    }
    assert!(!err(&output).contains("XCOPY_"), "{}", told(&output));
    assert_eq!(json(&output)["error"]["errno"], 16);
    assert!(fs::read(&image).unwrap() == before);
    expect(&copy(&["--force"], &src, &image), 0);
    drop(held);
    expect(&copy(&[], &src, &image), 0);
}

#[test]
fn a_device_that_is_no_storage_is_refused() {
    let (_dir, src, _) = with_source(100_000);
    let output = copy(&["--json"], &src, Path::new("/dev/full"));
    expect(&output, 1);
    check_report(&json(&output));
}
