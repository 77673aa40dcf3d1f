//! Drives a target without libFuzzer: random inputs and changed ones, no
//! coverage.
//!
//!   plain TARGET --seconds N [--seed S] [--keep FILE] [INPUT...]
//!
//! Inputs given by name are run once. FILE always holds the input that runs, so
//! that it is there after a crash.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::{ExitCode, abort};
use std::time::{Duration, Instant};

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() >> 16) as usize % n.max(1)
    }
}

struct Options {
    run: xcopy_fuzz::Target,
    seconds: u64,
    seed: u64,
    keep: Option<File>,
    inputs: Vec<String>,
}

fn options() -> Result<Options, String> {
    let mut words = std::env::args().skip(1);
    let name = words.next().ok_or("no target is named")?;
    let found = xcopy_fuzz::TARGETS.iter().find(|(known, _)| *known == name);
    let (_, run) = found.ok_or(format!("there is no target {name}"))?;
    let mut options = Options {
        run: *run,
        seconds: 0,
        seed: 1,
        keep: None,
        inputs: Vec::new(),
    };
    while let Some(word) = words.next() {
        let mut number = || {
            let value = words.next().and_then(|value| value.parse().ok());
            value.ok_or(format!("{word} takes a number"))
        };
        match word.as_str() {
            "--seconds" => options.seconds = number()?,
            "--seed" => options.seed = number()?,
            "--keep" => {
                let path = words.next().ok_or("--keep takes a file")?;
                let file = File::create(&path).map_err(|error| format!("{path}: {error}"))?;
                options.keep = Some(file);
            }
            _ => options.inputs.push(word),
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(why) => {
            eprintln!("plain: {why}");
            return ExitCode::from(2);
        }
    };
    // A panic inside the library is caught there: it must end here, too.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        hook(info);
        abort();
    }));
    for path in &options.inputs {
        match std::fs::read(path) {
            Ok(data) => (options.run)(&data),
            Err(error) => {
                eprintln!("plain: {path}: {error}");
                return ExitCode::from(2);
            }
        }
    }
    let mut random = Random(options.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let end = Instant::now() + Duration::from_secs(options.seconds);
    let (mut runs, mut last) = (0u64, Vec::new());
    while Instant::now() < end {
        last = next(&mut random, last);
        if let Some(file) = &options.keep {
            let written = file.set_len(0).and_then(|()| file.write_all_at(&last, 0));
            if let Err(error) = written {
                eprintln!("plain: the input cannot be kept: {error}");
                return ExitCode::from(2);
            }
        }
        (options.run)(&last);
        runs += 1;
    }
    println!("{runs} runs, {} inputs from files", options.inputs.len());
    ExitCode::SUCCESS
}

/// A new input, or the last one changed.
fn next(random: &mut Random, mut last: Vec<u8>) -> Vec<u8> {
    if last.is_empty() || random.below(3) == 0 {
        let n = random.below(700);
        return (0..n).map(|_| random.next() as u8).collect();
    }
    for _ in 0..1 + random.below(8) {
        let at = random.below(last.len());
        match random.below(4) {
            0 => last[at] = random.next() as u8,
            1 => last[at] ^= 1 << random.below(8),
            2 => {
                last.remove(at);
            }
            _ => last.insert(at, random.next() as u8),
        }
        if last.is_empty() {
            break;
        }
    }
    last
}
