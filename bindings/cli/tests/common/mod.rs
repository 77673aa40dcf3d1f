//! What the tests of the command share: stamped files and a way to run it.
#![allow(dead_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// The built command, with an environment that no setting of the machine leaks into.
pub fn xcopy() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xcopy"));
    command
        .env_remove("XCOPY_METHODS")
        .env_remove("XCOPY_PLUGIN_DIR");
    command
}

/// Runs `xcopy copy` with arguments.
pub fn copy(args: &[&str], src: &Path, dst: &Path) -> Output {
    xcopy()
        .arg("copy")
        .args(args)
        .arg(src)
        .arg(dst)
        .output()
        .expect("the command runs")
}

/// Every 512 bytes say which file, which block and which generation they are.
pub fn stamped(name: &str, generation: u32, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 512);
    let mut block = 0u64;
    while bytes.len() < length {
        let mut line = format!("{name} block {block} generation {generation} ").into_bytes();
        let mut state = block.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(generation);
        while line.len() < 512 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            line.push(state as u8);
        }
        bytes.extend_from_slice(&line);
        block += 1;
    }
    bytes.truncate(length);
    bytes
}

/// A directory with a stamped source of some length.
pub fn with_source(length: usize) -> (TempDir, PathBuf, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let (src, dst) = (dir.path().join("src"), dir.path().join("dst"));
    fs::write(&src, stamped("src", 1, length)).expect("a source");
    (dir, src, dst)
}

/// Asserts the exit status, showing what was said.
pub fn expect(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}", told(output));
}

/// Everything that a run printed.
pub fn told(output: &Output) -> String {
    format!("{}{}", out(output), err(output))
}

/// Standard output.
pub fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Standard error.
pub fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Standard output as the one JSON document that it has to be.
pub fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", told(output)))
}

/// Asserts the shape of a copy's report, and that its methods sum to its bytes.
pub fn check_report(report: &Value) {
    let keys = |value: &Value| -> Vec<String> {
        let mut keys: Vec<_> = value
            .as_object()
            .expect("an object")
            .keys()
            .cloned()
            .collect();
        keys.sort();
        keys
    };
    assert_eq!(
        keys(report),
        ["bytes", "error", "fallbacks", "methods", "seconds"]
    );
    assert!(report["seconds"].is_f64(), "{report}");
    let mut sum = 0;
    for method in report["methods"].as_array().expect("methods") {
        assert_eq!(
            keys(method),
            ["bytes", "commands", "name", "offloaded", "plugin"]
        );
        assert!(
            method["name"].is_string() && method["plugin"].is_string(),
            "{report}"
        );
        assert!(
            method["offloaded"].is_boolean() && method["commands"].is_u64(),
            "{report}"
        );
        sum += method["bytes"].as_u64().expect("bytes");
    }
    assert_eq!(report["bytes"].as_u64(), Some(sum), "{report}");
    for fallback in report["fallbacks"].as_array().expect("fallbacks") {
        assert_eq!(keys(fallback), ["method", "reason"]);
        assert!(
            !fallback["reason"].as_str().expect("a reason").is_empty(),
            "{report}"
        );
    }
    if !report["error"].is_null() {
        let error = &report["error"];
        assert_eq!(keys(error), ["bytes_done", "detail", "errno", "message"]);
        assert!(error["errno"].as_i64().expect("an errno") > 0, "{report}");
        assert!(error["bytes_done"].is_u64(), "{report}");
        assert!(
            error["message"].as_str().expect("a message").contains("; "),
            "{report}"
        );
    }
}

/// A loop device over an image; detached when dropped.
pub struct Loop(pub String);

impl Loop {
    /// None, said aloud, where loop devices cannot be made.
    pub fn over(image: &std::path::Path) -> Option<Self> {
        let made = Command::new("losetup")
            .args(["--find", "--show"])
            .arg(image)
            .output();
        match made {
            Ok(output) if output.status.success() => Some(Loop(out(&output).trim().to_owned())),
            _ => {
                eprintln!("SKIP: no loop device: run as root with losetup and free loop devices");
                None
            }
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.0]).status();
    }
}
