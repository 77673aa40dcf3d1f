//! `xcopy copy`: what is copied, and where.

mod common;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use common::*;

const LENGTH: usize = 3 * 1024 * 1024 + 777;

#[test]
fn a_new_file_holds_the_source() {
    let (_dir, src, dst) = with_source(LENGTH);
    let output = copy(&["--verify"], &src, &dst);
    expect(&output, 0);
    assert!(out(&output).starts_with("copied 3.0"), "{}", told(&output));
    assert_eq!(fs::read(&dst).unwrap(), fs::read(&src).unwrap());
    assert_eq!(fs::metadata(&dst).unwrap().permissions().mode() & 0o111, 0);
}

/// The library opens the files itself, so it may go past the page cache where the
/// bytes have to reach the disk anyway: a third of the processor's time.
#[test]
fn a_durable_copy_leaves_no_pages_behind() {
    const BYTES: usize = 8 << 20;
    let (dir, src, dst) = with_source(BYTES);
    let said = |name: &str, args: &[&str], path: &std::path::Path| {
        let output = Command::new(name).args(args).arg(path).output();
        output.map(|output| out(&output).trim().to_owned())
    };
    let system = said("stat", &["-f", "-c", "%T"], dir.path()).expect("stat runs");
    if !["ext2/ext3", "xfs", "btrfs"].contains(&system.as_str()) {
        println!("SKIP: {system} has no disk to go to; set TMPDIR");
        return;
    }
    for options in [&["--durable", "--quiet"][..], &["--quiet"]] {
        expect(&copy(options, &src, &dst), 0);
        let cached = match said("fincore", &["-n", "-b", "-o", "RES"], &dst) {
            Ok(cached) => cached.parse::<usize>().expect("a number of bytes"),
            Err(error) => return println!("SKIP: fincore (util-linux): {error}"),
        };
        let durable = options.contains(&"--durable");
        assert_eq!(cached < BYTES / 8, durable, "{options:?}: {cached}");
        fs::remove_file(&dst).unwrap();
    }
}

#[test]
fn a_longer_and_a_shorter_file_get_the_sources_length() {
    for before in [0, 1000, LENGTH - 1, LENGTH, LENGTH + 100_000] {
        let (_dir, src, dst) = with_source(LENGTH);
        fs::write(&dst, stamped("dst", 7, before)).unwrap();
        let inode = fs::metadata(&dst).unwrap().ino();
        expect(&copy(&["--quiet"], &src, &dst), 0);
        assert!(
            fs::read(&dst).unwrap() == fs::read(&src).unwrap(),
            "from {before}"
        );
        assert_eq!(fs::metadata(&dst).unwrap().ino(), inode);
    }
}

#[test]
fn with_offsets_nothing_else_is_touched() {
    let (_dir, src, dst) = with_source(LENGTH);
    for (src_offset, dst_offset, length) in [
        (0, 4096, 8192),
        (4096, 0, 65536),
        (513, 1027, 100_003),
        (0, 2_999_999, 11),
        (9, 9, 0),
    ] {
        let before = stamped("dst", 9, 3_000_000);
        fs::write(&dst, &before).unwrap();
        let args = [
            "--verify".to_owned(),
            format!("--src-offset={src_offset}"),
            format!("--dst-offset={dst_offset}"),
            format!("--length={length}"),
        ];
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        expect(&copy(&args, &src, &dst), 0);
        let mut wanted = before;
        let data = &stamped("src", 1, LENGTH)[src_offset..src_offset + length];
        wanted.resize(wanted.len().max(dst_offset + length), 0);
        wanted[dst_offset..dst_offset + length].copy_from_slice(data);
        assert!(
            fs::read(&dst).unwrap() == wanted,
            "{src_offset} {dst_offset} {length}"
        );
    }
}

#[test]
fn a_piece_never_shortens_what_it_is_copied_into() {
    let rest = LENGTH - (1 << 20);
    for (args, from, at, length) in [
        (&["--src-offset", "1M"][..], 1 << 20, 0, rest),
        (&["--dst-offset", "1M"], 0, 1 << 20, LENGTH),
        // Given as 0 they are given.
        (&["--src-offset", "0"], 0, 0, LENGTH),
        (&["--dst-offset", "0"], 0, 0, LENGTH),
        (&["--length", "1M"], 0, 0, 1 << 20),
        (&["--length", "0"], 0, 0, 0),
    ] {
        let (_dir, src, dst) = with_source(LENGTH);
        let mut wanted = stamped("dst", 9, 3 * LENGTH);
        fs::write(&dst, &wanted).unwrap();
        expect(&copy(args, &src, &dst), 0);
        wanted[at..at + length].copy_from_slice(&stamped("src", 1, LENGTH)[from..from + length]);
        assert!(fs::read(&dst).unwrap() == wanted, "{args:?}");
        // A new file has the piece alone.
        fs::remove_file(&dst).unwrap();
        expect(&copy(args, &src, &dst), 0);
        let made = fs::read(&dst).unwrap();
        let end = if length > 0 { at + length } else { 0 };
        assert_eq!(made.len(), end, "{args:?}");
        assert!(made[at.min(end)..] == wanted[at..at + length], "{args:?}");
    }
}

#[test]
fn a_directory_takes_the_sources_name() {
    let (dir, src, _) = with_source(5000);
    let into = dir.path().join("into");
    fs::create_dir(&into).unwrap();
    expect(&copy(&[], &src, &into), 0);
    assert_eq!(fs::read(into.join("src")).unwrap(), fs::read(&src).unwrap());
}

#[test]
fn an_empty_source_copies_nothing_and_succeeds() {
    let (_dir, src, dst) = with_source(0);
    fs::write(&dst, b"old").unwrap();
    let output = copy(&["--json", "--verify"], &src, &dst);
    expect(&output, 0);
    let report = json(&output);
    check_report(&report);
    assert_eq!(report["bytes"], 0);
    assert_eq!(fs::read(&dst).unwrap(), b"");
}

#[test]
fn holes_stay_holes() {
    let (_dir, src, dst) = with_source(0);
    let file = File::create(&src).unwrap();
    let data = stamped("src", 3, 1 << 20);
    file.write_all_at(&data, 16 << 20).unwrap();
    file.set_len(64 << 20).unwrap();
    fs::write(&dst, stamped("dst", 4, 20 << 20)).unwrap();
    expect(&copy(&["--verify"], &src, &dst), 0);
    let (from, to) = (fs::metadata(&src).unwrap(), fs::metadata(&dst).unwrap());
    assert_eq!(from.len(), to.len());
    assert!(fs::read(&dst).unwrap() == fs::read(&src).unwrap());
    assert!(
        to.blocks() < 2 * from.blocks() + 2048,
        "{} blocks",
        to.blocks()
    );
}

#[test]
fn a_hole_at_the_end_costs_no_block() {
    for (data, size) in [(1 << 20, (1 << 20) + 123), (0, 5), (4096, (9 << 20) + 4097)] {
        let (_dir, src, dst) = with_source(data);
        let file = File::options().write(true).open(&src).unwrap();
        file.set_len(size).unwrap();
        file.sync_all().unwrap();
        expect(&copy(&[], &src, &dst), 0);
        File::open(&dst).unwrap().sync_all().unwrap();
        let (from, to) = (fs::metadata(&src).unwrap(), fs::metadata(&dst).unwrap());
        assert_eq!((to.len(), to.blocks()), (size, from.blocks()));
        assert!(fs::read(&dst).unwrap() == fs::read(&src).unwrap());
    }
}

#[test]
fn a_rate_is_kept_and_the_pieces_are_one_copy() {
    let (_dir, src, dst) = with_source(LENGTH);
    let started = std::time::Instant::now();
    let output = copy(
        &["--json", "--rate", "3M", "--dst-offset", "1000"],
        &src,
        &dst,
    );
    let elapsed = started.elapsed().as_secs_f64();
    expect(&output, 0);
    let report = json(&output);
    check_report(&report);
    assert_eq!(report["bytes"], LENGTH);
    assert!((1.0..5.0).contains(&elapsed), "{elapsed} s");
    assert!(fs::read(&dst).unwrap()[1000..] == stamped("src", 1, LENGTH));
}

#[test]
fn durable_depth_and_chunk_are_taken() {
    let (_dir, src, dst) = with_source(LENGTH);
    expect(
        &copy(
            &["--durable", "--depth", "3", "--chunk", "64K", "--verify"],
            &src,
            &dst,
        ),
        0,
    );
    assert!(fs::read(&dst).unwrap() == fs::read(&src).unwrap());
}

#[test]
fn a_relative_name_in_the_working_directory_is_durable_too() {
    let (dir, src, dst) = with_source(4096);
    let output = xcopy()
        .current_dir(&dir)
        .args(["copy", "--durable", "src", "dst"])
        .output()
        .unwrap();
    expect(&output, 0);
    assert_eq!(fs::read(&dst).unwrap(), fs::read(&src).unwrap());
}

#[test]
fn the_report_names_who_copied() {
    let (_dir, src, dst) = with_source(LENGTH);
    let output = copy(&["--json", "--method", "read_write"], &src, &dst);
    expect(&output, 0);
    let report = json(&output);
    check_report(&report);
    assert_eq!(report["bytes"], LENGTH);
    assert_eq!(report["methods"].as_array().unwrap().len(), 1, "{report}");
    assert_eq!(report["methods"][0]["name"], "read_write");
    assert_eq!(report["methods"][0]["plugin"], "core");
    assert_eq!(report["methods"][0]["offloaded"], false);
    assert!(report["error"].is_null());
}

#[test]
fn the_environment_limits_methods() {
    let (_dir, src, dst) = with_source(LENGTH);
    let run = |env: &str, args: &[&str]| {
        let mut command = xcopy();
        command
            .env("XCOPY_METHODS", env)
            .args(["copy", "--json"])
            .args(args);
        command.arg(&src).arg(&dst).output().unwrap()
    };
    let output = run("read_write", &[]);
    expect(&output, 0);
    assert_eq!(json(&output)["methods"][0]["name"], "read_write");
    let output = run(
        "read_write,copy_file_range",
        &["--method", "reflink,read_write"],
    );
    expect(&output, 0);
    assert_eq!(json(&output)["methods"][0]["name"], "read_write");
    expect(&run("read_write", &["--method", "reflink"]), 2);
    expect(&run("no_such_method", &[]), 2);
    expect(&run("", &[]), 0);
}

#[test]
fn the_summary_is_not_printed_when_quiet() {
    let (_dir, src, dst) = with_source(4096);
    let output = copy(&["--quiet"], &src, &dst);
    expect(&output, 0);
    assert_eq!(told(&output), "");
}

#[test]
fn a_source_of_proc_is_not_taken_for_empty() {
    let (_dir, _, dst) = with_source(0);
    let output = copy(&[], std::path::Path::new("/proc/self/status"), &dst);
    expect(&output, 1);
    assert!(!dst.exists());
}

#[test]
fn a_disk_is_a_source_and_a_destination() {
    let (dir, src, dst) = with_source(3 << 20);
    let image = dir.path().join("image");
    let before = stamped("image", 6, 8 << 20);
    fs::write(&image, &before).unwrap();
    let Some(disk) = Loop::over(&image) else {
        return;
    };
    let disk = std::path::Path::new(&disk.0);
    expect(
        &copy(&["--dst-offset", "1M", "--verify", "--durable"], &src, disk),
        0,
    );
    let mut wanted = before;
    wanted[1 << 20..4 << 20].copy_from_slice(&stamped("src", 1, 3 << 20));
    assert!(fs::read(disk).unwrap() == wanted);
    let output = copy(&["--json", "--dst-offset", "6M"], &src, disk);
    expect(&output, 1);
    assert_eq!(json(&output)["error"]["errno"], 28);
    assert!(
        fs::read(disk).unwrap() == wanted,
        "a refused copy changed the disk"
    );
    expect(&copy(&["--verify"], disk, &dst), 0);
    assert!(fs::read(&dst).unwrap() == wanted);
    let output = xcopy().args(["info", "--json"]).arg(disk).output().unwrap();
    expect(&output, 0);
    assert_eq!(json(&output)["size"], 8 << 20);
}

#[test]
fn a_new_destination_has_its_source_s_permissions_less_the_umask() {
    let (dir, src, _) = with_source(100_000);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    for (source, expected) in [(0o600, 0o600), (0o444, 0o444), (0o4777, 0o777)] {
        fs::set_permissions(&src, fs::Permissions::from_mode(source)).unwrap();
        let dst = dir.path().join(format!("new-{source:o}"));
        let run = "umask 027; exec \"$0\" copy --quiet \"$1\" \"$2\"";
        let mut command = Command::new("sh");
        command.args(["-c", run, env!("CARGO_BIN_EXE_xcopy")]);
        expect(&command.args([&src, &dst]).output().unwrap(), 0);
        assert_eq!(mode(&dst), expected & !0o027, "{source:o}");
        assert_eq!(fs::read(&dst).unwrap(), fs::read(&src).unwrap());
    }
    // One that is there keeps its own.
    let dst = dir.path().join("there");
    fs::write(&dst, b"x").unwrap();
    fs::set_permissions(&dst, fs::Permissions::from_mode(0o640)).unwrap();
    expect(&copy(&[], &src, &dst), 0);
    assert_eq!(mode(&dst), 0o640);
}

#[test]
fn a_result_that_cannot_be_printed_is_a_failure() {
    let (dir, src, dst) = with_source(100_000);
    for to in [">&-", ">/dev/full"] {
        for options in ["--json", ""] {
            let run = format!("exec \"$0\" copy {options} \"$1\" \"$2\" {to}");
            let mut command = Command::new("sh");
            command.args(["-c", &run, env!("CARGO_BIN_EXE_xcopy")]);
            let output = command.args([&src, &dst]).output().unwrap();
            expect(&output, 1);
            assert!(
                err(&output).contains("standard output"),
                "{}",
                told(&output)
            );
            assert_eq!(fs::read(&dst).unwrap(), fs::read(&src).unwrap());
        }
    }
    for (options, to) in [
        ("--quiet", ">&-"),
        ("--json", ">/dev/null"),
        ("--json", "<>/dev/null"),
    ] {
        let run = format!("exec \"$0\" copy {options} \"$1\" \"$2\" {to}");
        let mut command = Command::new("sh");
        command.args(["-c", &run, env!("CARGO_BIN_EXE_xcopy")]);
        expect(&command.args([&src, &dst]).output().unwrap(), 0);
    }
    drop(dir);
}

#[test]
fn a_source_that_ends_early_is_named_as_such() {
    use std::process::Stdio;
    let said = |output: &std::process::Output| {
        expect(output, 1);
        let report = json(output);
        check_report(&report);
        assert_eq!(report["error"]["errno"], libc_eio(), "{report}");
        let text = report["error"]["message"].as_str().unwrap().to_owned();
        assert!(text.contains("reading SRC"), "{text}");
        assert!(text.contains("the source ended before its range"), "{text}");
        assert!(!text.contains("kernel's log"), "{text}");
    };
    let (_dir, src, dst) = with_source(20 << 20);
    let mut command = xcopy();
    command.args(["copy", "--json", "--rate", "4M"]);
    command
        .args([&src, &dst])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let begun = std::time::Instant::now();
    while fs::metadata(&dst).map_or(0, |metadata| metadata.len()) < 400_000 {
        assert!(
            begun.elapsed().as_secs() < 20,
            "the copy does not get going"
        );
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let file = File::options().write(true).open(&src).unwrap();
    file.set_len(1 << 20).unwrap();
    said(&child.wait_with_output().unwrap());
    // A file of sysfs states a page and holds less.
    let attribute = Path::new("/sys/kernel/uevent_seqnum");
    if !fs::metadata(attribute).is_ok_and(|metadata| metadata.len() >= 4096) {
        return eprintln!("SKIP: no {}: mount sysfs", attribute.display());
    }
    let to = dst.with_file_name("attribute");
    said(&copy(&["--json"], attribute, &to));
}

/// EIO, as scripts read it.
fn libc_eio() -> i32 {
    nix::errno::Errno::EIO as i32
}
