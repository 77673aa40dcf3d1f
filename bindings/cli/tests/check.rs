//! `xcopy plugins --check`: its words, its statuses, its JSON. What it finds in
//! plugins is tested by ctests/vendor.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::*;
use tempfile::TempDir;

fn check(file: &Path, args: &[&str]) -> Output {
    xcopy()
        .args(["plugins", "--check"])
        .arg(file)
        .args(args)
        .output()
        .expect("the command runs")
}

/// Builds a plugin in C from the tree's headers; None without a compiler.
fn built(source: &str, name: &str) -> Option<(TempDir, PathBuf)> {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join(format!("libxcopy_{name}.so"));
    let status = Command::new("cc")
        .args(["-std=gnu99", "-fPIC", "-shared", "-o"])
        .arg(&file)
        .arg(format!("-DNAME=\"{name}\""))
        .arg("-I")
        .arg(tree.join("include"))
        .arg(tree.join(source))
        .arg("-lpthread")
        .status();
    match status {
        Ok(status) => assert!(status.success(), "{source} builds"),
        Err(_) => {
            eprintln!("SKIP: no C compiler");
            return None;
        }
    }
    Some((dir, file))
}

#[test]
fn a_plugin_without_fault_passes() {
    let source = "plugins/template-c/xcopy_template.c";
    let Some((_dir, file)) = built(source, "template") else {
        return;
    };
    let output = check(&file, &[]);
    expect(&output, 0);
    let text = out(&output);
    assert!(
        text.contains("template 0.1 (blocking, interface 0.1)"),
        "{text}"
    );
    assert!(text.contains("passed   copy by template: "), "{text}");
    assert!(text.contains("no fault in "), "{text}");

    let report = json(&check(
        &file,
        &["--json", "--spec", "65536", "--spec", "template:131072"],
    ));
    assert_eq!(report["passed"], true, "{report}");
    assert_eq!(report["plugin"]["name"], "template");
    assert_eq!(report["plugin"]["model"], "blocking");
    assert_eq!(report["faults"].as_array().map(Vec::len), Some(0));
    let open = report["checks"]
        .as_array()
        .and_then(|checks| checks.iter().find(|check| check["name"] == "open"));
    let text = open.and_then(|open| open["text"].as_str()).unwrap_or("");
    assert!(text.starts_with("template:65536: 65536 bytes"), "{report}");
}

#[test]
fn a_blocking_answer_to_another_command_is_a_fault() {
    let source = "ctests/bad-plugins/blocking_unknown.c";
    let Some((_dir, file)) = built(source, "blocking_unknown") else {
        return;
    };
    let output = check(&file, &["--json"]);
    expect(&output, 1);
    let report = json(&output);
    let fault = &report["faults"][0];
    assert_eq!(fault["fault"], "completes_unknown", "{report}");
    let text = fault["text"].as_str().unwrap_or("");
    assert!(text.contains("cookie 0x4d"), "{report}");
    let output = check(&file, &[]);
    assert!(
        told(&output).contains("libxcopy-plugin(7)"),
        "{}",
        told(&output)
    );
}

#[test]
fn a_fault_is_named_with_what_to_do() {
    let source = "ctests/bad-plugins/over_reports.c";
    let Some((_dir, file)) = built(source, "over_reports") else {
        return;
    };
    let output = check(&file, &["--json"]);
    expect(&output, 1);
    let report = json(&output);
    assert_eq!(report["passed"], false);
    let fault = &report["faults"][0];
    assert_eq!(fault["fault"], "over_reports", "{report}");
    assert_eq!(fault["check"], "content");
    assert!(
        fault["text"]
            .as_str()
            .is_some_and(|text| text.contains("bytes reported of"))
    );
    assert!(
        fault["advice"]
            .as_str()
            .is_some_and(|text| text.contains("xcopy_result.bytes"))
    );
    assert!(err(&output).contains("1 fault"), "{}", told(&output));
    // Whatever the plugin did, the check cleaned up behind it.
    let output = check(&file, &[]);
    expect(&output, 1);
    assert!(
        out(&output).contains("FAULT over_reports (content): "),
        "{}",
        told(&output)
    );
}

#[test]
fn a_device_that_cannot_be_opened_is_said() {
    let source = "plugins/template-c/xcopy_template.c";
    let Some((_dir, file)) = built(source, "template") else {
        return;
    };
    let output = check(&file, &["--spec", "nonsense"]);
    expect(&output, 1);
    let text = out(&output);
    assert!(
        text.contains("FAULT no_device (open): template:nonsense: give a size"),
        "{text}"
    );
}

#[test]
fn what_is_no_plugin_is_refused_as_the_core_refuses_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("libxcopy_text.so");
    std::fs::write(&file, "no plugin").expect("a file");
    let output = check(&file, &["--json"]);
    expect(&output, 1);
    let report = json(&output);
    assert_eq!(report["faults"][0]["fault"], "refused", "{report}");
    assert!(report["plugin"].is_null());

    let output = check(&dir.path().join("missing.so"), &[]);
    expect(&output, 1);
    assert!(err(&output).contains("missing.so"), "{}", told(&output));
}

#[test]
fn wrong_usage() {
    for args in [
        &["plugins", "--spec", "1M"][..],
        &["plugins", "--check"],
        &["plugins", "--check", "x", "--timeout", "0"],
        &[
            "plugins", "--check", "x", "--spec", "a", "--spec", "b", "--spec", "c",
        ],
    ] {
        let output = xcopy().args(args).output().expect("the command runs");
        expect(&output, 2);
        assert!(out(&output).is_empty(), "{args:?}");
    }
}

#[test]
fn no_scratch_files_stay_behind() {
    let dir = tempfile::tempdir().expect("a directory");
    let scratch = dir.path().join("tmp");
    std::fs::create_dir(&scratch).expect("a directory");
    let file = dir.path().join("libxcopy_text.so");
    std::fs::write(&file, "no plugin").expect("a file");
    let output = xcopy()
        .env("TMPDIR", &scratch)
        .args(["plugins", "--check"])
        .arg(&file)
        .output()
        .expect("the command runs");
    expect(&output, 1);
    assert_eq!(
        std::fs::read_dir(&scratch).expect("the directory").count(),
        0
    );
}
