//! The page cache around a copy that goes past it, and durability.
//!
//! A cache belongs to the block device or file that is open: a partition and
//! its disk have one each, and only the opened one is cared for here.

use super::KernelDevice;
use crate::error::{Error, Result};
use std::ffi::c_void;
use std::os::fd::RawFd;
use std::time::Duration;
use xcopy_abi::XCOPY_KIND_FILE;

/// What is known of the cache after a drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// No page of the range is cached.
    Clean,
    /// Stale pages could not be ruled out: XCOPY_CPL_CACHE_UNVERIFIED.
    Unverified,
}

/// No folio of the page cache is larger or less aligned than this. A folio that
/// reaches out of a dropped range stays.
const FOLIO: u64 = 2 << 20;
/// Drops before giving up: pages that were just read sit in a CPU's batch, and
/// those being read or written are locked.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(1);
/// Bytes of one mincore, so that its answer stays small.
const WINDOW: u64 = 256 << 20;

mod ioctl {
    nix::ioctl_none_bad!(blkflsbuf, nix::request_code_none!(0x12, 97));
}

/// Writes dirty pages of a range out and waits for them; `len` 0 is to the end.
/// Not durable by itself. Errors of earlier writes to the range are told here.
pub fn flush_range(fd: RawFd, off: u64, len: u64) -> Result<()> {
    let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE
        | libc::SYNC_FILE_RANGE_WRITE
        | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    let (Ok(start), Ok(length)) = (i64::try_from(off), i64::try_from(len)) else {
        return sync(fd, data_sync);
    };
    let flush = |_| {
        // SAFETY: takes numbers only.
        unsafe { libc::sync_file_range(fd, start, length, flags) }
    };
    match sync(fd, flush) {
        // Refused as such. Not after an error of the writing itself: the kernel
        // tells that once, and the next call would call it success.
        Err(error)
            if [
                libc::EINVAL,
                libc::ENOSYS,
                libc::ESPIPE,
                libc::EPERM,
                libc::ENOTSUP,
            ]
            .contains(&error.errno) =>
        {
            sync(fd, data_sync)
        }
        other => other,
    }
}

/// Makes what was written survive power loss: data and size of a file, and the
/// volatile cache of a disk.
pub fn durable(fd: RawFd) -> Result<()> {
    match super::facts::stat(fd, "durable")?.st_mode & libc::S_IFMT {
        libc::S_IFREG => sync(fd, data_sync),
        // Sends the disk a flush even if no page is dirty.
        _ => sync(fd, full_sync),
    }
}

fn data_sync(fd: RawFd) -> i32 {
    // SAFETY: takes a number; a bad fd is an error.
    unsafe { libc::fdatasync(fd) }
}

fn full_sync(fd: RawFd) -> i32 {
    // SAFETY: as for data_sync.
    unsafe { libc::fsync(fd) }
}

fn sync(fd: RawFd, call: impl Fn(RawFd) -> i32) -> Result<()> {
    loop {
        if call(fd) == 0 {
            return Ok(());
        }
        let error = Error::last_os("writing cached pages out");
        if error.errno != libc::EINTR {
            return Err(error);
        }
    }
}

/// Drops the cached pages of a range as far as they let themselves, without a look:
/// what is left of them is dropped after the copy.
pub fn drop_early(dev: &KernelDevice, off: u64, len: u64) {
    if len > 0
        && let (Some(fd), Some(span)) = (dev.cache_fd(), Span::outward(off, len, page_size()))
    {
        dont_need(fd, span);
    }
}

fn dont_need(fd: RawFd, span: Span) {
    // SAFETY: takes numbers only; pages that are dirty or in use stay.
    unsafe { libc::posix_fadvise64(fd, span.start, span.len, libc::POSIX_FADV_DONTNEED) };
}

/// Drops the cached pages of a range, then looks. `len` 0 is nothing.
pub fn drop_range(dev: &KernelDevice, off: u64, len: u64) -> Dropped {
    if len == 0 {
        return Dropped::Clean;
    }
    let (Some(fd), Some(exact)) = (dev.cache_fd(), Span::outward(off, len, page_size())) else {
        return Dropped::Unverified;
    };
    let wide = Span::outward(off, len, FOLIO).unwrap_or(exact);
    for attempt in 0..TRIES {
        if attempt > 0 {
            std::thread::sleep(PAUSE * attempt);
        }
        let span = if attempt == 0 { exact } else { wide };
        dont_need(fd, span);
        match cached(fd, exact) {
            Some(false) => return Dropped::Clean,
            Some(true) => {}
            None => return Dropped::Unverified,
        }
    }
    if dev.facts().kind != XCOPY_KIND_FILE {
        // SAFETY: takes no argument; refused without CAP_SYS_ADMIN.
        let flushed = unsafe { ioctl::blkflsbuf(fd) }.is_ok();
        if flushed && cached(fd, exact) == Some(false) {
            return Dropped::Clean;
        }
    }
    Dropped::Unverified
}

#[derive(Clone, Copy)]
struct Span {
    start: i64,
    len: i64,
}

impl Span {
    /// The smallest span of whole `unit`s around a range; `None` beyond the
    /// largest file position.
    fn outward(off: u64, len: u64, unit: u64) -> Option<Self> {
        let start = off - off % unit;
        let end = off.checked_add(len)?.checked_next_multiple_of(unit)?;
        i64::try_from(end).ok()?;
        Some(Span {
            start: start as i64,
            len: (end - start) as i64,
        })
    }
}

fn page_size() -> u64 {
    // SAFETY: takes a number.
    match unsafe { libc::sysconf(libc::_SC_PAGESIZE) } {
        size if size > 0 => size as u64,
        _ => 4096,
    }
}

/// Whether any page of the span is cached; `None` if the kernel will not say.
fn cached(fd: RawFd, span: Span) -> Option<bool> {
    cachestat(fd, span).or_else(|| mincore(fd, span))
}

/// The same number on every machine that has the call (Linux 6.5).
const SYS_CACHESTAT: libc::c_long = 451;

fn cachestat(fd: RawFd, span: Span) -> Option<bool> {
    cached_pages(fd, span.start as u64, span.len as u64).map(|pages| pages > 0)
}

/// How many pages of a range are in the page cache; `None` if the kernel will
/// not say (before Linux 6.5). Reads nothing, where a read with RWF_NOWAIT would
/// begin to.
pub fn cached_pages(fd: RawFd, offset: u64, length: u64) -> Option<u64> {
    let range = [offset, length];
    // nr_cache, nr_dirty, nr_writeback, nr_evicted, nr_recently_evicted
    let mut counts = [0_u64; 5];
    // SAFETY: the kernel reads two and writes five 64-bit numbers behind the
    // pointers; both arrays live for the call. An unknown number is ENOSYS.
    let answer = unsafe {
        libc::syscall(
            SYS_CACHESTAT,
            fd,
            range.as_ptr(),
            counts.as_mut_ptr(),
            0 as libc::c_uint,
        )
    };
    (answer == 0).then_some(counts[0])
}

fn mincore(fd: RawFd, span: Span) -> Option<bool> {
    let page = page_size();
    let end = (span.start + span.len) as u64;
    let mut pages = Vec::new();
    let mut at = span.start as u64;
    while at < end {
        let length = usize::try_from((end - at).min(WINDOW)).ok()?;
        pages.clear();
        pages.resize(length.div_ceil(page as usize), 0_u8);
        // SAFETY: a new mapping at a place of the kernel's choice; it is never
        // read or written, so a file that shrinks does no harm.
        let map = unsafe {
            libc::mmap64(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ,
                libc::MAP_SHARED,
                fd,
                at as i64,
            )
        };
        if map == libc::MAP_FAILED {
            return None;
        }
        let answer = look(map, length, &mut pages);
        // SAFETY: exactly the mapping made above, which nobody else knows.
        unsafe { libc::munmap(map, length) };
        if answer? {
            return Some(true);
        }
        at += length as u64;
    }
    Some(false)
}

fn look(map: *mut c_void, length: usize, pages: &mut [u8]) -> Option<bool> {
    // SAFETY: the mapping is `length` long and `pages` has a byte for each page.
    let answer = unsafe { libc::mincore(map, length, pages.as_mut_ptr()) };
    (answer == 0).then(|| pages.iter().any(|page| page & 1 != 0))
}

#[cfg(test)]
pub(super) mod for_tests {
    use std::os::fd::RawFd;

    /// What each of the two ways says of a range.
    pub fn both(fd: RawFd, off: u64, len: u64) -> (Option<bool>, Option<bool>) {
        let Some(span) = super::Span::outward(off, len, super::page_size()) else {
            return (None, None);
        };
        (super::cachestat(fd, span), super::mincore(fd, span))
    }
}
