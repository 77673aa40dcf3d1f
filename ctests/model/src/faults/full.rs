//! A destination without room: -ENOSPC, and a prefix that is really there.

use super::{Stop, contents, copy_job, hold, open, run_one, stamped, usable};
use crate::api::{Library, QUEUES, method_name};
use crate::object::first_difference;
use crate::places::{Mounted, Places};
use crate::random::stamp;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use xcopy::abi::*;

const LENGTH: u64 = 40 << 20;

/// On tmpfs.
pub fn tmpfs(places: &Places, _seed: u64) -> Result<(), Stop> {
    full(places, "tmpfs", 12 << 20)
}

/// On ext4, which reserves room for cached writes.
pub fn ext4(places: &Places, _seed: u64) -> Result<(), Stop> {
    full(places, "ext4", 24 << 20)
}

fn full(places: &Places, kind: &str, size: u64) -> Result<(), Stop> {
    let name = format!("full-{kind}");
    let small = Mounted::new(places.dir.path(), &name, kind, size).map_err(Stop::Skip)?;
    let outside = places.dir.path().join("full-src");
    stamped(&outside, 81, LENGTH)?;
    // copy_file_range needs a source on the same file system: one of holes.
    let inside = small.point.join("src");
    let (file, _) = stamped(&inside, 82, 1 << 20)?;
    file.set_len(LENGTH)?;
    drop(file);
    for (src, methods) in [
        (
            &outside,
            1 << XCOPY_METHOD_READ_WRITE | 1 << XCOPY_METHOD_SENDFILE,
        ),
        (&inside, 1 << XCOPY_METHOD_COPY_FILE_RANGE),
    ] {
        for method in (0..16).filter(|method| methods >> method & 1 == 1) {
            for queue in 0..QUEUES.len() {
                fill(src, &small.point.join("dst"), method, queue)?;
            }
        }
    }
    fs::remove_file(&outside)?;
    Ok(())
}

fn fill(src: &Path, dst: &Path, method: u16, queue: usize) -> Result<(), Stop> {
    let library = Library::new()?;
    // Content from before, at both sides of where the copy begins.
    let (file, _) = stamped(dst, 83, 1 << 20)?;
    let pair = open(&library, src, dst)?;
    if usable(&library, pair)? >> method & 1 == 0 {
        return Err(Stop::Fail(format!("{} is not usable", method_name(method))));
    }
    let start = 512 << 10;
    let ended = run_one(&library, queue, copy_job(pair, method, 0, start, LENGTH))?;
    let completion = &ended.completion;
    let what = || format!("{} on queue {queue}: {completion:?}", method_name(method));
    let side = completion.flags & (XCOPY_CPL_ERR_ON_WRITE | XCOPY_CPL_ERR_ON_READ);
    hold(completion.res == -libc::ENOSPC, || {
        format!("not ENOSPC, {}", what())
    })?;
    hold(side == XCOPY_CPL_ERR_ON_WRITE, || {
        format!("not on the write side, {}", what())
    })?;
    let (done, copied) = (completion.bytes_done, completion.bytes_copied);
    hold(done <= copied && copied < LENGTH, what)?;
    hold(ended.report.untouched_from >= copied, what)?;

    let found = contents(&file)?;
    let mut expected = vec![0; start as usize];
    stamp(&mut expected, 83, 0, 0);
    let mut source = vec![0; done as usize];
    fs::File::open(src)?.read_exact_at(&mut source, 0)?;
    expected.extend_from_slice(&source);
    hold(found.len() >= expected.len(), || {
        format!("{} bytes there, {}", found.len(), what())
    })?;
    if let Some((first, _)) = first_difference(&found[..expected.len()], &expected) {
        return Err(Stop::Fail(format!(
            "byte {first} of the prefix is wrong, {}",
            what()
        )));
    }
    if QUEUES[queue].1 == 1 {
        // One command at a time: what is there ends where the prefix does.
        let end = (start + done).max(1 << 20);
        let there = found.len() as u64;
        hold(done > 0 && copied == done && there == end, || {
            format!("ends at {there}, {}", what())
        })?;
    }
    drop((library, file));
    fs::remove_file(dst)?;
    Ok(())
}
