//! A destination that turns read-only under an open handle.

use super::{Stop, copy_job, hold, open, run_one, stamped};
use crate::api::{Library, method_name};
use crate::places::{Loop, Mounted, Places, open_rw, run};
use std::fs;
use std::os::unix::fs::FileExt;
use xcopy::abi::*;

const LENGTH: u64 = 4 << 20;

/// A file system: the kernel refuses to remount one that is being written, so
/// it is aborted as after an error.
pub fn file_system(places: &Places, _seed: u64) -> Result<(), Stop> {
    let dir = places.dir.path();
    let mounted = Mounted::new(dir, "readonly", "ext4", 64 << 20).map_err(Stop::Skip)?;
    let (from, to) = (dir.join("readonly-src"), mounted.point.join("dst"));
    stamped(&from, 91, LENGTH)?;
    stamped(&to, 92, LENGTH)?;
    let library = Library::new()?;
    let pair = open(&library, &from, &to)?;
    let first = copy_job(pair, XCOPY_METHOD_READ_WRITE, 0, 0, 4096);
    hold(run_one(&library, 0, first)?.completion.res == 0, || {
        "the first copy failed".into()
    })?;
    if mounted.remount("ro").is_ok() {
        return Err(Stop::Skip(
            "a file system that is being written was remounted".into(),
        ));
    }
    mounted.remount("abort").map_err(Stop::Skip)?;
    for method in [XCOPY_METHOD_READ_WRITE, XCOPY_METHOD_SENDFILE] {
        let mut job = copy_job(pair, method, 0, 0, LENGTH);
        job.methods |= 1 << XCOPY_METHOD_READ_WRITE;
        let completion = run_one(&library, 1, job)?.completion;
        let what = || format!("{}: {completion:?}", method_name(method));
        let right = [-libc::EROFS, -libc::EIO].contains(&completion.res);
        hold(right && completion.bytes_copied == 0, what)?;
        let side = completion.flags & (XCOPY_CPL_ERR_ON_WRITE | XCOPY_CPL_ERR_ON_READ);
        hold(side == XCOPY_CPL_ERR_ON_WRITE, what)?;
    }
    drop(library);
    // A new handle is refused, in words.
    let library = Library::new()?;
    match library.open(&to, XCOPY_OPEN_WRITE) {
        Err((libc::EROFS, text)) if text.contains("read-only") => {}
        other => return Err(Stop::Fail(format!("opened for writing: {other:?}"))),
    }
    fs::remove_file(&from)?;
    Ok(())
}

/// A node that is read-only while this lives. The kernel keeps the mark of a
/// loop device beyond its image, for whoever gets the number next.
struct ReadOnly(String);

impl ReadOnly {
    fn new(node: &str) -> Result<ReadOnly, String> {
        run("blockdev", &["--setro", node])?;
        Ok(ReadOnly(node.to_owned()))
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        if let Err(why) = run("blockdev", &["--setrw", &self.0]) {
            eprintln!("{why}");
        }
    }
}

/// A disk: its cached pages are lost, so the error comes when they are written.
pub fn disk(places: &Places, _seed: u64) -> Result<(), Stop> {
    let dir = places.dir.path();
    let image = dir.join("readonly-disk");
    let disk = Loop::new(&image, LENGTH, 512).map_err(Stop::Skip)?;
    let from = dir.join("readonly-src");
    let (_, source) = stamped(&from, 93, LENGTH)?;
    let library = Library::new()?;
    let pair = open(&library, &from, &disk.node)?;
    let first = copy_job(pair, XCOPY_METHOD_READ_WRITE, 0, 0, 4096);
    hold(run_one(&library, 0, first)?.completion.res == 0, || {
        "the first copy failed".into()
    })?;
    let node = disk.node.to_string_lossy();
    let _read_only = ReadOnly::new(&node).map_err(Stop::Skip)?;
    let mut job = copy_job(pair, XCOPY_METHOD_READ_WRITE, 0, 0, LENGTH);
    job.flags = XCOPY_REQ_DURABLE;
    let completion = run_one(&library, 1, job)?.completion;
    let file = open_rw(&image, false)?;
    let mut found = vec![0; LENGTH as usize];
    file.read_exact_at(&mut found, 0)?;
    drop(library);
    if completion.res == 0 {
        // The loop driver writes all the same: then the bytes must be there.
        hold(found == source, || "a success without its bytes".into())?;
    } else {
        let right = [-libc::EROFS, -libc::EIO, -libc::EPERM, -libc::EACCES];
        hold(right.contains(&completion.res), || {
            format!("{completion:?}")
        })?;
        hold(completion.flags & XCOPY_CPL_ERR_ON_WRITE != 0, || {
            format!("{completion:?}")
        })?;
    }
    let library = Library::new()?;
    let refused = library.open(&disk.node, XCOPY_OPEN_WRITE);
    hold(
        refused
            .as_ref()
            .is_err_and(|(errno, text)| *errno == libc::EROFS && !text.is_empty()),
        || format!("a read-only disk was opened for writing: {refused:?}"),
    )?;
    fs::remove_file(&from)?;
    Ok(())
}
