//! sendfile, and the pair of splices that does the same at a stated offset.

use crate::device::Device;
use crate::fs::errno;
use crate::kernel::{Moved, repeat};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use xcopy_abi::xcopy_range;

/// Bytes that a pipe is asked to hold: what an ordinary user may have.
const PIPE_BYTES: i32 = 1 << 20;

/// Moves a range inside the kernel. sendfile writes at the file position, so it
/// needs an open file of our own; a borrowed fd, whose position is its owner's,
/// is written through a pipe, as sendfile itself does it.
pub fn send(src: &Device, dst: &Device, range: &xcopy_range) -> Moved {
    if range.length == 0 {
        return Moved::nothing(libc::EINVAL);
    }
    let mut private = dst.private();
    let mut moved = match private.get(dst) {
        Ok(out) => repeat(range.length, |done| {
            let (from, to) = (range.src_offset + done, range.dst_offset + done);
            call_send(src.fd, from, out.as_raw_fd(), to, range.length - done)
        }),
        Err(_) => {
            drop(private);
            match pipe() {
                Ok((read, write)) => through_pipe(src.fd, dst.fd, range, &read, &write),
                Err(errno) => return Moved::nothing(errno),
            }
        }
    };
    moved.through_host = moved.bytes > 0;
    moved.settled()
}

/// `out` is an open file of our own: nobody else moves its position.
fn call_send(src: RawFd, from: u64, out: RawFd, to: u64, length: u64) -> Result<u64, i32> {
    let (Ok(mut from), Ok(to)) = (i64::try_from(from), i64::try_from(to)) else {
        return Err(libc::EFBIG);
    };
    // SAFETY: takes numbers only; a bad fd or place is an error.
    if unsafe { libc::lseek64(out, to, libc::SEEK_SET) } != to {
        return Err(errno());
    }
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    // SAFETY: the kernel reads and writes the position, which lives for the call.
    let n = unsafe { libc::sendfile64(out, src, &raw mut from, length) };
    u64::try_from(n).map_err(|_| errno())
}

fn pipe() -> Result<(OwnedFd, OwnedFd), i32> {
    let mut ends = [0; 2];
    // SAFETY: room for two fds.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        return Err(errno());
    }
    // SAFETY: pipe2 just made them, and nobody else knows them.
    let (read, write) = unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) };
    // SAFETY: takes numbers only. A smaller pipe does too.
    unsafe { libc::fcntl(write.as_raw_fd(), libc::F_SETPIPE_SZ, PIPE_BYTES) };
    Ok((read, write))
}

fn through_pipe(
    src: RawFd,
    dst: RawFd,
    range: &xcopy_range,
    read: &OwnedFd,
    write: &OwnedFd,
) -> Moved {
    // Bytes that were read and wait in the pipe.
    let mut waiting = 0;
    repeat(range.length, |done| {
        if waiting == 0 {
            let left = (range.length - done).min(PIPE_BYTES as u64);
            let end = (write.as_raw_fd(), None);
            waiting = call_splice((src, Some(range.src_offset + done)), end, left)?;
            if waiting == 0 {
                return Ok(0);
            }
        }
        let end = (dst, Some(range.dst_offset + done));
        match call_splice((read.as_raw_fd(), None), end, waiting)? {
            // Not the end of the source: the destination takes nothing.
            0 => Err(libc::EIO),
            written => {
                waiting -= written.min(waiting);
                Ok(written)
            }
        }
    })
}

type End = (RawFd, Option<u64>);

fn call_splice(src: End, dst: End, length: u64) -> Result<u64, i32> {
    let place = |offset: Option<u64>| offset.map(i64::try_from).transpose();
    let (Ok(mut from), Ok(mut to)) = (place(src.1), place(dst.1)) else {
        return Err(libc::EFBIG);
    };
    let pointer = |offset: &mut Option<i64>| match offset {
        Some(offset) => offset as *mut i64,
        None => std::ptr::null_mut(),
    };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    // SAFETY: the kernel reads and writes the positions, which live for the
    // call; NULL is a pipe's. Bad fds are errors.
    let n = unsafe {
        libc::splice(
            src.0,
            pointer(&mut from),
            dst.0,
            pointer(&mut to),
            length,
            0,
        )
    };
    u64::try_from(n).map_err(|_| errno())
}
