//! A source that becomes shorter than it was when the range was checked.

use super::{Stop, contents, copy_job, dir, hold, open, run_one, stamped, usable};
use crate::api::{Library, QUEUES, method_name};
use crate::object::first_difference;
use crate::places::Places;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use xcopy::abi::*;

const LENGTH: u64 = 24 << 20;

/// After it was opened: the read ends at the new end, to the byte.
pub fn before(places: &Places, _seed: u64) -> Result<(), Stop> {
    for name in ["tmpfs", "ext4", "xfs", "btrfs"] {
        let Ok(dir) = dir(places, name) else { continue };
        let (from, to) = (dir.join("shrink-src"), dir.join("shrink-dst"));
        let mask = {
            stamped(&from, 61, 4096)?;
            stamped(&to, 62, 4096)?;
            let library = Library::new()?;
            usable(&library, open(&library, &from, &to)?)?
        };
        for method in (0..16).filter(|method| mask >> method & 1 == 1) {
            for (queue, shape) in QUEUES.iter().enumerate() {
                let left = 5 * (1 << 20) + 4097;
                let (file, source) = stamped(&from, 61, LENGTH)?;
                let (out, _) = stamped(&to, 62, 4096)?;
                let library = Library::new()?;
                let pair = open(&library, &from, &to)?;
                file.set_len(left)?;
                let mut job = copy_job(pair, method, 0, 0, LENGTH);
                job.methods |= 1 << XCOPY_METHOD_READ_WRITE;
                let ended = run_one(&library, queue, job)?;
                let completion = &ended.completion;
                let what = || format!("{name}, {}: {completion:?}", method_name(method));
                hold(completion.res == -libc::EIO, what)?;
                let side = completion.flags & (XCOPY_CPL_ERR_ON_WRITE | XCOPY_CPL_ERR_ON_READ);
                hold(side == XCOPY_CPL_ERR_ON_READ, what)?;
                let done = completion.bytes_done;
                hold(done <= left && completion.bytes_copied <= left, what)?;
                if shape.1 == 1 && method != XCOPY_METHOD_REFLINK {
                    hold(done == left, || format!("not up to the end, {}", what()))?;
                }
                let found = contents(&out)?;
                let n = done as usize;
                hold(found.len() >= n, what)?;
                if let Some((first, _)) = first_difference(&found[..n], &source[..n]) {
                    return Err(Stop::Fail(format!("byte {first} is wrong, {}", what())));
                }
                drop((library, file, out));
                fs::remove_file(&from)?;
                fs::remove_file(&to)?;
            }
        }
    }
    Ok(())
}

/// While it runs: all is done, or the read side fails and the prefix is there.
pub fn under(places: &Places, _seed: u64) -> Result<(), Stop> {
    let dir = dir(places, "tmpfs")?;
    let (from, to) = (dir.join("shrink-src"), dir.join("shrink-dst"));
    let mut cut = 0;
    for round in 0..40_u64 {
        let (file, source) = stamped(&from, 63, LENGTH)?;
        let (out, _) = stamped(&to, 64, LENGTH)?;
        let method = match round % 3 {
            0 => XCOPY_METHOD_READ_WRITE,
            1 => XCOPY_METHOD_SENDFILE,
            _ => XCOPY_METHOD_COPY_FILE_RANGE,
        };
        let library = Library::new()?;
        let job = copy_job(open(&library, &from, &to)?, method, 0, 0, LENGTH);
        let begun = AtomicBool::new(false);
        let ended = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !begun.load(Ordering::Acquire) {
                    std::hint::spin_loop();
                }
                std::thread::sleep(Duration::from_micros(200 * round));
                file.set_len(4096)
            });
            begun.store(true, Ordering::Release);
            run_one(&library, 1, job)
        })?;
        let completion = &ended.completion;
        let what = || format!("{}: {completion:?}", method_name(method));
        match completion.res {
            0 => hold(completion.bytes_done == LENGTH, what)?,
            res => {
                cut += 1;
                let read = completion.flags & XCOPY_CPL_ERR_ON_READ != 0;
                hold(res == -libc::EIO && read, what)?;
            }
        }
        // A page that is cut while it is copied may be zeroes from the cut on.
        let done = completion.bytes_done as usize;
        let found = contents(&out)?;
        let wrong = found[..done]
            .iter()
            .zip(&source)
            .any(|(is, was)| is != was && *is != 0);
        hold(!wrong, || format!("the prefix is wrong, {}", what()))?;
        drop((library, file, out));
        fs::remove_file(&from)?;
        fs::remove_file(&to)?;
    }
    hold(cut > 0, || "no copy was cut in 40 rounds".into())
}
