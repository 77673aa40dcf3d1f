//! SIGKILL: nothing outside the range has changed, and what was reported as
//! copied is there.

use super::{Stop, contents, copy_job, dir, hold, open, stamped, usable};
use crate::api::{Library, method_name};
use crate::object::first_difference;
use crate::places::{Loop, Places, open_rw};
use crate::random::{Random, stamp};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use xcopy::abi::*;

const LENGTH: u64 = 48 << 20;
/// Bytes before and after the range in the destination.
const GUARD: u64 = 1 << 20;
/// Small commands, so that there is a middle to be killed in.
const QUEUE: usize = 1;
const ROUNDS: u32 = 12;

/// The copy that is killed: `SRC DST METHOD`; tells its progress line by line.
pub fn child(args: Vec<String>) -> i32 {
    let [src, dst, method] = &args[..] else {
        return 2;
    };
    let Ok(method) = method.parse::<u16>() else {
        return 2;
    };
    let copy = || -> Result<bool, Stop> {
        let library = Library::new()?;
        let pair = open(&library, Path::new(src), Path::new(dst))?;
        let job = copy_job(pair, method, 0, GUARD, LENGTH);
        let mut out = std::io::stdout();
        let mut told = 0;
        let ended = library.run_watching(QUEUE, &[job], |copied| {
            if copied > told {
                told = copied;
                // The parent may be gone.
                let _ = writeln!(out, "{copied}").and_then(|()| out.flush());
            }
        })?;
        Ok(ended
            .iter()
            .all(|e| e.as_ref().is_ok_and(|e| e.completion.res == 0)))
    };
    i32::from(!copy().is_ok_and(|right| right))
}

/// Between files, by every method that they have.
pub fn files(places: &Places, seed: u64) -> Result<(), Stop> {
    let mut ran = 0;
    for name in ["xfs", "ext4", "tmpfs"] {
        let Ok(dir) = dir(places, name) else {
            println!("SIGKILL on {name}: not there");
            continue;
        };
        let (from, to) = (dir.join("kill-src"), dir.join("kill-dst"));
        let (_, source) = stamped(&from, 71, LENGTH)?;
        let (file, before) = stamped(&to, 72, LENGTH + 2 * GUARD)?;
        let library = Library::new()?;
        let mask = usable(&library, open(&library, &from, &to)?)?;
        drop(library);
        for method in (0..16).filter(|method| mask >> method & 1 == 1) {
            kill_in_the_middle(&from, &to, method, seed, &source, &before, &file)?;
            ran += 1;
        }
        fs::remove_file(&from)?;
        fs::remove_file(&to)?;
    }
    if ran == 0 {
        Err(Stop::Skip("no file system is there".into()))
    } else {
        Ok(())
    }
}

/// To a disk.
pub fn disk(places: &Places, seed: u64) -> Result<(), Stop> {
    let image = places.dir.path().join("kill-disk");
    let disk = Loop::new(&image, LENGTH + 2 * GUARD, 512).map_err(Stop::Skip)?;
    let from = places.dir.path().join("kill-src");
    let (_, source) = stamped(&from, 73, LENGTH)?;
    let mut before = vec![0; (LENGTH + 2 * GUARD) as usize];
    stamp(&mut before, 74, 0, 0);
    let file = open_rw(&disk.node, false)?;
    for method in [XCOPY_METHOD_READ_WRITE, XCOPY_METHOD_SENDFILE] {
        kill_in_the_middle(&from, &disk.node, method, seed, &source, &before, &file)?;
    }
    fs::remove_file(&from)?;
    drop((file, disk));
    fs::remove_file(&image)?;
    Ok(())
}

fn kill_in_the_middle(
    src: &Path,
    dst: &Path,
    method: u16,
    seed: u64,
    source: &[u8],
    before: &[u8],
    file: &File,
) -> Result<(), Stop> {
    let mut random = Random::new(seed ^ u64::from(method));
    let mut killed = 0;
    for _ in 0..ROUNDS {
        file.write_all_at(before, 0)?;
        let limit = LENGTH / 20 + random.below(LENGTH / 2);
        let (told, was_killed) = run_until(src, dst, method, limit)?;
        killed += u32::from(was_killed && told < LENGTH);
        let found = match file.metadata()?.len() {
            0 => {
                let mut bytes = vec![0; before.len()];
                file.read_exact_at(&mut bytes, 0)?;
                bytes
            }
            _ => contents(file)?,
        };
        let name = method_name(method);
        hold(found.len() == before.len(), || {
            format!("{name}: {} bytes", found.len())
        })?;
        let (start, end) = (GUARD as usize, (GUARD + LENGTH) as usize);
        for (from, to) in [(0, start), (end, before.len())] {
            if let Some((first, _)) = first_difference(&found[from..to], &before[from..to]) {
                return Err(Stop::Fail(format!(
                    "{name}: byte {} was written",
                    from + first
                )));
            }
        }
        let mut copied = 0;
        for (at, new) in source.chunks(512).enumerate() {
            let place = start + at * 512..start + at * 512 + new.len();
            if &found[place.clone()] == new {
                copied += new.len() as u64;
            } else {
                // A command that was cut off: its bytes are old or new.
                let old = &before[place.clone()];
                let right = found[place].iter().zip(new.iter().zip(old));
                let wrong = right
                    .into_iter()
                    .any(|(is, (new, old))| is != new && is != old);
                hold(!wrong, || {
                    format!("{name}: block {at} is neither old nor new")
                })?;
            }
        }
        hold(copied >= told, || {
            format!("{name}: {told} bytes reported, {copied} there")
        })?;
        if killed >= 3 {
            return Ok(());
        }
    }
    hold(killed > 0, || {
        format!(
            "{}: never killed in mid-copy in {ROUNDS} rounds",
            method_name(method)
        )
    })
}

/// Kills the copy once it has told `limit` bytes; the bytes it told last, and
/// whether it died of it.
fn run_until(src: &Path, dst: &Path, method: u16, limit: u64) -> Result<(u64, bool), Stop> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("--child")
        .args([src, dst])
        .arg(method.to_string())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut told = 0;
    if let Some(out) = child.stdout.take() {
        let mut lines = BufReader::new(out).lines();
        while let Some(Ok(line)) = lines.next() {
            told = line.parse().unwrap_or(told);
            if told >= limit {
                child.kill()?;
                // What it said before it died counts too.
                for line in lines.by_ref().map_while(Result::ok) {
                    told = line.parse().unwrap_or(told);
                }
                break;
            }
        }
    }
    let status = child.wait()?;
    let killed = status.signal() == Some(libc::SIGKILL);
    hold(killed || status.success(), || {
        format!("the copy itself failed: {status}")
    })?;
    Ok((told, killed))
}
