//! The host method without a thread: an io_uring that one owner polls.
//!
//! A command is moved in pieces. Each piece is read into a chunk and written
//! from it; several are on their way at once. Nothing here waits: `collect` takes
//! what ended, and `submit` enters the kernel once.

use super::ring_chunks::{Chunk, Chunks};
use super::ring_kernel::{build, entry_of};
use super::ring_work::{BLOCK, Job, Piece, ReadBy, RingCopy, Step, is_zero};
use super::{Buffers, Outcome, Side, in_file_space};
use crate::error::{Error, Result};
use io_uring::{IoUring, squeue};
use std::collections::VecDeque;
use std::os::fd::{AsRawFd, RawFd};

/// Pieces on their way at most. Each has one operation in the kernel, so the
/// submission queue, as large, never overflows.
pub(super) const PIECES: u32 = 64;
/// Of those, pieces of one command at most: more of them would only put the
/// pages that are read further from those that are written.
const PIECES_OF_ONE: usize = 4;
/// Transient answers to one operation before its command fails.
const TRIES: u8 = 64;

/// A ring and the commands given to it.
pub struct HostRing {
    ring: IoUring,
    chunks: Chunks,
    jobs: Vec<Option<Job>>,
    free_jobs: Vec<u32>,
    pieces: Vec<Piece>,
    free_pieces: Vec<u32>,
    /// Commands that want pieces, first come first served: the disk sees the
    /// order of the bytes.
    listed: VecDeque<u32>,
    /// Operations of which the kernel has not told the end.
    flying: u32,
    /// Operations in the submission queue that the kernel does not know of yet.
    queued: u32,
    /// Commands that ended without an operation to tell it.
    over: Vec<u32>,
    active: u32,
}

impl HostRing {
    /// A ring with memory from `buffers`. An error says why there is none: the
    /// kernel lacks it, it is switched off, or a sandbox or limit forbids it.
    pub fn new(buffers: Buffers, pinned: bool) -> Result<HostRing> {
        let ring = build(pinned).map_err(|error| Error::from_io("no io_uring", &error))?;
        Ok(HostRing {
            chunks: Chunks::new(buffers, &ring.submitter()),
            ring,
            jobs: Vec::new(),
            free_jobs: Vec::new(),
            pieces: Vec::with_capacity(PIECES as usize),
            free_pieces: Vec::with_capacity(PIECES as usize),
            listed: VecDeque::new(),
            flying: 0,
            queued: 0,
            over: Vec::new(),
            active: 0,
        })
    }

    /// Readable while something ended.
    pub fn fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }

    /// Commands begun and not ended.
    pub fn active(&self) -> u32 {
        self.active
    }

    /// Whether anything was ever begun.
    #[cfg(test)]
    pub fn used(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// Whether `collect` or `submit` has something to do now. No system call.
    pub fn is_ready(&mut self) -> bool {
        if self.active == 0 {
            return false;
        }
        let submission = self.ring.submission();
        let tasks = submission.taskrun() || submission.cq_overflow();
        drop(submission);
        tasks || self.queued > 0 || !self.over.is_empty() || !self.ring.completion().is_empty()
    }

    /// Begins a command; the next `submit` moves it. False while the budget of
    /// buffers is used up: nothing was begun.
    pub fn start(&mut self, copy: RingCopy) -> bool {
        let large = copy.may_bypass() && copy.direct_dst.is_some();
        let Some(chunk) = self.take_chunk(large) else {
            return false;
        };
        let mut job = Job::new(copy, chunk);
        job.outcome.error = if !in_file_space(copy.src_offset, copy.length) {
            Some((libc::EINVAL, Side::Read))
        } else if !in_file_space(copy.dst_offset, copy.length) {
            Some((libc::EFBIG, Side::Write))
        } else {
            None
        };
        job.listed = job.outcome.error.is_none() && copy.length > 0;
        let listed = job.listed;
        let index = match self.free_jobs.pop() {
            Some(index) => index,
            None => {
                self.jobs.push(None);
                self.jobs.len() as u32 - 1
            }
        };
        self.jobs[index as usize] = Some(job);
        self.active += 1;
        if listed {
            self.listed.push_back(index);
        } else {
            self.over.push(index);
        }
        true
    }

    /// Takes what ended: commands whose tag is `stopped` make no new piece, and
    /// `ended` is told of each that ended, once. No system call.
    pub fn collect(&mut self, stopped: impl Fn(u64) -> bool, mut ended: impl FnMut(u64, Outcome)) {
        if self.active > 0 {
            self.stop(stopped);
            self.reap();
            self.report(&mut ended);
        }
    }

    /// Makes the next pieces and hands them to the kernel, which also finishes
    /// what it left to this thread. One system call, or none.
    pub fn submit(&mut self) {
        if self.active > 0 {
            self.make_pieces();
            self.enter();
        }
    }

    /// Leaves the kernel what it still works on: the ring and its memory stay
    /// for good.
    pub fn abandon(mut self) {
        self.chunks.leak();
        std::mem::forget(self);
    }

    fn stop(&mut self, stopped: impl Fn(u64) -> bool) {
        for (index, job) in self.jobs.iter_mut().enumerate() {
            let Some(job) = job else { continue };
            if job.stopping || !stopped(job.copy.tag) {
                continue;
            }
            job.stopping = true;
            if job.pieces.is_empty() {
                self.over.push(index as u32);
            }
        }
    }

    fn reap(&mut self) {
        loop {
            let Some(entry) = self.ring.completion().next() else {
                return;
            };
            self.flying -= 1;
            self.on_end(entry.user_data() as u32, entry.result());
        }
    }

    /// An operation of a piece ended.
    fn on_end(&mut self, at: u32, result: i32) {
        let Some(piece) = self.pieces.get_mut(at as usize) else {
            return;
        };
        let index = piece.job;
        let Some(Some(job)) = self.jobs.get_mut(index as usize) else {
            return;
        };
        if !job.gave_up(piece.at) && piece.is_left_to_cache(result) {
            if result < 0 {
                // It takes no direct reads, or not these: do not ask again.
                job.copy.direct_src = None;
            }
            piece.read += result.max(0) as u32;
            piece.read_by = ReadBy::Cache;
            return self.issue(at, false);
        }
        let transient = matches!(-result, libc::EINTR | libc::EAGAIN | libc::ECANCELED);
        if transient && piece.tries < TRIES && !job.gave_up(piece.at) {
            // ECANCELED: the thread that had submitted it is gone.
            piece.tries += 1;
            return self.issue(at, true);
        }
        piece.tries = 0;
        match piece.step {
            Step::Read => {
                match result {
                    0 => piece.error = Some((libc::EIO, Side::Read)),
                    1.. => piece.read = (piece.read + result as u32).min(piece.want),
                    error => piece.error = Some((-error, Side::Read)),
                }
                if piece.error.is_some() {
                    job.failed_at = job.failed_at.min(piece.at);
                }
                if job.gave_up(piece.at) || piece.read == 0 {
                    return self.finish(at);
                }
                // What was read before an error is written: the prefix is longer.
                if piece.read < piece.want && piece.error.is_none() {
                    return self.issue(at, false);
                }
                piece.step = Step::Write;
                let end = piece.at + u64::from(piece.want);
                job.outcome.touched = job.outcome.touched.max(end);
                piece.write_direct &= u64::from(piece.read).is_multiple_of(BLOCK);
                let punch = job.copy.punch && piece.read == piece.want;
                if punch && self.is_zero(at) {
                    self.pieces[at as usize].step = Step::Punch;
                }
                self.issue(at, false);
            }
            Step::Write => {
                if piece.write_direct && matches!(-result, libc::EINVAL | libc::EOPNOTSUPP) {
                    // Not aligned as this device wants it: by the page cache.
                    piece.write_direct = false;
                    job.copy.direct_dst = None;
                    return self.issue(at, false);
                }
                match result {
                    0 => piece.error = Some((libc::EIO, Side::Write)),
                    1.. => piece.written = (piece.written + result as u32).min(piece.read),
                    error => piece.error = Some((-error, Side::Write)),
                }
                if result <= 0 {
                    job.failed_at = job.failed_at.min(piece.at);
                } else if piece.written < piece.read && !job.gave_up(piece.at) {
                    piece.write_direct &= u64::from(piece.written).is_multiple_of(BLOCK);
                    return self.issue(at, false);
                }
                let end = job.copy.dst_offset + piece.at + u64::from(piece.written);
                job.size = job.size.max(end);
                self.finish(at);
            }
            Step::Punch => {
                let end = job.copy.dst_offset + piece.at + u64::from(piece.want);
                if result < 0 {
                    // The file system has no holes: zeroes are data there.
                    job.copy.punch = false;
                    piece.step = Step::Write;
                } else if job.is_as_long_as(end) {
                    piece.hole = true;
                    return self.finish(at);
                } else {
                    piece.step = Step::Grow;
                }
                self.issue(at, false);
            }
            Step::Grow => {
                if result == 1 {
                    piece.hole = true;
                    let end = job.copy.dst_offset + piece.at + u64::from(piece.want);
                    job.size = job.size.max(end);
                    return self.finish(at);
                }
                job.copy.punch = false;
                piece.step = Step::Write;
                self.issue(at, false);
            }
            Step::Done => {}
        }
    }

    fn is_zero(&self, at: u32) -> bool {
        let piece = &self.pieces[at as usize];
        let Some(chunk) = piece.chunk else {
            return false;
        };
        let memory = self.chunks.memory(chunk);
        // SAFETY: the piece owns the chunk of at least `want` bytes, and the
        // kernel has no operation on it: its read has just ended.
        is_zero(unsafe { std::slice::from_raw_parts(memory, piece.want as usize) })
    }

    /// Queues the operation that a piece waits for.
    fn issue(&mut self, at: u32, again: bool) {
        let piece = &self.pieces[at as usize];
        let (Some(Some(job)), Some(chunk)) = (self.jobs.get(piece.job as usize), piece.chunk)
        else {
            return;
        };
        let Some(entry) = entry_of(piece, &job.copy, chunk, self.chunks.memory(chunk)) else {
            return;
        };
        let flags = if again {
            // An inline try would only be refused again.
            squeue::Flags::ASYNC
        } else {
            squeue::Flags::empty()
        };
        let entry = entry.flags(flags).user_data(u64::from(at));
        // SAFETY: the piece owns its chunk, and the command holds its fds, until
        // the operation's end was seen; `abandon` leaks the chunks.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        if pushed.is_ok() {
            self.flying += 1;
            self.queued += 1;
        } else {
            // Cannot be: one operation for each piece. A command must not hang.
            self.pieces[at as usize].error = Some((libc::EBUSY, Side::Read));
            self.finish(at);
        }
    }

    /// A piece is over: what is done from the command's start is accounted.
    fn finish(&mut self, at: u32) {
        let piece = &mut self.pieces[at as usize];
        piece.step = Step::Done;
        let (index, chunk) = (piece.job, piece.chunk.take());
        let Some(Some(job)) = self.jobs.get_mut(index as usize) else {
            return;
        };
        if let Some(chunk) = chunk {
            if job.reserve.is_none() && job.wants_pieces() {
                job.reserve = Some(chunk);
            } else {
                self.chunks.give(chunk, &self.ring.submitter());
            }
        }
        while let Some(first) = job.pieces.front().copied() {
            let piece = &self.pieces[first as usize];
            if piece.step != Step::Done {
                break;
            }
            job.pieces.pop_front();
            self.free_pieces.push(first);
            // Bytes after a gap are not known to be wanted: they do not count.
            if job.outcome.prefix == piece.at {
                let done = piece.done();
                if piece.hole {
                    job.outcome.add_zeroed(done);
                } else {
                    job.outcome.add_copied(done);
                }
                if done < u64::from(piece.want) {
                    job.outcome.error = piece.error;
                }
            }
        }
        if job.wants_pieces() {
            if !job.listed {
                job.listed = true;
                self.listed.push_back(index);
            }
        } else if job.pieces.is_empty() {
            self.over.push(index);
        }
    }

    /// Makes the next pieces of the listed commands, in their order.
    fn make_pieces(&mut self) {
        for _ in 0..self.listed.len() {
            let Some(index) = self.listed.pop_front() else {
                return;
            };
            let Some(Some(job)) = self.jobs.get_mut(index as usize) else {
                continue;
            };
            job.listed = false;
            while let Some(Some(job)) = self.jobs.get_mut(index as usize)
                && job.wants_pieces()
                && job.pieces.len() < PIECES_OF_ONE
            {
                let at = match self.free_pieces.pop() {
                    Some(at) => at,
                    None if self.pieces.len() < PIECES as usize => self.pieces.len() as u32,
                    None => {
                        job.listed = true;
                        self.listed.push_front(index);
                        return;
                    }
                };
                let (reserve, large) = (job.reserve.take(), job.wants_whole());
                let Some(chunk) = reserve.or_else(|| self.take_chunk(large)) else {
                    // One of its pieces comes back with a chunk, and lists it.
                    if (at as usize) < self.pieces.len() {
                        self.free_pieces.push(at);
                    }
                    break;
                };
                let small = self.chunks.small();
                let Some(Some(job)) = self.jobs.get_mut(index as usize) else {
                    break;
                };
                let piece = job.next_piece(index, chunk, small);
                job.next += u64::from(piece.want);
                job.pieces.push_back(at);
                match self.pieces.get_mut(at as usize) {
                    Some(place) => *place = piece,
                    None => self.pieces.push(piece),
                }
                self.issue(at, false);
            }
        }
    }

    fn take_chunk(&mut self, large: bool) -> Option<Chunk> {
        let whole = large.then(|| self.chunks.take_whole(&self.ring.submitter()));
        whole.flatten().or_else(|| self.chunks.take())
    }

    /// Hands the kernel what is queued and lets it finish what it can.
    fn enter(&mut self) {
        const GET_EVENTS: u32 = 1;
        let mut submission = self.ring.submission();
        submission.sync();
        let (queued, tasks) = (
            submission.len() as u32,
            submission.taskrun() || submission.cq_overflow(),
        );
        drop(submission);
        if queued == 0 && !tasks {
            self.queued = 0;
            return;
        }
        let flags = if tasks { GET_EVENTS } else { 0 };
        // SAFETY: every queued operation was pushed by `issue`; no argument.
        let entered = unsafe {
            self.ring
                .submitter()
                .enter::<libc::sigset_t>(queued, 0, flags, None)
        };
        // Refused for now (EAGAIN, EBUSY, EINTR): what is left stays queued, and
        // `is_ready` says so.
        let taken = entered.unwrap_or(0) as u32;
        self.queued = queued.saturating_sub(taken);
    }

    fn report(&mut self, ended: &mut impl FnMut(u64, Outcome)) {
        while let Some(index) = self.over.pop() {
            let Some(job) = self.jobs.get_mut(index as usize).and_then(Option::take) else {
                continue;
            };
            if job.listed {
                self.listed.retain(|listed| *listed != index);
            }
            if let Some(chunk) = job.reserve {
                self.chunks.give(chunk, &self.ring.submitter());
            }
            self.free_jobs.push(index);
            self.active -= 1;
            ended(job.copy.tag, job.outcome);
        }
        if self.active == 0 {
            self.chunks.rest(&self.ring.submitter());
        }
    }
}
