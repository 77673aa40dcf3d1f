//! What a ring has to do: commands, and the pieces that each is moved in.

use super::ring_chunks::Chunk;
use super::{Outcome, Side};
use std::collections::VecDeque;
use std::os::fd::RawFd;

/// One contiguous copy by a ring.
#[derive(Clone, Copy, Debug)]
pub struct RingCopy {
    /// The caller's name for it; it comes back with the end.
    pub tag: u32,
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
            listed: false,
            outcome: Outcome::default(),
        }
    }

    /// Whether pieces are still to be made.
    pub(super) fn wants_pieces(&self) -> bool {
        !self.stopping && self.failed_at == u64::MAX && self.next < self.copy.length
    }

    /// Whether a piece at `at` is of no use any more.
    pub(super) fn gave_up(&self, at: u64) -> bool {
        self.stopping || at > self.failed_at
    }
}

impl Piece {
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
