//! What an operator meets: a killed process, a full or read-only destination, a
//! source that shrinks, O_DIRECT that is refused, signals.

mod direct;
mod full;
mod kill;
mod readonly;
mod shrink;
mod signals;

pub use kill::child;

use crate::Outcome;
use crate::api::{Ended, Job, Library};
use crate::places::{Places, open_rw};
use crate::random::stamp;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use xcopy::abi::*;

/// Why a fault's test did not pass.
pub enum Stop {
    /// It does not hold.
    Fail(String),
    /// It cannot run here.
    Skip(String),
}

impl From<String> for Stop {
    fn from(why: String) -> Stop {
        Stop::Fail(why)
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Stop {
        Stop::Fail(error.to_string())
    }
}

type Fault = fn(&Places, u64) -> Result<(), Stop>;

const FAULTS: [(&str, Fault); 12] = [
    ("SIGKILL in mid-copy, files", kill::files),
    ("SIGKILL in mid-copy, a disk", kill::disk),
    ("a full tmpfs", full::tmpfs),
    ("a full ext4", full::ext4),
    ("a file system that turns read-only", readonly::file_system),
    ("a disk that turns read-only", readonly::disk),
    ("a source truncated before the copy", shrink::before),
    ("a source truncated under the copy", shrink::under),
    ("O_DIRECT that a disk refuses", direct::sectors),
    ("O_DIRECT that a file system refuses", direct::file_system),
    ("O_DIRECT by the caller", direct::descriptors),
    ("signals in mid-copy", signals::storm),
];

/// Runs all of them.
pub fn run(places: &Places, seed: u64) -> Vec<(&'static str, Outcome)> {
    FAULTS
        .iter()
        .map(|(name, fault)| {
            let outcome = match fault(places, seed) {
                Ok(()) => Outcome::Passed,
                Err(Stop::Fail(why)) => Outcome::Failed(format!("{why} (seed {seed})")),
                Err(Stop::Skip(why)) => Outcome::Skipped(why),
            };
            (*name, outcome)
        })
        .collect()
}

/// Fails unless `right`.
fn hold(right: bool, why: impl FnOnce() -> String) -> Result<(), Stop> {
    if right {
        Ok(())
    } else {
        Err(Stop::Fail(why()))
    }
}

/// A file with stamps of `object`.
fn stamped(path: &Path, object: u64, length: u64) -> Result<(File, Vec<u8>), Stop> {
    let mut bytes = vec![0; length as usize];
    stamp(&mut bytes, object, 0, 0);
    let file = open_rw(path, true)?;
    file.write_all_at(&bytes, 0)?;
    Ok((file, bytes))
}

/// All bytes of a file.
fn contents(file: &File) -> Result<Vec<u8>, Stop> {
    let mut bytes = vec![0; file.metadata()?.len() as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Opens both ends.
fn open(library: &Library, src: &Path, dst: &Path) -> Result<(u32, u32), Stop> {
    let text = |(_, text): (i32, String)| Stop::Fail(text);
    let src = library.open(src, XCOPY_OPEN_READ).map_err(text)?;
    Ok((src, library.open(dst, XCOPY_OPEN_WRITE).map_err(text)?))
}

/// A copy of one range.
fn copy_job((src, dst): (u32, u32), method: u16, from: u64, to: u64, length: u64) -> Job {
    Job {
        op: XCOPY_OP_COPY,
        flags: 0,
        src,
        dst,
        methods: 1 << method,
        ranges: vec![xcopy_range {
            src_offset: from,
            dst_offset: to,
            length,
        }],
        bases: None,
    }
}

/// Runs one request that is accepted.
fn run_one(library: &Library, queue: usize, job: Job) -> Result<Ended, Stop> {
    match library.run(queue, &[job])?.pop() {
        Some(Ok(ended)) => Ok(ended),
        Some(Err(errno)) => {
            let why = crate::api::last_error();
            Err(Stop::Fail(format!("refused with {errno}: {why}")))
        }
        None => Err(Stop::Fail("nothing came back".into())),
    }
}

/// Methods that are usable for a pair, by mask.
fn usable(library: &Library, (src, dst): (u32, u32)) -> Result<u32, Stop> {
    let infos = library.methods(src, dst)?;
    let usable = infos.iter().filter(|info| info.usable != 0);
    Ok(usable.fold(0, |mask, info| mask | 1 << info.method))
}

/// A directory for one fault on a file system that is there.
fn dir(places: &Places, name: &str) -> Result<PathBuf, Stop> {
    match places.dir_of(name) {
        Some(dir) => Ok(dir.to_owned()),
        None => Err(Stop::Skip(format!("{name} is not there"))),
    }
}
