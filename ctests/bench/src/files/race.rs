//! The interleave of a row's contestants, and what one run costs.

use super::content;
use super::options::Options;
use super::rows::{Check, Row};
use crate::{Failure, shuffled};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Instant;

/// Figures of one run.
#[derive(Clone, Copy)]
pub struct Sample {
    /// Seconds by the clock on the wall.
    pub wall: f64,
    /// Seconds of the processor, user and system, of the process and its children.
    pub cpu: f64,
    /// Peak resident bytes of the process.
    pub memory: u64,
}

/// All runs of one contestant.
pub struct Runs {
    /// Its figures, one a run.
    pub samples: Vec<Sample>,
    /// Bytes of data where the source has holes.
    pub filled: u64,
    /// What was wrong with a copy.
    pub wrong: Option<Failure>,
}

/// Runs every contestant of a row as often as asked for, in a new order each round.
/// The copies of the first and of the last round are compared with the source.
pub fn run(row: &Row, options: &Options) -> Result<Vec<Runs>, Failure> {
    let mut random = 0x9e37_79b9_7f4a_7c15 ^ u64::from(std::process::id());
    let new = |_: &_| Runs {
        samples: Vec::new(),
        filled: 0,
        wrong: None,
    };
    let mut all: Vec<Runs> = row.contestants.iter().map(new).collect();
    for round in 0..options.runs {
        for at in shuffled(row.contestants.len(), &mut random) {
            if all[at].wrong.is_some() {
                continue;
            }
            prepare(row)?;
            match once(row, at) {
                Ok(sample) => all[at].samples.push(sample),
                Err(why) => {
                    all[at].wrong = Some(why);
                    continue;
                }
            }
            if round == 0 || round + 1 == options.runs {
                match check(row) {
                    Ok(filled) => all[at].filled = all[at].filled.max(filled),
                    Err(why) => all[at].wrong = Some(why),
                }
            }
        }
    }
    if row.is_new {
        let _ = fs::remove_file(&row.dst);
    }
    Ok(all)
}

fn prepare(row: &Row) -> Result<(), Failure> {
    if row.is_new {
        match fs::remove_file(&row.dst) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e.to_string()),
            _ => {}
        }
    }
    content::settle(&row.dst);
    match row.cold {
        true => content::cool(&row.src),
        false => content::warm(&row.src),
    }
}

fn once(row: &Row, at: usize) -> Result<Sample, Failure> {
    let contestant = &row.contestants[at];
    let [program, args @ ..] = &contestant.argv[..] else {
        return Err("no command".into());
    };
    let own = processor_seconds();
    let begun = Instant::now();
    let child = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("{program}: {e}"))?;
    let (mut status, mut usage) = (0, no_usage());
    // SAFETY: two places for the answers; the child is ours and not waited for yet.
    let waited = unsafe { libc::wait4(child.id() as i32, &mut status, 0, &mut usage) };
    if waited < 0 {
        return Err(format!("wait4: {}", std::io::Error::last_os_error()));
    }
    if row.durable {
        content::durable(&row.dst)?;
    }
    let wall = begun.elapsed().as_secs_f64();
    let status = ExitStatus::from_raw(status);
    if !status.success() {
        let mut said = String::new();
        if let Some(mut stderr) = child.stderr {
            let _ = std::io::Read::read_to_string(&mut stderr, &mut said);
        }
        return Err(format!("{program}: {status}: {}", said.trim()));
    }
    let after = if row.durable {
        processor_seconds() - own
    } else {
        0.0
    };
    Ok(Sample {
        wall,
        cpu: seconds(&usage) + after,
        memory: usage.ru_maxrss as u64 * 1024,
    })
}

fn check(row: &Row) -> Result<u64, Failure> {
    match &row.check {
        Check::Whole(bytes) => content::compare(&row.src, &row.dst, *bytes),
        Check::List(list) => list.compare(&row.src, &row.dst).map(|()| 0),
    }
}

fn no_usage() -> libc::rusage {
    // SAFETY: numbers only, for which zero is valid.
    unsafe { std::mem::zeroed() }
}

fn seconds(usage: &libc::rusage) -> f64 {
    let of = |time: &libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    of(&usage.ru_utime) + of(&usage.ru_stime)
}

/// Of this process.
fn processor_seconds() -> f64 {
    let mut usage = no_usage();
    // SAFETY: a place for the answer.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) };
    seconds(&usage)
}
