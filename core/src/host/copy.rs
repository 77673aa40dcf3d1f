//! Copies a range through host memory.

use super::pieces::{Emptiness, Looks, Piece};
use super::zero::{zero, zero_within};
use super::{Outcome, Side, errno, in_file_space, read_full, write_full};
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
    /// Where holes are looked for: those of the source become holes, or cheap zeroes,
    /// of the destination. None copies them as data.
    pub looks: Option<&'a mut Looks>,
    /// Bytes of data after which a copy with holes ends: a prefix short of the length
    /// is gone on with by another one. A hole is no work, however long.
    pub room: u64,
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
/// Bytes of data that a piece costs as much time as.
const PIECE_BYTES: u64 = 4096;
/// Bytes that are punched in the time in which one is copied.
const PUNCH_BYTES: u64 = 64;

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
    match job.looks.take() {
        Some(looks) => job.pieces(looks, &mut done),
        None => job.data(job.length, &mut done),
    }
    done
}

impl CopyJob<'_> {
    /// Copies what is data and makes holes of what is none, as far as there is room.
    fn pieces(&mut self, looks: &mut Looks, done: &mut Outcome) {
        let behind = self.src_offset + self.length;
        let ahead = self.ahead.min(i64::MAX as u64 - behind);
        // Bytes before `done.prefix` that a write behind them makes a hole.
        let mut beyond = 0;
        while done.error.is_none() && done.prefix < self.length {
            let over = self.room == 0 && beyond == 0;
            if over || self.stop.load(Ordering::Relaxed) {
                break;
            }
            let begun = done.prefix;
            let at = self.src_offset + begun;
            let left = self.length - begun;
            match looks.src.at(self.src, at, behind + ahead) {
                Piece::Data(length) => {
                    let length = length.min(left).min(self.room.max(PIECE_BYTES));
                    self.data(begun + length, done);
                    if done.prefix > begun {
                        beyond = 0;
                    }
                    self.room = self.room.saturating_sub(length);
                    // Short without an error: the stop flag.
                    if done.prefix < begun + length {
                        break;
                    }
                }
                Piece::Hole(length) => {
                    let length = length.min(left);
                    let to = self.dst_offset + begun;
                    match self.dst_is_file.then(|| looks.dst.at(self.dst, to, length)) {
                        Some(Emptiness::Hole(bytes)) => done.add_zeroed(bytes),
                        // What is written behind it leaves a hole by itself.
                        Some(Emptiness::Beyond) => {
                            done.add_zeroed(length);
                            beyond += length;
                        }
                        Some(Emptiness::Unknown(bytes)) => {
                            self.hole(bytes, looks, done);
                            beyond = 0;
                        }
                        None => self.hole(length, looks, done),
                    }
                }
            }
            self.room = self.room.saturating_sub(PIECE_BYTES);
        }
        self.grow(beyond, done);
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
            done.touch(want as u64);
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
            done.touch(read as u64);
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
        done.touch(0);
        (done.prefix, done.zeroed) = (done.prefix - missing, done.zeroed - missing);
        done.error = done.error.or(part.error);
    }

    /// Makes zeroes of `bytes` from `done.prefix` on, or of some of them.
    fn hole(&mut self, bytes: u64, looks: &mut Looks, done: &mut Outcome) {
        let kind = if self.dst_is_file {
            XCOPY_KIND_FILE
        } else {
            XCOPY_KIND_DISK
        };
        let range = (self.dst_offset + done.prefix, bytes);
        let room = self.room.max(PIECE_BYTES).saturating_mul(PUNCH_BYTES);
        let mut left = room;
        let part = zero_within(self.dst, kind, range, &mut looks.dst, &mut left, self.stop);
        done.touch(part.touched);
        done.add_zeroed(part.prefix);
        done.error = part.error;
        self.room = self.room.saturating_sub((room - left) / PUNCH_BYTES);
    }
}
