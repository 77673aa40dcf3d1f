//! copy_file_range: the call, what it can do for a pair, and what the errors of
//! the kernel's copies mean.

use crate::clone::{Judgement, Trial, trial};
use crate::device::Device;
use crate::fs::{block_of, errno, is_shared, size};
use std::os::fd::RawFd;
use xcopy_abi::*;

/// What a command did.
pub struct Moved {
    /// Bytes from the start that are copied.
    pub bytes: u64,
    /// They passed through the host.
    pub through_host: bool,
    /// Why not all of them.
    pub stopped: Option<Judgement>,
    /// The errno of that.
    pub errno: i32,
}

impl Moved {
    /// Stopped before the first byte.
    pub fn nothing(errno: i32) -> Moved {
        Moved {
            bytes: 0,
            through_host: false,
            stopped: Some(judge(errno)),
            errno,
        }
    }

    /// Stopped where it is.
    pub fn stop(&mut self, errno: i32, judged: Judgement) {
        self.errno = errno;
        self.stopped = Some(judged);
    }

    /// Takes back what a later failure says of a destination that was touched.
    pub fn settled(mut self) -> Moved {
        if self.bytes > 0
            && let Some(judged) = &mut self.stopped
        {
            judged.flags &= !XCOPY_RESULT_UNTOUCHED;
        }
        self
    }
}

/// What copy_file_range can do for a pair.
pub enum Ranges {
    /// The file system shares extents, or its server copies.
    Offloads,
    /// The kernel moves the bytes through its page cache.
    Moves,
    /// Nothing, by this errno.
    Refused(i32),
}

/// Asks the kernel with an empty range, which changes nothing. Block devices
/// are refused with EINVAL by kernels as released; some vendors' allow them.
pub fn judge_ranges(src: &Device, dst: &Device) -> Ranges {
    if let Err(errno) = call_ranges(src.fd, 0, dst.fd, 0, 0) {
        return Ranges::Refused(errno);
    }
    if src.kind != XCOPY_KIND_FILE || dst.kind != XCOPY_KIND_FILE {
        return Ranges::Moves;
    }
    if served(src, dst) {
        return Ranges::Offloads;
    }
    let block = block_of(src.fd)
        .unwrap_or(4096)
        .max(block_of(dst.fd).unwrap_or(4096));
    match trial(src.fd, dst.fd, u64::from(block)) {
        Ok(Trial::Shares) => Ranges::Offloads,
        _ => Ranges::Moves,
    }
}

fn served(src: &Device, dst: &Device) -> bool {
    src.server_copies() && dst.server_copies() && src.file_system() == dst.file_system()
}

/// Copies a range by copy_file_range. With `only`, what the kernel would move
/// through the host by itself is left.
pub fn copy_ranges(src: &Device, dst: &Device, range: &xcopy_range, only: bool) -> Moved {
    if range.length == 0 {
        return Moved::nothing(libc::EINVAL);
    }
    let server = served(src, dst);
    let files = src.kind == XCOPY_KIND_FILE && dst.kind == XCOPY_KIND_FILE;
    let block = match block_of(dst.fd) {
        Ok(block) => u64::from(block),
        Err(errno) => return Moved::nothing(errno),
    };
    let in_line = range.src_offset.is_multiple_of(block) && range.dst_offset.is_multiple_of(block);
    let whole = sharable(src, dst, range, block);
    let mut length = range.length;
    if only && !server {
        length = if in_line { whole } else { 0 };
        if length == 0 {
            let mut left = Moved::nothing(libc::EINVAL);
            left.stop(libc::EINVAL, misaligned(XCOPY_RESULT_UNTOUCHED));
            return left;
        }
    }
    let mut moved = repeat(length, |done| {
        let (from, to) = (range.src_offset + done, range.dst_offset + done);
        call_ranges(src.fd, from, dst.fd, to, length - done)
    });
    moved.through_host = moved.bytes > 0
        && !server
        && !(files
            && in_line
            && whole >= length
            && is_shared(dst.fd, range.dst_offset, moved.bytes, block));
    if moved.stopped.is_none() && only && moved.through_host {
        moved.stop(libc::EOPNOTSUPP, judge(libc::EOPNOTSUPP));
    } else if moved.stopped.is_none() && length < range.length {
        moved.stop(libc::EINVAL, misaligned(0));
    }
    moved.settled()
}

/// Bytes of a range, in line with blocks at its start, that can be shared: whole
/// blocks, and the last one of a source that becomes the last of the destination.
fn sharable(src: &Device, dst: &Device, range: &xcopy_range, block: u64) -> u64 {
    let ends = |fd: RawFd, end: u64, exact: bool| {
        size(fd).is_ok_and(|size| if exact { size == end } else { size <= end })
    };
    let last = ends(src.fd, range.src_offset.saturating_add(range.length), true)
        && ends(dst.fd, range.dst_offset.saturating_add(range.length), false);
    match last {
        true => range.length,
        false => range.length - range.length % block,
    }
}

/// Calls until `length` bytes are moved: a short answer is usual.
pub fn repeat(length: u64, mut call: impl FnMut(u64) -> Result<u64, i32>) -> Moved {
    let mut moved = Moved {
        bytes: 0,
        through_host: false,
        stopped: None,
        errno: 0,
    };
    while moved.bytes < length {
        match call(moved.bytes) {
            // The range was within the source when it was planned.
            Ok(0) => moved.stop(libc::EIO, ended_early()),
            Ok(bytes) => {
                moved.bytes += bytes.min(length - moved.bytes);
                continue;
            }
            Err(libc::EINTR) => continue,
            Err(errno) => moved.stop(errno, judge(errno)),
        }
        break;
    }
    moved
}

fn call_ranges(src: RawFd, from: u64, dst: RawFd, to: u64, length: u64) -> Result<u64, i32> {
    let (Ok(mut from), Ok(mut to)) = (i64::try_from(from), i64::try_from(to)) else {
        return Err(libc::EFBIG);
    };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    // SAFETY: the kernel reads and writes the two positions, which live for the
    // call; bad fds and ranges are errors.
    let n = unsafe {
        libc::syscall(
            libc::SYS_copy_file_range,
            src,
            &raw mut from,
            dst,
            &raw mut to,
            length,
            0_u32,
        )
    };
    u64::try_from(n).map_err(|_| errno())
}

fn misaligned(flags: u32) -> Judgement {
    Judgement {
        action: XCOPY_ACTION_NEXT_METHOD,
        reason: XCOPY_REASON_MISALIGNED,
        flags,
        text: "out of line with the file system's blocks",
    }
}

fn ended_early() -> Judgement {
    Judgement {
        action: XCOPY_ACTION_FATAL,
        reason: XCOPY_REASON_FAILED,
        flags: XCOPY_RESULT_ERR_ON_READ,
        text: "the source ended before the range did",
    }
}

/// Judges an errno of copy_file_range or sendfile.
pub fn judge(errno: i32) -> Judgement {
    let (action, reason, flags, text) = match errno {
        libc::EXDEV => (
            XCOPY_ACTION_NEXT_METHOD,
            XCOPY_REASON_CROSS_DEVICE,
            XCOPY_RESULT_UNTOUCHED,
            "the files are on two file systems; method sendfile can copy them, by name",
        ),
        libc::EOPNOTSUPP | libc::ENOTTY => (
            XCOPY_ACTION_NEXT_METHOD,
            XCOPY_REASON_NOT_SUPPORTED,
            XCOPY_RESULT_UNTOUCHED,
            "the file system does not support it",
        ),
        libc::ENOSYS => (
            XCOPY_ACTION_NEXT_METHOD,
            XCOPY_REASON_KERNEL,
            XCOPY_RESULT_UNTOUCHED,
            "the kernel lacks the call, or a sandbox forbids it",
        ),
        libc::EPERM | libc::EACCES | libc::EBADF => (
            XCOPY_ACTION_NEXT_METHOD,
            XCOPY_REASON_PERMISSION,
            0,
            "writing the destination is not permitted (not open for writing, immutable, append-only?)",
        ),
        libc::ETXTBSY => (
            XCOPY_ACTION_NEXT_METHOD,
            XCOPY_REASON_FAILED,
            XCOPY_RESULT_UNTOUCHED,
            "one of the files is a swap file or a running program",
        ),
        libc::EINVAL => (
            XCOPY_ACTION_NEXT_METHOD,
            XCOPY_REASON_FAILED,
            0,
            "the kernel refused the range",
        ),
        libc::EAGAIN => (
            XCOPY_ACTION_RETRY,
            XCOPY_REASON_FAILED,
            0,
            "busy; it is tried again",
        ),
        libc::ENOSPC | libc::EDQUOT | libc::EROFS | libc::EFBIG => (
            XCOPY_ACTION_FATAL,
            XCOPY_REASON_FAILED,
            XCOPY_RESULT_ERR_ON_WRITE,
            "the destination has no room, or cannot be written",
        ),
        _ => (
            XCOPY_ACTION_DEFAULT,
            XCOPY_REASON_FAILED,
            0,
            "copying inside the kernel failed",
        ),
    };
    Judgement {
        action,
        reason,
        flags,
        text,
    }
}
