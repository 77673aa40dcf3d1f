//! What a ring has to do: commands, and the pieces that each is moved in.

use super::ring_chunks::Chunk;
use super::{Outcome, Side};
use crate::device::cached_pages;
use std::collections::VecDeque;
use std::os::fd::RawFd;

/// One contiguous copy by a ring.
#[derive(Clone, Copy, Debug)]
pub struct RingCopy {
    /// The caller's name for it; it comes back with the end.
    pub tag: u64,
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
    /// Pieces that are all zeroes become holes of the destination, a file.
    pub punch: bool,
    /// The source again, open with O_DIRECT: for what is not in the page cache.
    pub direct_src: Option<RawFd>,
    /// The destination again, open with O_DIRECT: written so where aligned.
    pub direct_dst: Option<RawFd>,
}

/// Alignment for O_DIRECT that nearly every device takes; one that does not
/// says so, and is then read and written through the page cache.
pub(super) const BLOCK: u64 = 4096;

impl RingCopy {
    /// Whether any of it can go past the page cache.
    pub fn may_bypass(&self) -> bool {
        (self.direct_src.is_some() || self.direct_dst.is_some())
            && self.length >= BLOCK
            && (self.src_offset | self.dst_offset).is_multiple_of(BLOCK)
    }
}

/// How a piece is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadBy {
    /// Past the page cache.
    Direct,
    /// Through the page cache.
    Cache,
}

/// What a piece waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Read,
    Write,
    /// A hole in place of zeroes.
    Punch,
    /// The last byte of a hole, so that the file is long enough.
    Grow,
    /// Nothing more.
    Done,
}

/// A piece of a command on its way through one chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) job: u32,
    /// Its place in the command.
    pub(super) at: u64,
    pub(super) want: u32,
    pub(super) read: u32,
    pub(super) written: u32,
    pub(super) step: Step,
    pub(super) read_by: ReadBy,
    /// Written past the page cache.
    pub(super) write_direct: bool,
    /// Transient answers since it last moved on.
    pub(super) tries: u8,
    pub(super) chunk: Option<Chunk>,
    pub(super) error: Option<(i32, Side)>,
    /// It became a hole.
    pub(super) hole: bool,
}

/// A command.
pub(super) struct Job {
    pub(super) copy: RingCopy,
    /// First byte that no piece was made for.
    pub(super) next: u64,
    /// Its pieces in order, from the first that is not accounted.
    pub(super) pieces: VecDeque<u32>,
    /// Memory for one more piece: a command that has begun never waits for all.
    pub(super) reserve: Option<Chunk>,
    /// Where the first failure is: nothing after it counts.
    pub(super) failed_at: u64,
    pub(super) stopping: bool,
    /// Size of the destination that was last seen or made.
    pub(super) size: u64,
    pub(super) size_asked: bool,
    /// The source was last seen not to be in the page cache.
    pub(super) cold: bool,
    /// Queued for pieces to be made.
    pub(super) listed: bool,
    pub(super) outcome: Outcome,
}

impl Job {
    pub(super) fn new(copy: RingCopy, reserve: Chunk) -> Job {
        Job {
            copy,
            next: 0,
            pieces: VecDeque::new(),
            reserve: Some(reserve),
            failed_at: u64::MAX,
            stopping: false,
            size: 0,
            size_asked: false,
            cold: false,
            listed: false,
            outcome: Outcome::default(),
        }
    }

    /// Whether pieces are still to be made.
    pub(super) fn wants_pieces(&self) -> bool {
        !self.stopping && self.failed_at == u64::MAX && self.next < self.copy.length
    }

    /// Whether the next piece is to be a large one: operations past the page
    /// cache have no read-ahead and no write-behind.
    pub(super) fn wants_whole(&self) -> bool {
        let copy = &self.copy;
        copy.may_bypass() && (copy.direct_dst.is_some() || self.cold)
    }

    /// The next piece, for a chunk of `room` bytes.
    pub(super) fn next_piece(&mut self, index: u32, chunk: Chunk, small: usize) -> Piece {
        let left = self.copy.length - self.next;
        let room = match self.wants_whole() {
            true => u64::from(chunk.bytes),
            false => u64::from(chunk.bytes).min(small as u64),
        };
        let mut want = left.min(room);
        let bypass = self.copy.may_bypass() && want >= BLOCK;
        if bypass {
            // The rest, less than a block, goes through the page cache.
            want -= want % BLOCK;
        }
        let read_by = match self.copy.direct_src {
            Some(_)
                if bypass && !is_cached(self.copy.src, self.copy.src_offset + self.next, want) =>
            {
                ReadBy::Direct
            }
            _ => ReadBy::Cache,
        };
        self.cold = read_by == ReadBy::Direct;
        Piece {
            job: index,
            at: self.next,
            want: want as u32,
            read: 0,
            written: 0,
            step: Step::Read,
            read_by,
            write_direct: bypass && self.copy.direct_dst.is_some(),
            tries: 0,
            chunk: Some(chunk),
            error: None,
            hole: false,
        }
    }

    /// Whether the destination is at least that long. Asked once: nothing that
    /// belongs to the command makes it shorter.
    pub(super) fn is_as_long_as(&mut self, end: u64) -> bool {
        if self.size < end && !self.size_asked {
            self.size_asked = true;
            // SAFETY: an all-zero stat is valid, and fstat only writes to it.
            let mut stat: libc::stat64 = unsafe { std::mem::zeroed() };
            // SAFETY: as above; a bad fd is an error.
            if unsafe { libc::fstat64(self.copy.dst, &mut stat) } == 0 {
                self.size = self.size.max(stat.st_size as u64);
            }
        }
        self.size >= end
    }

    /// Whether a piece at `at` is of no use any more.
    pub(super) fn gave_up(&self, at: u64) -> bool {
        self.stopping || at > self.failed_at
    }
}

impl Piece {
    /// Whether the rest of what a read past the page cache answered is to be read
    /// through it: after a refusal, and after a short read, which is the end of
    /// the file or near to it.
    pub(super) fn is_left_to_cache(&self, result: i32) -> bool {
        if self.read_by != ReadBy::Direct || self.step != Step::Read {
            return false;
        }
        match -result {
            libc::EAGAIN | libc::EINVAL | libc::EOPNOTSUPP => true,
            _ => result > 0 && self.read + (result as u32) < self.want,
        }
    }

    /// Bytes known to be done from its start.
    pub(super) fn done(&self) -> u64 {
        u64::from(if self.hole { self.want } else { self.written })
    }
}

/// Whether all bytes are 0. Data is mostly told by its first word.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    let (blocks, rest) = bytes.as_chunks::<64>();
    blocks
        .iter()
        .all(|block| block.iter().fold(0, |all, byte| all | byte) == 0)
        && rest.iter().all(|byte| *byte == 0)
}

/// Whether all of a range is in the page cache. Where the kernel does not say, a
/// read through the cache is never wrong.
fn is_cached(fd: RawFd, offset: u64, length: u64) -> bool {
    match cached_pages(fd, offset, length) {
        Some(pages) => pages.saturating_mul(page_size()) >= length,
        None => true,
    }
}

fn page_size() -> u64 {
    // SAFETY: takes and gives numbers only.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(BLOCK)
}
