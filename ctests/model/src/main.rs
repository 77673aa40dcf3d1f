//! Random operations of libxcopy on real file systems and disks, every byte
//! compared with a model in memory, and the faults that an operator meets.
//!
//! `xcopy-model [--seed N] [--ops N] [--only SRC-DST] [--no-faults]`. Each pairing
//! of places and each fault counts as one; the last line is
//! `N passed, N failed, N skipped`.

mod api;
mod draw;
mod expect;
mod faults;
mod object;
mod pairing;
mod places;
mod random;

use pairing::{Counts, Pairing};
use places::{NAMES, Place, Places};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// What came of one test.
pub enum Outcome {
    /// It holds.
    Passed,
    /// It does not, and why.
    Failed(String),
    /// It could not run, and why.
    Skipped(String),
}

/// Sums, and words for each test.
#[derive(Default)]
struct Tally {
    passed: u32,
    failed: u32,
    skipped: u32,
}

impl Tally {
    fn take(&mut self, name: &str, outcome: Outcome) {
        match outcome {
            Outcome::Passed => self.passed += 1,
            Outcome::Failed(why) => {
                self.failed += 1;
                println!("FAIL {name}: {why}");
            }
            Outcome::Skipped(why) => {
                self.skipped += 1;
                println!("SKIP {name}: {why}");
            }
        }
    }
}

struct Options {
    seed: u64,
    operations: u64,
    only: Option<String>,
    faults: bool,
}

fn options(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        seed: 1,
        operations: 100_000,
        only: None,
        faults: true,
    };
    while let Some(name) = args.next() {
        let mut value = || args.next().ok_or(format!("{name} needs a value"));
        let number = |text: String| text.parse().map_err(|_| format!("{text} is no number"));
        match name.as_str() {
            "--seed" => options.seed = number(value()?)?,
            "--ops" => options.operations = number(value()?)?,
            "--only" => options.only = Some(value()?),
            "--no-faults" => options.faults = false,
            _ => return Err(format!("unknown option {name}")),
        }
    }
    Ok(options)
}

fn main() {
    let mut args = std::env::args().skip(1).peekable();
    if args.peek().is_some_and(|first| first == "--child") {
        let code = faults::child(args.skip(1).collect());
        std::process::exit(code);
    }
    let options = match options(args) {
        Ok(options) => options,
        Err(why) => {
            eprintln!(
                "{why}; usage: xcopy-model [--seed N] [--ops N] [--only SRC-DST] [--no-faults]"
            );
            std::process::exit(2);
        }
    };
    let started = Instant::now();
    let mut tally = Tally::default();
    match Places::new() {
        Ok(places) => {
            run_pairings(&options, &places, &mut tally);
            if options.faults {
                for (name, outcome) in faults::run(&places, options.seed) {
                    tally.take(name, outcome);
                }
            }
        }
        Err(error) => tally.take("places", Outcome::Failed(error.to_string())),
    }
    println!(
        "seed {}, {:.1} s",
        options.seed,
        started.elapsed().as_secs_f32()
    );
    println!(
        "{} passed, {} failed, {} skipped",
        tally.passed, tally.failed, tally.skipped
    );
    std::process::exit(i32::from(tally.failed > 0));
}

/// Runs all pairings, as many at once as there are processors.
fn run_pairings(options: &Options, places: &Places, tally: &mut Tally) {
    for (name, why) in &places.missing {
        println!("{name} is not there: {why}");
    }
    let mut pairs = Vec::new();
    for src in NAMES {
        for dst in NAMES {
            let name = format!("{src}-{dst}");
            if options.only.as_ref().is_some_and(|only| *only != name) {
                continue;
            }
            let find = |wanted: &str| places.places.iter().find(|place| place.name() == wanted);
            match (find(src), find(dst)) {
                (Some(src), Some(dst)) => pairs.push((name, src, dst)),
                _ => tally.take(&name, Outcome::Skipped("a place is not there".into())),
            }
        }
    }
    let each = options.operations.div_ceil(pairs.len().max(1) as u64);
    let (next, results) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some((name, src, dst)) = pairs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (counts, outcome) = run_pairing(options, places, src, dst, each);
            let mut results = results.lock().unwrap_or_else(|e| e.into_inner());
            results.push((name, counts, outcome));
        }
    };
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let mut sum = Counts::default();
    for (name, counts, outcome) in results.into_inner().unwrap_or_else(|e| e.into_inner()) {
        sum.add(&counts);
        tally.take(name, outcome);
    }
    println!(
        "{} operations: {} refused, {} unsupported, {} in flight together, {} compared by O_DIRECT",
        sum.operations, sum.refused, sum.unsupported, sum.together, sum.direct
    );
    for (method, n) in &sum.methods {
        println!("  {n} requests by {}", api::method_name(*method));
    }
}

fn run_pairing(
    options: &Options,
    places: &Places,
    src: &Place,
    dst: &Place,
    operations: u64,
) -> (Counts, Outcome) {
    let mix = |name: &str| {
        name.bytes()
            .fold(options.seed, |seed, b| random::mix(seed ^ u64::from(b)))
    };
    let seed = mix(src.name()) ^ mix(dst.name()).rotate_left(1);
    match Pairing::new(places, src, dst, seed) {
        Ok(mut pairing) => {
            let outcome = match pairing.run(operations) {
                Ok(()) => Outcome::Passed,
                Err(why) => Outcome::Failed(format!("{why} (seed {})", options.seed)),
            };
            (std::mem::take(&mut pairing.counts), outcome)
        }
        Err(why) => (Counts::default(), Outcome::Failed(why)),
    }
}
