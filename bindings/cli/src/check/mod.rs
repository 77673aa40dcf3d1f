//! `xcopy plugins --check`: does a plugin keep the contract?
//!
//! The check plays the host itself: it loads the file, gives it a host table of
//! its own, opens devices, drives every command that the plugin announces, and
//! names what is wrong. All of that happens in child processes, because a
//! plugin under check may crash, hang or end the process.
//!
//! | module | subject |
//! |---|---|
//! | fault | what can be wrong, and what to do about it |
//! | wire | what the child tells the parent |
//! | child, script | the child: what is tried, in order |
//! | places, disk, bench, tries | devices, their content, commands on them |
//! | plugin, runner, lane, calls | calls into the plugin |
//! | host, flight, judge | the host's side: what was given, what came back |
//! | arena | memory that tells when it is touched at the wrong time |
//! | system | system calls |

mod arena;
mod bench;
mod calls;
mod child;
mod disk;
mod fault;
mod flight;
mod host;
mod judge;
mod lane;
mod places;
mod plugin;
mod runner;
mod script;
mod system;
mod tries;
mod wire;

use std::ffi::OsString;
use std::fmt::Write;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use fault::Fault;
use wire::Line;

use crate::args::PluginsArgs;
use crate::failure::{Failure, Result};
use crate::library::Context;
use crate::{json, print, print_json};

/// Runs the check, or the child's part of it.
pub fn run(args: &PluginsArgs, file: &Path) -> Result<()> {
    let limit = Duration::from_secs(args.timeout);
    if let (Some(part), Some(scratch)) = (args.check_part, &args.scratch) {
        let wishes = places::Wishes {
            specs: args.spec.clone(),
            scratch: scratch.clone(),
            limit,
        };
        child::run(part, file, &wishes);
        return Ok(());
    }
    if args.spec.len() > 2 {
        return Err(Failure::usage("--spec: at most a source and a destination"));
    }
    let next = "give the path of a plugin, libxcopy_NAME.so";
    let real = file
        .canonicalize()
        .map_err(|error| Failure::io(file.display(), &error, next))?;
    let _claims = claim(&args.spec)?;
    let scratch = Scratch::new()?;
    let mut report = json::Check {
        file: file.display().to_string(),
        ..json::Check::default()
    };
    for (_, part) in child::PARTS {
        run_part(args, &real, part, &scratch.0, &mut report)?;
        if !report.faults.is_empty() {
            break;
        }
    }
    report.passed = report.faults.is_empty();
    if args.json {
        print_json(&report)?;
    } else {
        print(&told(&report))?;
    }
    match report.faults.len() {
        0 => Ok(()),
        1 => Err(failed(&report, "1 fault")),
        n => Err(failed(&report, &format!("{n} faults"))),
    }
}

fn failed(report: &json::Check, count: &str) -> Failure {
    let text = format!(
        "{}: {count}; libxcopy-plugin(7) explains the contract",
        report.file
    );
    Failure::failed(libc::EPROTO, text)
}

/// A directory that goes with the check.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Scratch> {
        let template = std::env::temp_dir().join("xcopy-check-XXXXXX");
        let made = nix::unistd::mkdtemp(&template);
        made.map(Scratch).map_err(|errno| {
            let next = "set TMPDIR to a directory that can be written";
            Failure::io(template.display(), &errno.into(), next)
        })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Disks among the specs are claimed as a copy would claim them: the check
/// writes to them.
fn claim(specs: &[String]) -> Result<Option<Context>> {
    let disks: Vec<&String> = specs
        .iter()
        .filter(|spec| std::fs::metadata(spec).is_ok_and(|meta| meta.file_type().is_block_device()))
        .collect();
    if disks.is_empty() {
        return Ok(None);
    }
    let context = Context::new()?;
    for disk in disks {
        context.claim(Path::new(disk))?;
    }
    Ok(Some(context))
}

/// Settings by which malloc counts what is in use, and not what the C library
/// keeps at hand for each thread.
fn tunables() -> OsString {
    let mut all = std::env::var_os("GLIBC_TUNABLES").unwrap_or_default();
    for setting in [
        "glibc.malloc.arena_max=1",
        "glibc.malloc.tcache_count=0",
        "glibc.pthread.stack_cache_size=0",
    ] {
        if !all.is_empty() {
            all.push(":");
        }
        all.push(setting);
    }
    all
}

fn run_part(
    args: &PluginsArgs,
    file: &Path,
    part: &str,
    scratch: &Path,
    report: &mut json::Check,
) -> Result<()> {
    let next = "the check needs to start itself again; is /proc mounted?";
    let mut command = Command::new("/proc/self/exe");
    command
        .args(["plugins", "--check-part", part])
        .args(["--timeout", &args.timeout.to_string()])
        .arg("--scratch")
        .arg(scratch)
        .arg("--check")
        .arg(file)
        .env("GLIBC_TUNABLES", tunables())
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    for spec in &args.spec {
        command.arg("--spec").arg(spec);
    }
    let mut child = command
        .spawn()
        .map_err(|error| Failure::io("/proc/self/exe", &error, next))?;
    let (sender, lines) = mpsc::channel();
    if let Some(out) = child.stdout.take() {
        std::thread::spawn(move || {
            for line in BufReader::new(out)
                .split(b'\n')
                .map_while(std::io::Result::ok)
            {
                if sender
                    .send(String::from_utf8_lossy(&line).into_owned())
                    .is_err()
                {
                    return;
                }
            }
        });
    }
    // The child watches its own calls; this is for one that was stopped whole.
    let patience = Duration::from_secs(args.timeout) * 10 + Duration::from_secs(20);
    let before = report.faults.len();
    let mut done = false;
    while !done {
        match lines.recv_timeout(patience) {
            Ok(line) => match Line::parse(&line) {
                Some(Line::Done) => done = true,
                Some(Line::Error(text)) => {
                    let _ = child.wait();
                    let text = format!("{}: {text}; the check could not go on", report.file);
                    return Err(Failure::failed(libc::EIO, text));
                }
                Some(line) => take(report, line),
                None => {}
            },
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let _ = child.kill();
                add(
                    report,
                    Fault::Hangs,
                    "the process made no progress any more".into(),
                );
                break;
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    let status = child.wait();
    if !done && report.faults.len() == before {
        let text = match status {
            Ok(status) => match status.signal() {
                Some(signal) => format!("the process was killed by signal {signal}"),
                None => format!("the process ended with {status}"),
            },
            Err(error) => format!("the process was lost: {error}"),
        };
        add(report, Fault::Exits, text);
    }
    Ok(())
}

fn add(report: &mut json::Check, fault: Fault, text: String) {
    take(report, Line::Fault(fault.id().to_owned(), text));
}

fn take(report: &mut json::Check, line: Line) {
    match line {
        Line::Step(name) => report.checks.push(json::CheckStep {
            name,
            result: "failed",
            text: String::new(),
        }),
        Line::Passed(text) | Line::Skipped(text) if report.checks.is_empty() => drop(text),
        Line::Passed(text) => {
            if let Some(step) = report.checks.last_mut().filter(|s| s.text.is_empty()) {
                (step.result, step.text) = ("passed", text);
            }
        }
        Line::Skipped(text) => {
            if let Some(step) = report.checks.last_mut().filter(|s| s.text.is_empty()) {
                (step.result, step.text) = ("skipped", text);
            }
        }
        Line::Fault(id, text) => {
            let check = match report.checks.last_mut() {
                Some(step) => {
                    (step.result, step.text) = ("failed", id.clone());
                    step.name.clone()
                }
                None => String::new(),
            };
            let advice = Fault::ALL.iter().find(|fault| fault.id() == id);
            report.faults.push(json::CheckFault {
                fault: id,
                check,
                text,
                advice: advice.map_or("", |fault| fault.advice()),
            });
        }
        Line::About(key, value) => {
            let plugin = report.plugin.get_or_insert_default();
            let place = match key.as_str() {
                "name" => &mut plugin.name,
                "version" => &mut plugin.version,
                "model" => &mut plugin.model,
                _ => &mut plugin.abi,
            };
            *place = value;
        }
        Line::Error(_) | Line::Done => {}
    }
}

fn told(report: &json::Check) -> String {
    let mut text = report.file.clone();
    if let Some(plugin) = &report.plugin {
        let _ = write!(
            text,
            ": {} {} ({}, interface {})",
            plugin.name, plugin.version, plugin.model, plugin.abi
        );
    }
    text.push('\n');
    for check in &report.checks {
        let _ = writeln!(text, "  {:<8} {}: {}", check.result, check.name, check.text);
    }
    for fault in &report.faults {
        let _ = writeln!(
            text,
            "FAULT {} ({}): {}\n  {}",
            fault.fault, fault.check, fault.text, fault.advice
        );
    }
    if report.passed {
        let passed = report
            .checks
            .iter()
            .filter(|c| c.result == "passed")
            .count();
        let _ = writeln!(text, "no fault in {passed} checks");
    }
    text
}
