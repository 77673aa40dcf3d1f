//! Signals and the progress bar.

mod common;

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{self, SigHandler, Signal, kill};
use nix::unistd::Pid;

use common::*;

fn send(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id() as i32), signal).expect("it runs");
}

/// Waits until some bytes have arrived: the copy is in its middle.
fn wait_for(dst: &Path, bytes: u64) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while fs::metadata(dst).map_or(0, |metadata| metadata.len()) < bytes {
        assert!(Instant::now() < deadline, "the copy does not get going");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn an_interrupt_in_mid_copy_ends_with_a_true_report() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let length = 20 << 20;
        let (_dir, src, dst) = with_source(length);
        let mut command = xcopy();
        command
            .args(["copy", "--json", "--rate", "2M"])
            .args([&src, &dst])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // Whoever runs the tests may have it ignored (nohup), and that is inherited.
        let heeds = || {
            let default = SigHandler::SigDfl;
            // SAFETY: no handler of ours is replaced.
            unsafe { signal::signal(Signal::SIGHUP, default) }?;
            Ok(())
        };
        // SAFETY: one system call, which may be made between fork and exec.
        unsafe { command.pre_exec(heeds) };
        let child = command.spawn().unwrap();
        wait_for(&dst, 300_000);
        let asked = Instant::now();
        send(&child, signal);
        let output = child.wait_with_output().unwrap();
        assert!(
            asked.elapsed() < Duration::from_secs(3),
            "{:?}",
            asked.elapsed()
        );
        expect(&output, 1);
        let report = json(&output);
        check_report(&report);
        assert_eq!(report["error"]["errno"], 125, "{report}");
        let message = report["error"]["message"].as_str().unwrap();
        assert!(message.contains(signal.as_str()), "{message}");
        let done = report["error"]["bytes_done"].as_u64().unwrap() as usize;
        assert!(done > 0 && done < length, "{report}");
        let written = fs::read(&dst).unwrap();
        assert!(written.len() >= done, "{} of {done}", written.len());
        assert!(written[..done] == stamped("src", 1, length)[..done]);
    }
}

#[test]
fn a_hangup_that_is_ignored_stays_so() {
    let (_dir, src, dst) = with_source(2 << 20);
    let mut command = std::process::Command::new("nohup");
    command
        .arg(env!("CARGO_BIN_EXE_xcopy"))
        .args(["copy", "--json", "--rate", "1M"])
        .args([&src, &dst])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    wait_for(&dst, 300_000);
    send(&child, Signal::SIGHUP);
    let output = child.wait_with_output().unwrap();
    expect(&output, 0);
    assert_eq!(fs::read(&dst).unwrap(), fs::read(&src).unwrap());
}

#[test]
fn a_terminal_shows_a_bar_and_quiet_does_not() {
    for (quiet, shown) in [(false, true), (true, false)] {
        let (_dir, src, dst) = with_source(1 << 20);
        let size = nix::pty::Winsize {
            ws_row: 25,
            ws_col: 120,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = nix::pty::openpty(&size, None).expect("a terminal");
        let mut command = xcopy();
        command.env("TERM", "xterm").args(["copy", "--rate", "1M"]);
        if quiet {
            command.arg("--quiet");
        }
        command.arg(&src).arg(&dst);
        command.stdout(Stdio::null()).stderr(Stdio::from(pty.slave));
        let mut child = command.spawn().unwrap();
        // The command owns a copy of the slave that would keep the master open.
        drop(command);
        let mut seen = Vec::new();
        let mut master = File::from(pty.master);
        let mut piece = [0; 4096];
        // A terminal without a writer answers EIO.
        while let Ok(count @ 1..) = master.read(&mut piece) {
            seen.extend_from_slice(&piece[..count]);
        }
        assert_eq!(child.wait().unwrap().code(), Some(0));
        let seen = String::from_utf8_lossy(&seen).into_owned();
        assert_eq!(seen.contains("copying ["), shown, "{seen:?}");
        assert_eq!(fs::read(&dst).unwrap(), fs::read(&src).unwrap());
    }
}

#[test]
fn without_a_terminal_there_is_no_bar() {
    let (_dir, src, dst) = with_source(1 << 20);
    let output = copy(&["--rate", "4M"], &src, &dst);
    expect(&output, 0);
    assert_eq!(err(&output), "");
}
