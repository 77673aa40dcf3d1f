//! Copies a range through host memory.

use super::{Outcome, Side, errno, in_file_space, read_full, write_full, zero::zero};
use crate::device::cached_pages;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use xcopy_abi::{XCOPY_KIND_DISK, XCOPY_KIND_FILE};

/// One contiguous copy.
pub struct CopyJob<'a> {
    /// Open for reading.
    pub src: RawFd,
    /// Open for writing.
    pub dst: RawFd,
    /// First byte at the source.
    pub src_offset: u64,
    /// First byte at the destination.
    pub dst_offset: u64,
    /// Bytes.
    pub length: u64,
    /// Holes of the source become holes, or cheap zeroes, of the destination.
    pub keep_holes: bool,
    /// Its length is the size of one chunk.
    pub buffer: &'a mut [u8],
    /// The destination is a regular file, not a disk.
    pub dst_is_file: bool,
    /// The kernel is asked to move data by itself (`Mover`).
    pub by_kernel: bool,
    /// Ends the copy between two chunks.
    pub stop: &'a AtomicBool,
}

/// Bytes of one move inside the kernel at most, so that a stop is seen.
const MOVE_BYTES: u64 = 4 << 20;

/// Islands of data that are asked for at once.
const ISLANDS_AHEAD: u32 = 64;

/// Has the kernel begin to read a range.
pub(super) fn ask_for(fd: RawFd, offset: u64, length: u64) {
    // SAFETY: takes numbers only; advice that is refused is no loss.
    unsafe {
        libc::posix_fadvise64(fd, offset as i64, length as i64, libc::POSIX_FADV_WILLNEED);
    }
}

/// Copies. A source that ends before the range does is `EIO` on the read side:
/// the range was checked against its size before.
pub fn copy(mut job: CopyJob) -> Outcome {
    let mut done = Outcome::default();
    if job.length == 0 {
        return done;
    }
    if job.buffer.is_empty() || !in_file_space(job.src_offset, job.length) {
        done.error = Some((libc::EINVAL, Side::Read));
        return done;
    }
    if !in_file_space(job.dst_offset, job.length) {
        done.error = Some((libc::EFBIG, Side::Write));
        return done;
    }
    if job.keep_holes {
        job.ask_ahead();
    }
    while done.prefix < job.length && done.error.is_none() {
        let left = job.length - done.prefix;
        let piece = if job.keep_holes {
            next_piece(job.src, job.src_offset + done.prefix, left)
        } else {
            Piece::Data(left)
        };
        let end = done.prefix
            + match piece {
                Piece::Data(length) | Piece::Hole(length) => length,
            };
        match piece {
            Piece::Data(_) => job.data(end, &mut done),
            Piece::Hole(_) => job.hole(end, &mut done),
        }
        // Short without an error: the stop flag.
        if done.prefix < end {
            break;
        }
    }
    done
}

impl CopyJob<'_> {
    /// Has the kernel begin to read all islands of data at once, if the first is
    /// not in the page cache: it reads nothing ahead beyond a hole, so that the
    /// disk would be waited for island by island.
    fn ask_ahead(&self) {
        let (mut at, mut islands) = (0, 0);
        while at < self.length && islands < ISLANDS_AHEAD {
            let start = self.src_offset + at;
            let length = match next_piece(self.src, start, self.length - at) {
                Piece::Hole(length) => {
                    at += length;
                    continue;
                }
                Piece::Data(length) => length,
            };
            let is_cold = || cached_pages(self.src, start, length) == Some(0);
            if length == self.length || (islands == 0 && !is_cold()) {
                return;
            }
            ask_for(self.src, start, length);
            (at, islands) = (at + length, islands + 1);
        }
    }

    /// Moves data from `done.prefix` up to `end`.
    fn data(&mut self, end: u64, done: &mut Outcome) {
        if self.by_kernel {
            self.move_within(end, done);
        }
        self.read_and_write(end, done);
    }

    /// Has the kernel move data, until it does not want to: what is left then is
    /// read and written, which also finds the true error.
    fn move_within(&mut self, end: u64, done: &mut Outcome) {
        while done.prefix < end && !self.stop.load(Ordering::Relaxed) {
            let mut from = (self.src_offset + done.prefix) as i64;
            let mut to = (self.dst_offset + done.prefix) as i64;
            let want = (end - done.prefix).min(MOVE_BYTES) as usize;
            // SAFETY: the kernel reads and writes the two positions, which live for
            // the call; a bad fd is an error.
            let n =
                unsafe { libc::copy_file_range(self.src, &mut from, self.dst, &mut to, want, 0) };
            match u64::try_from(n) {
                Ok(moved @ 1..) => done.add_copied(moved.min(want as u64)),
                Err(_) if errno() == libc::EINTR => {}
                _ => return,
            }
        }
    }

    /// Reads and writes from `done.prefix` up to `end`.
    fn read_and_write(&mut self, end: u64, done: &mut Outcome) {
        while done.prefix < end && !self.stop.load(Ordering::Relaxed) {
            let want = (end - done.prefix).min(self.buffer.len() as u64) as usize;
            let chunk = &mut self.buffer[..want];
            let (read, read_error) = read_full(self.src, chunk, self.src_offset + done.prefix);
            // What was read before an error is written: the prefix is longer.
            let (written, write_error) =
                write_full(self.dst, &chunk[..read], self.dst_offset + done.prefix);
            done.add_copied(written as u64);
            done.error = match (write_error, read_error) {
                (Some(error), _) => Some((error, Side::Write)),
                (None, Some(error)) => Some((error, Side::Read)),
                (None, None) if read < want => Some((libc::EIO, Side::Read)),
                (None, None) => None,
            };
            if done.error.is_some() {
                return;
            }
        }
    }

    /// Makes zeroes from `done.prefix` up to `end`.
    fn hole(&mut self, end: u64, done: &mut Outcome) {
        let kind = if self.dst_is_file {
            XCOPY_KIND_FILE
        } else {
            XCOPY_KIND_DISK
        };
        let at = self.dst_offset + done.prefix;
        let part = zero(self.dst, kind, at, end - done.prefix, self.stop);
        done.add_zeroed(part.prefix);
        done.error = part.error;
    }
}

/// The next run of a source, in bytes.
enum Piece {
    Data(u64),
    Hole(u64),
}

/// What starts at `at`, at most `left` bytes of it. Data where the file system
/// cannot tell, and beyond the end, so that the read finds it.
fn next_piece(fd: RawFd, at: u64, left: u64) -> Piece {
    // The file position is shared with every duplicate of the fd, the caller's
    // too, so it is put back. The lock keeps two searches from each putting
    // back the other's position.
    static POSITION: Mutex<()> = Mutex::new(());
    let _guard = POSITION.lock().unwrap_or_else(PoisonError::into_inner);
    let Ok(position) = seek(fd, 0, libc::SEEK_CUR) else {
        return Piece::Data(left);
    };
    let piece = match seek(fd, at, libc::SEEK_DATA) {
        Ok(data) if data > at => Piece::Hole((data - at).min(left)),
        Ok(_) => match seek(fd, at, libc::SEEK_HOLE) {
            Ok(hole) if hole > at => Piece::Data((hole - at).min(left)),
            _ => Piece::Data(left),
        },
        // No data from here to the end.
        Err(libc::ENXIO) => match seek(fd, 0, libc::SEEK_END) {
            Ok(size) if size > at => Piece::Hole((size - at).min(left)),
            _ => Piece::Data(left),
        },
        Err(_) => Piece::Data(left),
    };
    let _ = seek(fd, position, libc::SEEK_SET);
    piece
}

fn seek(fd: RawFd, to: u64, whence: i32) -> Result<u64, i32> {
    // SAFETY: takes numbers only; a bad fd or place is an error.
    let at = unsafe { libc::lseek64(fd, to as i64, whence) };
    u64::try_from(at).map_err(|_| super::errno())
}
