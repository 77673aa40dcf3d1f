//! Copies a range through host memory.

use super::pieces::{Emptiness, Holes, Piece, Pieces};
use super::zero::zero;
use super::{Outcome, Side, errno, in_file_space, read_full, write_full};
use crate::device::cached_pages;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
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
    /// Bytes of the source behind these that are likely to be copied next.
    pub ahead: u64,
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
    if !job.keep_holes {
        job.data(job.length, &mut done);
        return done;
    }
    let mut pieces = Pieces::new(job.src, job.src_offset, job.length);
    job.ask_ahead(&mut pieces);
    let mut beyond = 0;
    let mut holes = None;
    while done.error.is_none()
        && let Some(piece) = pieces.next()
    {
        let begun = done.prefix;
        let (Piece::Data(length) | Piece::Hole(length)) = piece;
        let end = begun + length;
        match piece {
            Piece::Data(_) => {
                job.data(end, &mut done);
                if done.prefix > begun {
                    beyond = 0;
                }
            }
            Piece::Hole(_) if job.dst_is_file => {
                let holes = holes.get_or_insert_with(|| Holes::of(job.dst));
                match holes.at(job.dst_offset + begun, length) {
                    Emptiness::Hole => done.add_zeroed(length),
                    // What is written behind it leaves a hole by itself.
                    Emptiness::Beyond => {
                        done.add_zeroed(length);
                        beyond = length;
                    }
                    Emptiness::Unknown => job.hole(end, &mut done),
                }
            }
            Piece::Hole(_) => job.hole(end, &mut done),
        }
        // Short without an error: the stop flag.
        if done.prefix < end {
            break;
        }
    }
    job.grow(beyond, &mut done);
    done
}

impl CopyJob<'_> {
    /// Has the kernel begin to read the islands of data: it reads nothing ahead
    /// beyond a hole, so that the disk would be waited for island by island.
    fn ask_ahead(&self, pieces: &mut Pieces) {
        let without_holes = Some(Piece::Data(self.length));
        if pieces.known().next() == without_holes {
            return;
        }
        self.ask_for_islands(self.src_offset, pieces);
        let next = self.src_offset + self.length;
        if self.ahead > 0 && in_file_space(next, self.ahead) {
            self.ask_for_islands(next, &mut Pieces::new(self.src, next, self.ahead));
        }
    }

    /// Asks for all islands, from `start` on, if the first is not in the page cache.
    fn ask_for_islands(&self, mut start: u64, pieces: &mut Pieces) {
        let mut is_first = true;
        for piece in pieces.known() {
            let (Piece::Data(length) | Piece::Hole(length)) = piece;
            if let Piece::Data(_) = piece {
                if is_first && cached_pages(self.src, start, length) != Some(0) {
                    return;
                }
                ask_for(self.src, start, length);
                is_first = false;
            }
            start += length;
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

    /// Makes a file as long as the last `bytes` that were left to a write which did
    /// not come.
    fn grow(&self, bytes: u64, done: &mut Outcome) {
        if bytes == 0 {
            return;
        }
        let at = self.dst_offset + done.prefix - bytes;
        let part = zero(
            self.dst,
            XCOPY_KIND_FILE,
            at,
            bytes,
            &AtomicBool::new(false),
        );
        let missing = bytes - part.prefix;
        (done.prefix, done.zeroed) = (done.prefix - missing, done.zeroed - missing);
        done.error = done.error.or(part.error);
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
