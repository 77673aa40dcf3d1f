//! FICLONERANGE: the call, the trial that changes nothing, and what its errors mean.

use crate::fs::{SMB, errno, magic, size};
use std::os::fd::RawFd;
use xcopy_abi::*;

/// Shares `length` bytes of `src` with `dst`; an errno if not. A length of 0,
/// which the kernel takes for "to the end", is refused.
pub fn clone_range(src: RawFd, dst: RawFd, range: &xcopy_range) -> Result<(), i32> {
    if range.length == 0 {
        return Err(libc::EINVAL);
    }
    let argument = libc::file_clone_range {
        src_fd: i64::from(src),
        src_offset: range.src_offset,
        src_length: range.length,
        dest_offset: range.dst_offset,
    };
    // SAFETY: the kernel reads the struct behind the pointer, which lives for
    // the call; bad fds and ranges are errors.
    match unsafe { libc::ioctl(dst, libc::FICLONERANGE as _, &raw const argument) } {
        0 => Ok(()),
        _ => Err(errno()),
    }
}

/// How a pair was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trial {
    /// Extents can be shared.
    Shares,
    /// They cannot, by this errno.
    Refuses(i32),
    /// A trial could change the destination; only a real copy can tell.
    Untried,
}

/// Tries a block far beyond the source's end: a file system that shares extents
/// checks the range and says EINVAL, one that does not says EOPNOTSUPP, or EXDEV
/// for two file systems. XFS (also made without reflink), btrfs, ext4, tmpfs and
/// overlay do so, and leave sizes, times and bytes as they are.
pub fn trial(src: RawFd, dst: RawFd, block: u64) -> Result<Trial, i32> {
    // The last block but one of all file positions: its end is representable,
    // so EINVAL is not about that.
    let far = (i64::MAX as u64 / block - 1) * block;
    let (source, destination) = (size(src)?, size(dst)?);
    // SMB enlarges a destination before the server looks at the range.
    let smb = SMB.contains(&magic(dst)?);
    if source > far || (smb && destination < block) {
        return Ok(Trial::Untried);
    }
    let range = xcopy_range {
        src_offset: far,
        dst_offset: 0,
        length: block,
    };
    match clone_range(src, dst, &range) {
        Err(libc::EINVAL) => Ok(Trial::Shares),
        Err(errno @ (libc::EINTR | libc::EAGAIN)) => Err(errno),
        Err(errno) => Ok(Trial::Refuses(errno)),
        // The source grew to 8 EiB in between.
        Ok(()) => Ok(Trial::Shares),
    }
}

/// What the core does after an errno.
pub struct Judgement {
    /// One of XCOPY_ACTION_.
    pub action: u16,
    /// One of XCOPY_REASON_.
    pub reason: u16,
    /// XCOPY_RESULT_ flags.
    pub flags: u32,
    /// For a person.
    pub text: &'static str,
}

/// Judges an errno of FICLONERANGE.
pub fn judge(errno: i32) -> Judgement {
    let (action, reason, flags, text) = match errno {
        libc::EOPNOTSUPP | libc::ENOTTY | libc::ENOSYS => (
            XCOPY_ACTION_NEXT_METHOD,
            XCOPY_REASON_NOT_SUPPORTED,
            XCOPY_RESULT_UNTOUCHED,
            "the file system does not share extents; XFS made with reflink=1 and btrfs do",
        ),
        libc::EXDEV => (
            XCOPY_ACTION_NEXT_METHOD,
            XCOPY_REASON_CROSS_DEVICE,
            XCOPY_RESULT_UNTOUCHED,
            "the files are on two file systems; put both on one that shares extents",
        ),
        libc::EPERM | libc::EACCES | libc::EBADF => (
            XCOPY_ACTION_NEXT_METHOD,
            XCOPY_REASON_PERMISSION,
            0,
            "sharing extents with the destination is not permitted (immutable, append-only or sealed?)",
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
            "the file system refused to share these ranges; the source may have shrunk",
        ),
        libc::EINTR | libc::EAGAIN => (
            XCOPY_ACTION_RETRY,
            XCOPY_REASON_FAILED,
            0,
            "interrupted; it is tried again",
        ),
        // XFS says so when one allocation group has no room for its records; a
        // plain write can still succeed, and if not, it tells.
        libc::ENOSPC => (
            XCOPY_ACTION_NEXT_METHOD,
            XCOPY_REASON_RESOURCES,
            XCOPY_RESULT_ERR_ON_WRITE,
            "the file system has no room for the records of shared extents",
        ),
        libc::EDQUOT => (
            XCOPY_ACTION_FATAL,
            XCOPY_REASON_FAILED,
            XCOPY_RESULT_ERR_ON_WRITE,
            "the destination's quota is used up; raise it or make room",
        ),
        libc::EROFS | libc::EFBIG => (
            XCOPY_ACTION_FATAL,
            XCOPY_REASON_FAILED,
            XCOPY_RESULT_ERR_ON_WRITE,
            "the destination cannot be written, or not that far out",
        ),
        _ => (
            XCOPY_ACTION_DEFAULT,
            XCOPY_REASON_FAILED,
            0,
            "sharing extents failed",
        ),
    };
    Judgement {
        action,
        reason,
        flags,
        text,
    }
}
