//! The host method: what moves bytes between two kernel fds when nothing is
//! offloaded, and what makes a range read as zeroes.
//!
//! `copy`, `copy_ranges` and `zero` block and run on the pool; `ring` is polled by its owner.

mod buffer;
mod copy;
mod lanes;
mod mover;
mod pieces;
mod ranges;
mod ring;
mod ring_chunks;
mod ring_kernel;
mod ring_work;
mod zero;

pub use buffer::{Buffer, Buffers, Short, wipe};
pub use copy::{CopyJob, copy};
pub use lanes::Lanes;
pub use mover::Mover;
pub use pieces::Looks;
pub use ranges::{RangesJob, copy_ranges};
pub use ring::HostRing;
pub use ring_work::RingCopy;
pub use zero::{zero, zero_some};

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

/// The side of a copy on which an error arose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Reading the source.
    Read,
    /// Writing the destination.
    Write,
}

/// What a blocking call did. Work goes from the start to the end, so `prefix`
/// is `copied + zeroed`. `prefix` short of the length without an error means
/// that the stop flag was seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Bytes that were read and written.
    pub copied: u64,
    /// Bytes made to read as zeroes; they count as method `zero`.
    pub zeroed: u64,
    /// A positive errno, and the side it arose on.
    pub error: Option<(i32, Side)>,
    /// Bytes from the start known to be done.
    pub prefix: u64,
    /// No byte of the destination this far from the start, or further, was touched;
    /// at least `prefix` is meant.
    pub touched: u64,
}

impl Outcome {
    fn add_copied(&mut self, bytes: u64) {
        self.copied += bytes;
        self.prefix += bytes;
    }

    /// So many bytes behind what is done are about to be written.
    fn touch(&mut self, bytes: u64) {
        self.touched = self.touched.max(self.prefix.saturating_add(bytes));
    }

    fn add_zeroed(&mut self, bytes: u64) {
        self.zeroed += bytes;
        self.prefix += bytes;
    }
}

/// The calling thread's last errno.
fn errno() -> i32 {
    io::Error::last_os_error()
        .raw_os_error()
        .unwrap_or(libc::EIO)
}

/// Processor time of the calling thread, in nanoseconds.
fn cpu_ns() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a place for the answer that lives through the call.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    (time.tv_sec as u64)
        .saturating_mul(1_000_000_000)
        .saturating_add(time.tv_nsec as u64)
}

/// Whether `offset + length` is a file position of the kernel.
fn in_file_space(offset: u64, length: u64) -> bool {
    offset
        .checked_add(length)
        .is_some_and(|end| i64::try_from(end).is_ok())
}

/// The same file again without O_DIRECT, for what that does not take: a part of a
/// block. None if the fd has no such flag, or the file cannot be opened so.
fn through_the_cache(fd: RawFd) -> Option<File> {
    // SAFETY: asks for the flags of a number; a bad fd is an error.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    if flags < 0 || flags & libc::O_DIRECT == 0 {
        return None;
    }
    let access = flags & libc::O_ACCMODE;
    OpenOptions::new()
        .read(access != libc::O_WRONLY)
        .write(access != libc::O_RDONLY)
        .custom_flags(libc::O_NOCTTY)
        .open(format!("/proc/self/fd/{fd}"))
        .ok()
}

/// Calls `step` with an fd and the bytes done before until all of `length` are done or
/// one answers 0; an error after some bytes comes with them.
fn in_full(fd: RawFd, length: usize, mut step: impl FnMut(RawFd, usize) -> isize) -> Full {
    let (mut done, mut cached) = (0, None::<File>);
    while done < length {
        match step(cached.as_ref().map_or(fd, File::as_raw_fd), done) {
            0 => break,
            n if n > 0 => done += n as usize,
            _ => match errno() {
                libc::EINTR => {}
                error @ libc::EINVAL if cached.is_none() => {
                    cached = through_the_cache(fd);
                    if cached.is_none() {
                        return (done, Some(error));
                    }
                }
                error => return (done, Some(error)),
            },
        }
    }
    (done, None)
}

/// Bytes done, and the error that ended it.
type Full = (usize, Option<i32>);

/// Reads until `buffer` is full or the end is met; an error after some bytes
/// comes with them.
fn read_full(fd: RawFd, buffer: &mut [u8], offset: u64) -> Full {
    in_full(fd, buffer.len(), |fd, done| {
        let rest = &mut buffer[done..];
        // SAFETY: `rest` is valid for writes of its length for the whole call;
        // a bad fd is an error, not undefined.
        unsafe {
            libc::pread64(
                fd,
                rest.as_mut_ptr().cast(),
                rest.len(),
                (offset + done as u64) as i64,
            )
        }
    })
}

/// Writes all of `data`; on an error, how much was written before it.
fn write_full(fd: RawFd, data: &[u8], offset: u64) -> Full {
    let (done, error) = in_full(fd, data.len(), |fd, done| {
        let rest = &data[done..];
        // SAFETY: `rest` is valid for reads of its length for the whole call;
        // a bad fd is an error, not undefined.
        unsafe {
            libc::pwrite64(
                fd,
                rest.as_ptr().cast(),
                rest.len(),
                (offset + done as u64) as i64,
            )
        }
    });
    (done, error.or((done < data.len()).then_some(libc::EIO)))
}

/// Fills `buffer` from one place: the read leg of a bridge. A source that ends
/// early is `EIO`, as in `copy`.
pub fn read_range(fd: RawFd, buffer: &mut [u8], offset: u64) -> Outcome {
    let (done, error) = read_full(fd, buffer, offset);
    let error = error.or((done < buffer.len()).then_some(libc::EIO));
    Outcome {
        copied: done as u64,
        zeroed: 0,
        error: error.map(|errno| (errno, Side::Read)),
        prefix: done as u64,
        touched: 0,
    }
}

/// Writes `data` to one place: the write leg of a bridge.
pub fn write_range(fd: RawFd, data: &[u8], offset: u64) -> Outcome {
    let (done, error) = write_full(fd, data, offset);
    Outcome {
        copied: done as u64,
        zeroed: 0,
        error: error.map(|errno| (errno, Side::Write)),
        prefix: done as u64,
        touched: data.len() as u64,
    }
}

#[cfg(test)]
mod ring_tests;
#[cfg(test)]
mod tests;
