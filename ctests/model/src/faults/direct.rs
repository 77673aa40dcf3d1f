//! O_DIRECT where it is refused: by a disk with large sectors, by a file system
//! that has none, and by the caller's own descriptor.

use super::{Stop, contents, copy_job, dir, hold, open, run_one, stamped};
use crate::api::{Library, QUEUES};
use crate::places::{Loop, Mounted, Places, open_rw};
use crate::random::stamp;
use std::fs::{self, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use xcopy::abi::*;

const LENGTH: u64 = 12 << 20;
/// Offsets of source and destination that no sector of 4,096 bytes begins at.
const SHIFTS: [(u64, u64); 4] = [(0, 512), (512, 0), (512, 1024), (4096 + 7, 4096 + 7)];

/// A disk of 4,096-byte sectors, durably and so past the page cache where it can
/// be: each place that it refuses is written through the cache.
pub fn sectors(places: &Places, _seed: u64) -> Result<(), Stop> {
    let images = places.dir.path();
    let image = images.join("direct-disk");
    let disk = Loop::new(&image, 2 * LENGTH, 4096).map_err(Stop::Skip)?;
    let from = dir(places, "ext4")?.join("direct-src");
    let (_, source) = stamped(&from, 31, LENGTH)?;
    let mut before = vec![0; 2 * LENGTH as usize];
    stamp(&mut before, 32, 0, 0);
    let file = open_rw(&disk.node, false)?;
    for (src_shift, dst_shift) in SHIFTS {
        for queue in 0..QUEUES.len() {
            file.write_all_at(&before, 0)?;
            file.sync_all()?;
            let library = Library::new()?;
            let pair = open(&library, &from, &disk.node)?;
            let length = LENGTH - src_shift;
            let mut job = copy_job(pair, XCOPY_METHOD_READ_WRITE, src_shift, dst_shift, length);
            job.flags = XCOPY_REQ_DURABLE;
            let completion = run_one(&library, queue, job)?.completion;
            let what = || format!("{src_shift} to {dst_shift}: {completion:?}");
            hold(completion.res == 0 && completion.bytes_done == length, what)?;
            drop(library);
            let mut wanted = before.clone();
            let (at, end) = (dst_shift as usize, (dst_shift + length) as usize);
            wanted[at..end].copy_from_slice(&source[src_shift as usize..]);
            // Through the page cache, and what the disk itself has.
            for place in [&file, &open_rw(&image, false)?] {
                let mut found = vec![0; before.len()];
                place.read_exact_at(&mut found, 0)?;
                hold(found == wanted, || format!("wrong bytes, {}", what()))?;
            }
        }
    }
    fs::remove_file(&from)?;
    drop((file, disk));
    fs::remove_file(&image)?;
    Ok(())
}

/// A file system that opens nothing with O_DIRECT.
pub fn file_system(places: &Places, _seed: u64) -> Result<(), Stop> {
    let mounted = Mounted::new(places.dir.path(), "ramfs", "ramfs", LENGTH).map_err(Stop::Skip)?;
    let (from, to) = (mounted.point.join("src"), mounted.point.join("dst"));
    let (_, source) = stamped(&from, 33, LENGTH)?;
    let (out, _) = stamped(&to, 34, 4096)?;
    let refused = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(&from);
    if refused.is_ok() {
        return Err(Stop::Skip("this kernel's ramfs takes O_DIRECT".into()));
    }
    let library = Library::new()?;
    let pair = open(&library, &from, &to)?;
    let mut job = copy_job(pair, XCOPY_METHOD_READ_WRITE, 0, 0, LENGTH);
    job.flags = XCOPY_REQ_DURABLE;
    let completion = run_one(&library, 0, job)?.completion;
    hold(completion.res == 0 && contents(&out)? == source, || {
        format!("{completion:?}")
    })
}

/// Descriptors that the caller opened with O_DIRECT: what they cannot do is an
/// error that changed nothing else, or done all the same; never wrong bytes.
pub fn descriptors(places: &Places, _seed: u64) -> Result<(), Stop> {
    let dir = dir(places, "ext4")?;
    let (from, to) = (dir.join("direct-src"), dir.join("direct-dst"));
    let (file, source) = stamped(&from, 35, LENGTH)?;
    let (out, before) = stamped(&to, 36, 2 * LENGTH)?;
    file.sync_all()?;
    let mut done = 0;
    for (src_shift, dst_shift) in [(0, 0)].into_iter().chain(SHIFTS) {
        out.write_all_at(&before, 0)?;
        out.sync_all()?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(libc::O_DIRECT);
        let (src, dst) = (options.open(&from)?, options.open(&to)?);
        let library = Library::new()?;
        let text = |(_, text): (i32, String)| Stop::Fail(text);
        let pair = (
            library
                .borrow(src.as_raw_fd(), XCOPY_OPEN_READ)
                .map_err(text)?,
            library
                .borrow(dst.as_raw_fd(), XCOPY_OPEN_WRITE)
                .map_err(text)?,
        );
        let length = LENGTH - 4096 - src_shift % 4096;
        let job = copy_job(pair, XCOPY_METHOD_READ_WRITE, src_shift, dst_shift, length);
        let (res, prefix) = match library.run(0, &[job])?.pop() {
            Some(Ok(ended)) => (ended.completion.res, ended.completion.bytes_done),
            Some(Err(errno)) => (errno, 0),
            None => return Err(Stop::Fail("nothing came back".into())),
        };
        let what = || format!("{src_shift} to {dst_shift}: {res}, {prefix} bytes");
        hold(res == 0 || res == -libc::EINVAL, what)?;
        hold(res != 0 || prefix == length, what)?;
        done += u32::from(res == 0);
        drop((library, src, dst));
        let found = contents(&out)?;
        let at = |offset: u64| (dst_shift + offset) as usize;
        let (start, middle, end) = (at(0), at(prefix), at(length));
        let new = &source[src_shift as usize..][..prefix as usize];
        hold(found[start..middle] == *new, || {
            format!("the prefix is wrong, {}", what())
        })?;
        let outside = found[..start] == before[..start] && found[end..] == before[end..];
        hold(outside, || {
            format!("something else was written, {}", what())
        })?;
    }
    hold(done > 0, || "no copy by such a descriptor was done".into())?;
    fs::remove_file(&from)?;
    fs::remove_file(&to)?;
    Ok(())
}
