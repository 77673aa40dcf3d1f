//! Writes `include/*.h` and `core/xcopy.map` from the Rust sources, or with `--check` tells how the
//! committed files differ from what would be written and exits 1.
//!
//! With `--man SHARE` it writes the manual and the shells' completions below that directory
//! instead, dated `--date YYYY-MM-DD`.

// The command line as the command defines it; nobody reads the values here.
#[allow(dead_code)]
#[path = "../../../bindings/cli/src/args.rs"]
mod args;
mod emit;
mod items;
mod manual;
mod map;
mod prose;
#[path = "../../../bindings/cli/src/size.rs"]
mod size;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "usage: xcopy-headers [--check] [--man SHARE [--date YYYY-MM-DD]]";

fn main() -> ExitCode {
    let mut check = false;
    let mut share = None;
    let mut date = String::from("1970-01-01");
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match (argument.as_str(), arguments.size_hint().0) {
            ("--check", _) => check = true,
            ("--man", 1..) => share = arguments.next().map(PathBuf::from),
            ("--date", 1..) => date = arguments.next().unwrap_or_default(),
            (other, _) => {
                eprintln!("xcopy-headers: unknown or unfinished argument {other:?}; {USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    let outcome = match share {
        Some(share) => manual_into(&share, &date),
        None => run(check),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("xcopy-headers: generated files are stale; run `cargo run -p xcopy-headers`");
            ExitCode::from(1)
        }
        Err(message) => {
            eprintln!("xcopy-headers: {message}");
            ExitCode::from(2)
        }
    }
}

/// Writes the manual.
fn manual_into(share: &Path, date: &str) -> Result<bool, String> {
    let root = root()?;
    let pages = manual::write(&root, &emit::outputs(&root)?, share, date)?;
    println!("{pages} files below {}", share.display());
    Ok(true)
}

/// Writes or compares all headers; true if nothing is stale afterwards.
fn run(check: bool) -> Result<bool, String> {
    let root = root()?;
    let mut fresh = true;
    for output in emit::outputs(&root)? {
        let path = root.join(output.path);
        let old = std::fs::read_to_string(&path).unwrap_or_default();
        if old == output.text {
            continue;
        }
        if check {
            fresh = false;
            print_diff(output.path, &old, &output.text);
        } else {
            std::fs::write(&path, &output.text)
                .map_err(|e| format!("cannot write {}: {e}", path.display()))?;
            println!("wrote {}", output.path);
        }
    }
    Ok(fresh)
}

/// The workspace's directory: two above this package.
fn root() -> Result<PathBuf, String> {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .map(Path::to_path_buf)
        .ok_or_else(|| "the package is not two levels below the workspace".to_string())
}

/// The lines between the common head and the common tail: enough to see what moved.
fn print_diff(name: &str, old: &str, new: &str) {
    let old: Vec<&str> = old.lines().collect();
    let new: Vec<&str> = new.lines().collect();
    let head = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let tail = old[head..]
        .iter()
        .rev()
        .zip(new[head..].iter().rev())
        .take_while(|(a, b)| a == b);
    let tail = tail.count();
    println!("--- {name} (committed)\n+++ {name} (generated)");
    println!("@@ line {} @@", head + 1);
    for line in &old[head..old.len() - tail] {
        println!("-{line}");
    }
    for line in &new[head..new.len() - tail] {
        println!("+{line}");
    }
}
