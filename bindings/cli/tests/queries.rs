//! `xcopy probe`, `info` and `plugins`.

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use common::*;

#[test]
fn probe_tells_of_every_method_whether_and_why_not() {
    let (_dir, src, dst) = with_source(4096);
    let before = stamped("dst", 5, 4096);
    fs::write(&dst, &before).unwrap();
    let output = xcopy()
        .args(["probe", "--json"])
        .arg(&src)
        .arg(&dst)
        .output()
        .unwrap();
    expect(&output, 0);
    let report = json(&output);
    let methods = report["methods"].as_array().unwrap();
    let named = |name: &str| methods.iter().find(|method| method["name"] == name);
    assert_eq!(
        named("read_write").expect("the host can")["usable"],
        true,
        "{report}"
    );
    assert!(named("reflink").is_some(), "{report}");
    for method in methods {
        assert!(
            method["plugin"].is_string() && method["usable"].is_boolean(),
            "{method}"
        );
        assert!(
            method["usable"] == true || method["reason"].is_string(),
            "{method}"
        );
        for limit in [
            "preferred_bytes",
            "max_bytes",
            "src_granularity",
            "max_ranges",
        ] {
            assert!(method["limits"][limit].is_u64(), "{method}");
        }
    }
    let output = xcopy().arg("probe").arg(&src).arg(&dst).output().unwrap();
    expect(&output, 0);
    assert!(out(&output).contains("read_write"), "{}", told(&output));
    assert!(
        fs::read(&dst).unwrap() == before,
        "probing changed the destination"
    );
}

#[test]
fn probe_needs_both() {
    let (dir, src, dst) = with_source(4096);
    let missing = dir.path().join("missing");
    for (from, to) in [(&src, &dst), (&missing, &src)] {
        let output = xcopy().arg("probe").arg(from).arg(to).output().unwrap();
        expect(&output, 1);
        assert!(err(&output).contains("No such file"), "{}", told(&output));
        assert!(!dst.exists());
    }
}

#[test]
fn info_describes_a_file() {
    let (_dir, src, _) = with_source(12_345);
    let output = xcopy().args(["info", "--json"]).arg(&src).output().unwrap();
    expect(&output, 0);
    let info = json(&output);
    assert_eq!(info["kind"], "file");
    assert_eq!(info["size"], 12_345);
    assert_eq!(info["name"], src.to_str().unwrap());
    let dev = fs::metadata(&src).unwrap().dev();
    let wanted = format!(
        "{}:{}",
        nix::sys::stat::major(dev),
        nix::sys::stat::minor(dev)
    );
    assert_eq!(info["device"], wanted);
    let output = xcopy().arg("info").arg(&src).output().unwrap();
    expect(&output, 0);
    assert!(
        out(&output).contains("size: 12345 bytes"),
        "{}",
        told(&output)
    );
    expect(
        &xcopy().args(["info", "/no/such/device"]).output().unwrap(),
        1,
    );
}

#[test]
fn plugins_lists_the_built_in_ones() {
    let output = xcopy().args(["plugins", "--json"]).output().unwrap();
    expect(&output, 0);
    let report = json(&output);
    let plugins = report["plugins"].as_array().unwrap();
    for (plugin, method) in [("file", "reflink"), ("null", "null")] {
        let found = plugins
            .iter()
            .find(|entry| entry["name"] == plugin)
            .expect(plugin);
        let methods = found["methods"].as_array().unwrap();
        assert!(methods.iter().any(|name| name == method), "{found}");
    }
    let output = xcopy().arg("plugins").output().unwrap();
    expect(&output, 0);
    assert!(out(&output).contains("file") && out(&output).contains("built in"));
}

#[test]
fn a_bad_plugin_file_is_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("libxcopy_broken.so"), b"no library").unwrap();
    let output = xcopy()
        .env("XCOPY_PLUGIN_DIR", dir.path())
        .args(["plugins", "--json"])
        .output()
        .unwrap();
    expect(&output, 0);
    assert!(json(&output)["plugins"].as_array().unwrap().len() >= 2);
    let all = err(&output);
    let warnings = all
        .lines()
        .filter(|line| line.contains("libxcopy_broken.so"));
    assert_eq!(warnings.count(), 1, "{all}");
}

#[test]
fn a_named_directory_comes_before_the_built_in_plugins() {
    let dir = tempfile::tempdir().unwrap();
    let listed = |directory: &Path| {
        let mut command = xcopy();
        command.env("XCOPY_PLUGIN_DIR", directory);
        let output = command.args(["plugins", "--json"]).output().unwrap();
        expect(&output, 0);
        let report = json(&output);
        let plugins = report["plugins"].as_array().unwrap();
        let of = |name: &str| {
            let mut found = plugins.iter().filter(|plugin| plugin["name"] == name);
            let one = found.next().expect(name).clone();
            assert!(found.next().is_none(), "{name} twice");
            one["path"].as_str().map(str::to_owned)
        };
        (of("null"), of("file"), err(&output))
    };
    // A refused file of a built-in plugin's name: told, and the built-in one serves.
    let file = dir.path().join("libxcopy_null.so");
    fs::write(&file, b"no library").unwrap();
    let (null, other, warned) = listed(dir.path());
    assert_eq!((null, other), (None, None));
    assert!(warned.contains("libxcopy_null.so"), "{warned}");
    let (_, _, warned) = listed(Path::new("/nonexistent"));
    assert!(warned.contains("/nonexistent"), "{warned}");
    // Cargo builds it beside the command, if the workspace was built.
    let built = Path::new(env!("CARGO_BIN_EXE_xcopy")).with_file_name("libxcopy_null.so");
    if !built.exists() {
        return eprintln!("SKIP: no {}: run cargo build --workspace", built.display());
    }
    fs::copy(&built, &file).unwrap();
    let (null, other, warned) = listed(dir.path());
    assert_eq!(null.as_deref(), file.canonicalize().unwrap().to_str());
    assert_eq!((other, warned.as_str()), (None, ""));
}

#[test]
fn plugins_speak_of_a_file_by_the_name_that_the_user_gave() {
    let (dir, src, dst) = with_source(4096);
    fs::write(&dst, b"x").unwrap();
    let output = xcopy().arg("probe").args([&src, &dst]).output().unwrap();
    expect(&output, 0);
    assert!(
        !told(&output).contains("/proc/self/fd"),
        "{}",
        told(&output)
    );
    assert!(
        out(&output).contains(src.to_str().unwrap()),
        "{}",
        told(&output)
    );
    let output = xcopy()
        .args(["probe", "--json"])
        .args([&src, &dst])
        .output()
        .unwrap();
    assert!(
        !told(&output).contains("/proc/self/fd"),
        "{}",
        told(&output)
    );
    drop(dir);
}

#[test]
fn devices_of_a_plugin_are_named_by_a_spec() {
    let output = xcopy()
        .args(["info", "--json", "null:64M"])
        .output()
        .unwrap();
    expect(&output, 0);
    assert_eq!(json(&output)["kind"], "native");
    let run = |args: &[&str]| {
        let mut command = xcopy();
        command
            .args(["copy", "--json"])
            .args(args)
            .args(["null:64M,id=1", "null:64M,id=2"]);
        command.output().unwrap()
    };
    let output = run(&["--method", "null"]);
    expect(&output, 0);
    let report = json(&output);
    check_report(&report);
    assert_eq!(report["bytes"], 64 << 20);
    assert_eq!(report["methods"][0]["name"], "null");
    expect(&run(&["--verify"]), 2);
    // What leaves nothing usable is the caller's own.
    let output = run(&["--method", "null", "--no-fallback", "--chunk", "100"]);
    expect(&output, 1);
    let message = json(&output)["error"]["message"].to_string();
    assert!(message.contains("give a larger --chunk"), "{message}");
}
