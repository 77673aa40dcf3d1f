//! What the built library costs: `xcopy-bench files` copies files and disks beside
//! the tools of an operator, `xcopy-bench tokens` by ODX; without these, the empty path with the null plugin loaded
//! as a .so is compared in one interleaved run.
//!
//! | file | holds |
//! |---|---|
//! | `main.rs` | the cases and their interleave |
//! | `options.rs` | the command line |
//! | `api.rs` | the functions of the library, found at run time |
//! | `path.rs` | submit and poll through the library |
//! | `direct.rs` | the null plugin called without the core |
//! | `spin.rs` | a THREADED plugin that spins, to measure the lane |
//! | `peers.rs` | io_uring NOP, and a bare crossbeam ArrayQueue |
//! | `report.rs` | medians, quartiles, the table, the goals, JSON |
//! | `tokens.rs` | copies by tokens, several in flight |
//! | `files/` | copies of files and disks |

mod api;
mod direct;
mod files;
mod options;
mod path;
mod peers;
mod report;
mod spin;
mod tokens;

use api::Api;
use options::Options;
use report::{Sample, Series};
use std::time::Instant;

/// Why a measurement could not be made, or was wrong.
pub(crate) type Failure = String;
/// Runs this many operations.
type Work = Box<dyn FnMut(u64) -> Result<(), Failure>>;

/// A case that this machine cannot run, and why.
type Absent = (String, String);

/// Requests of one submit.
const BATCHES: [u32; 3] = [1, 8, 32];

/// One thing that is measured.
struct Case {
    name: String,
    /// Operations of one run, as a share of the option's number.
    share: f64,
    work: Work,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let other = match args.first().map(String::as_str) {
        Some("files") => Some(files::main as fn(Vec<String>) -> Result<bool, Failure>),
        Some("tokens") => Some(tokens::main as fn(Vec<String>) -> Result<bool, Failure>),
        _ => None,
    };
    if let Some(other) = other {
        match other(args[1..].to_vec()) {
            Ok(true) => {}
            Ok(false) => std::process::exit(1),
            Err(error) => {
                eprintln!("xcopy-bench: {error}");
                std::process::exit(2);
            }
        }
        return;
    }
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => return print!("{}", options::USAGE),
        Err(error) => {
            eprintln!("xcopy-bench: {error}\n{}", options::USAGE);
            std::process::exit(2);
        }
    };
    match run(&options) {
        Ok(true) => {}
        Ok(false) => std::process::exit(1),
        Err(error) => {
            eprintln!("xcopy-bench: {error}");
            std::process::exit(1);
        }
    }
}

fn run(options: &Options) -> Result<bool, Failure> {
    let (mut cases, absent) = cases(options)?;
    if cases.is_empty() {
        return Err(format!("no case contains '{}'", options.only));
    }
    if options.smoke {
        return smoke(&mut cases, &absent, options);
    }
    // A multiple of every batch.
    let ops = |case: &Case| ((options.ops as f64 * case.share) as u64 / 64).max(1) * 64;
    for case in &mut cases {
        (case.work)(64 * 64).map_err(|e| format!("{}: {e}", case.name))?;
    }
    let mut series: Vec<Series> = cases.iter().map(|c| Series::new(&c.name)).collect();
    let mut random = 0x9e37_79b9_7f4a_7c15u64 ^ u64::from(std::process::id());
    for _ in 0..options.runs {
        for at in shuffled(cases.len(), &mut random) {
            let case = &mut cases[at];
            let n = ops(case);
            let (wall, cpu) = (Instant::now(), thread_cpu_ns());
            (case.work)(n).map_err(|e| format!("{}: {e}", case.name))?;
            let wall = wall.elapsed().as_nanos() as f64;
            let cpu = (thread_cpu_ns() - cpu) as f64;
            series[at].samples.push(Sample {
                wall: wall / n as f64,
                cpu: cpu / n as f64,
            });
        }
    }
    report::table(&series, &absent);
    let kept = report::goals(&series);
    if let Some(path) = &options.json {
        let text = report::json(&series, &absent, options);
        std::fs::write(path, text).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
        println!("written: {}", path.display());
    }
    Ok(kept || !options.check)
}

/// Runs each case for a moment and looks at no time; whether all were right.
fn smoke(cases: &mut [Case], absent: &[Absent], options: &Options) -> Result<bool, Failure> {
    let (mut passed, mut failed) = (0, 0);
    let mut tell = |name: &str, result: Result<(), Failure>| match result {
        Ok(()) => {
            println!("ok: {name}");
            passed += 1;
        }
        Err(error) => {
            println!("FAILED {name}: {error}");
            failed += 1;
        }
    };
    let mut series = Vec::new();
    for case in cases {
        let result = (case.work)(options.ops);
        let mut one = Series::new(&case.name);
        let (wall, cpu) = (1.0, 1.0);
        one.samples.push(Sample { wall, cpu });
        series.push(one);
        tell(&case.name, result);
    }
    tell("the report", report::check(&series, absent, options));
    for (name, why) in absent {
        println!("SKIP: {name}: {why}");
    }
    println!("{passed} passed, {failed} failed, {} skipped", absent.len());
    Ok(failed == 0)
}

/// The cases asked for, and those that this machine cannot run, with the reason.
fn cases(options: &Options) -> Result<(Vec<Case>, Vec<Absent>), Failure> {
    let mut cases = Vec::new();
    let mut absent = Vec::new();
    let wanted = |name: &str| name.contains(&options.only);
    let plugin = options.lib.join("xcopy/plugins/libxcopy_null.so");
    // Before the library: the plugin keeps the host table that it got last, and
    // a queue of its own the one that it was made with.
    for batch in BATCHES {
        let name = format!("null plugin alone, batch {batch}");
        if wanted(&name) {
            cases.push(Case {
                name,
                share: 1.0,
                work: direct::alone(&plugin, batch)?,
            });
        }
    }
    let api = Api::load(&options.lib.join("libxcopy.so.0"))?;
    for (pairs, label) in [(1, "fixed pair"), (path::PAIRS, "random pairs")] {
        for batch in BATCHES {
            let name = format!("libxcopy {label}, batch {batch}");
            if wanted(&name) {
                let work = path::null_path(api, &plugin, pairs, batch)?;
                cases.push(Case {
                    name,
                    share: 1.0,
                    work,
                });
            }
        }
    }
    for (depth, batch, share) in [(64, 32, 0.5), (1, 1, 0.05)] {
        let name = format!("libxcopy lane, depth {depth}, batch {batch}");
        if wanted(&name) {
            cases.push(Case {
                name,
                share,
                work: path::lane_path(api, depth, batch)?,
            });
        }
    }
    for (ring, label) in [
        (peers::Ring::Default, "default"),
        (peers::Ring::Deferred, "deferred"),
    ] {
        for batch in BATCHES {
            let name = format!("io_uring NOP {label}, batch {batch}");
            if !wanted(&name) {
                continue;
            }
            match peers::uring(ring, batch) {
                Ok(work) => cases.push(Case {
                    name,
                    share: 0.1,
                    work,
                }),
                Err(why) => absent.push((name, why)),
            }
        }
    }
    for batch in BATCHES {
        let name = format!("ArrayQueue 64 B, batch {batch}");
        if wanted(&name) {
            cases.push(Case {
                name,
                share: 1.0,
                work: peers::array_queue(batch),
            });
        }
    }
    Ok((cases, absent))
}

/// The numbers below `n` in a random order.
pub(crate) fn shuffled(n: usize, random: &mut u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        order.swap(i, (next_random(random) % (i as u64 + 1)) as usize);
    }
    order
}

/// xorshift64*.
pub(crate) fn next_random(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d)
}

fn thread_cpu_ns() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a valid place for the answer.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
