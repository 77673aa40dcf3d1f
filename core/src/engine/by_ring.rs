//! The host's copies between two kernel fds: by the queue's io_uring or on the
//! pool, whichever is better for the command at hand.
//!
//! Measured on ext4, tmpfs and loop disks. Through the page cache, one or two
//! threads that each copy through a buffer as small as a core's cache are the
//! quickest (`Lanes`), and more only wait for the file's lock. Where the bytes have
//! to reach the disk anyway, operations past the page cache take a third of the
//! processor's time, and the ring needs no thread for them. A queue that is pinned
//! to its thread polls, and a context without a pool has no choice: both take the
//! ring.

use super::clock::precise_ns;
use super::devices::{Device, Origin};
use super::dispatch::Tried;
use super::on_pool::{PoolCopy, copy_on_pool, ranges_on_pool};
use super::pairs::Pair;
use super::queue::Queue;
use super::route::Endpoint;
use super::shared::{Errand, NO_PLUGIN, Purpose};
use super::sparse::Verdict;
use crate::device::is_well_known;
use crate::host::{HostRing, Mover, RingCopy, Short};
use crate::plan::Step;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use xcopy_abi::*;

/// Commands of more bytes than this are large: few of them at once.
const LARGE_BYTES: u64 = 256 << 10;
/// Large commands of one pair at once. Each is moved in several pieces, and
/// more commands would only read and write at more places of the disk.
const LARGE_AT_ONCE: u32 = 2;
/// Bytes from which a command goes past the page cache.
const DIRECT_BYTES: u64 = 1 << 20;
/// What every device's blocks are a part of, as good as.
const DIRECT_BLOCK: u64 = 4096;

/// What was learnt of a pair's work on the pool: large commands, lists of ranges.
#[derive(Default)]
pub struct Movers {
    pub(super) large: Mover,
    pub(super) lists: Mover,
}

/// What a pair's ends offer to a ring, and to the pool.
#[derive(Clone, Default)]
pub struct RingEnds {
    pub(super) movers: Arc<Movers>,
    /// Both ends are fds that a ring may work on.
    usable: bool,
    /// An end takes whole blocks only: the caller opened it so.
    is_direct: bool,
    direct_src: Option<RawFd>,
    direct_dst: Option<RawFd>,
}

/// Bytes of data of a command at most, where it may span more.
fn room_of(pair: &Pair, chosen: usize, spans: bool) -> u64 {
    let method = pair.methods.get(chosen).filter(|_| spans);
    method.map_or(u64::MAX, |method| method.adapt.chunk())
}

/// Whether a command of so many bytes is a large one.
pub(super) fn is_large(bytes: u64) -> bool {
    bytes > LARGE_BYTES
}

impl Queue {
    /// Finds out what a ring can do for a pair that is being bound, and makes the
    /// queue's ring for the first that has a use for it.
    pub(super) fn bind_ring(&mut self, src_end: &Endpoint, dst_end: &Endpoint, pair: u32) {
        let (Endpoint::Kernel { fd: src, .. }, Endpoint::Kernel { fd: dst, kind }) =
            (src_end, dst_end)
        else {
            return;
        };
        let limited = *kind == XCOPY_KIND_FILE && has_file_size_limit();
        let usable = !limited && is_workable(*src) && is_workable(*dst) && self.make_ring();
        let pair = &mut self.pairs[pair as usize];
        pair.ring = RingEnds {
            movers: pair.ring.movers.clone(),
            usable,
            is_direct: is_direct(*src) || is_direct(*dst),
            direct_src: direct_fd(pair.src.as_ref()),
            direct_dst: direct_fd(pair.dst.as_ref()),
        };
    }

    /// Whether the queue has a ring, made if it is new.
    fn make_ring(&mut self) -> bool {
        if self.ring.is_some() || self.ring_refused {
            return self.ring.is_some();
        }
        let pinned = self.options.flags & XCOPY_QUEUE_PINNED != 0;
        let made = HostRing::new(self.context.buffers.clone(), pinned)
            .and_then(|ring| self.bell.add(ring.fd()).map(|()| Box::new(ring)));
        match made {
            Ok(ring) => self.ring = Some(ring),
            Err(error) => {
                self.ring_refused = true;
                if !self.context.ring_refused.swap(true, Ordering::Relaxed) {
                    let text = format!("{error}: read_write runs on the pool");
                    self.context.log(XCOPY_LOG_INFO, &text);
                }
            }
        }
        self.ring.is_some()
    }

    /// Sends a piece that lies between two kernel fds.
    pub(super) fn send_kernel(
        &mut self,
        index: u32,
        chosen: usize,
        step: Step,
        copy: RingCopy,
        kind: u32,
    ) -> Tried {
        let slot = &self.slots[index as usize];
        let (pair, flags) = (&self.pairs[slot.pair as usize], slot.flags);
        let keep_holes = flags & XCOPY_REQ_KEEP_HOLES != 0;
        let sparse = slot.extra.as_ref().and_then(|extra| extra.sparse.clone());
        let verdict = sparse.as_ref().map(|sparse| sparse.verdict());
        let spans = matches!(verdict, Some(Verdict::Unknown | Verdict::Sparse));
        let large = is_large(copy.length);
        let into_file = kind == XCOPY_KIND_FILE;
        let lanes = pair.methods.get(chosen);
        let lanes = lanes.map(|m| (m.large, m.lanes.limit(into_file)));
        let (at_once, limit) = lanes.filter(|_| large).unwrap_or((0, 1));
        let (by_ring, copy) = match at_once < LARGE_AT_ONCE {
            true => self.way_of(pair, flags, copy, kind),
            false => (false, copy),
        };
        let only_looks = by_ring && spans;
        let by_ring = by_ring && !spans;
        if at_once >= if by_ring { LARGE_AT_ONCE } else { limit } {
            self.put_back(index, step.start, step.start.position + step.bytes, false);
            return Tried::Blocked;
        }
        let Some(cell_index) = self.free_cells.last().copied().filter(|_| by_ring) else {
            let (context, movers) = (self.context.clone(), pair.ring.movers.clone());
            let single = slot.nranges <= 1;
            let behind = slot.total - (step.start.position + step.bytes);
            let job = PoolCopy {
                copy,
                kind,
                keep_holes,
                sparse,
                room: room_of(pair, chosen, spans),
                only_looks,
                ahead: if single { behind.min(copy.length) } else { 0 },
            };
            let work = move |stop: &AtomicBool| copy_on_pool(&context, &movers, &job, stop);
            self.count_large(index, chosen, large);
            return self.send_to_pool(index, chosen, step, Purpose::Host, work);
        };
        let cookie = self.shared.launch(cell_index);
        let copy = RingCopy {
            tag: cookie,
            ..copy
        };
        if !self.ring.as_mut().is_some_and(|ring| ring.start(copy)) {
            self.shared.land(cell_index);
            self.put_back(index, step.start, step.start.position + step.bytes, false);
            let short = self.context.buffers.try_take(1).err();
            return self.no_memory(index, short.unwrap_or(Short::Now));
        }
        self.free_cells.pop();
        self.count_command(index);
        self.flying += 1;
        self.count_large(index, chosen, large);
        let slot = &mut self.slots[index as usize];
        slot.untouched = slot.untouched.max(step.start.position + step.bytes);
        if let Some(method) = self.pairs[slot.pair as usize].methods.get_mut(chosen) {
            method.in_flight += 1;
        }
        let cell = &self.shared.cells[cell_index as usize];
        cell.stop.store(false, Ordering::Relaxed);
        cell.set_errand(Errand {
            slot: index,
            plugin: NO_PLUGIN,
            method: chosen as u32,
            purpose: Purpose::Host,
            ranges: 1,
            start: step.start,
        });
        // SAFETY: the cell was free, so only this thread touches it.
        unsafe { (*cell.cmd.get()).bytes = step.bytes };
        Tried::Sent
    }

    /// Sends a list of small ranges between two kernel fds. It counts as a large
    /// command: more of them at once would only wait for the file's lock.
    pub(super) fn send_ranges(
        &mut self,
        index: u32,
        chosen: usize,
        step: Step,
        ends: (RawFd, RawFd, u32),
        ranges: Vec<xcopy_range>,
    ) -> Tried {
        let slot = &self.slots[index as usize];
        let keep_holes = slot.flags & XCOPY_REQ_KEEP_HOLES != 0;
        let movers = self.pairs[slot.pair as usize].ring.movers.clone();
        self.count_large(index, chosen, true);
        let (context, count) = (self.context.clone(), ranges.len() as u32);
        let cell_index = self.free_cells.last().copied();
        let tried = self.send_to_pool(index, chosen, step, Purpose::Host, move |stop| {
            ranges_on_pool(&context, &movers, ends, &ranges, keep_holes, stop)
        });
        if let Some(cell) = cell_index.and_then(|at| self.shared.cells.get(at as usize)) {
            // The owner's: whatever thread ends the command does not look at it.
            let errand = cell.errand();
            cell.set_errand(Errand {
                ranges: count,
                ..errand
            });
        }
        tried
    }

    /// Whether the queue's own ring moves everything that it can.
    pub(super) fn polls(&self) -> bool {
        self.options.flags & XCOPY_QUEUE_PINNED != 0 || !self.context.pool.exists()
    }

    fn count_large(&mut self, index: u32, chosen: usize, large: bool) {
        let pair = self.slots[index as usize].pair;
        if large && let Some(method) = self.pairs[pair as usize].methods.get_mut(chosen) {
            if method.large == 0 {
                method.lanes.begin(precise_ns());
            }
            method.large += 1;
        }
    }

    /// A command of the host ended.
    pub(super) fn end_large(&mut self, cell_index: u32, errand: &Errand) {
        let bytes = self.command_bytes(cell_index);
        let pair = self.slots[errand.slot as usize].pair;
        let methods = &mut self.pairs[pair as usize].methods;
        if (is_large(bytes) || errand.ranges > 1)
            && let Some(method) = methods.get_mut(errand.method as usize)
        {
            method.large = method.large.saturating_sub(1);
            method.lanes.ended(bytes, precise_ns());
        }
    }

    /// Whether the ring takes a command, and with what it does so.
    fn way_of(&self, pair: &Pair, flags: u32, copy: RingCopy, kind: u32) -> (bool, RingCopy) {
        let keep_holes = flags & XCOPY_REQ_KEEP_HOLES != 0;
        if !pair.ring.usable || (keep_holes && self.context.pool.exists() && has_holes(copy.src)) {
            return (false, copy);
        }
        let extent = copy.src_offset | copy.dst_offset | copy.length;
        let parts = !extent.is_multiple_of(DIRECT_BLOCK);
        if pair.ring.is_direct && parts && self.context.pool.exists() {
            return (false, copy);
        }
        let to_disk = flags & XCOPY_REQ_DURABLE != 0 || kind != XCOPY_KIND_FILE;
        let bypasses = copy.length >= DIRECT_BYTES && to_disk && pair.ring.direct_dst.is_some();
        let copy = RingCopy {
            punch: keep_holes && kind == XCOPY_KIND_FILE,
            direct_src: pair.ring.direct_src.filter(|_| copy.length >= DIRECT_BYTES),
            direct_dst: pair.ring.direct_dst.filter(|_| bypasses),
            ..copy
        };
        (self.polls() || (bypasses && copy.may_bypass()), copy)
    }

    /// Takes what ended on the ring. No system call.
    pub(super) fn poll_ring(&mut self) {
        let Some(ring) = &mut self.ring else { return };
        let shared = &self.shared;
        ring.collect(
            |cookie| match shared.cells.get(cookie as u32 as usize) {
                Some(cell) => cell.stop.load(Ordering::Relaxed),
                None => false,
            },
            |cookie, done| {
                let answer = super::by_host::answer_of(&done, XCOPY_METHOD_READ_WRITE);
                shared.complete_chore(cookie as u32, cookie, answer);
            },
        );
    }

    /// Hands the kernel what the ring has for it: one system call, or none.
    pub(super) fn flush_ring(&mut self) {
        if let Some(ring) = &mut self.ring {
            ring.submit();
        }
    }

    /// Whether the ring has something to do now.
    pub(super) fn ring_is_ready(&mut self) -> bool {
        self.ring.as_mut().is_some_and(|ring| ring.is_ready())
    }

    /// Before the queue is freed: what the kernel still works on is left to it.
    pub(super) fn end_ring(&mut self) {
        if let Some(ring) = self.ring.take()
            && ring.active() > 0
        {
            ring.abandon();
        }
    }
}

fn direct_fd(device: Option<&Arc<Device>>) -> Option<RawFd> {
    match device?.origin()?.as_ref() {
        Origin::Kernel(kernel) => kernel.direct_fd(),
        Origin::Native { .. } => None,
    }
}

/// Whether an fd goes past the page cache. The pool takes what that refuses, the
/// part of a block at an end, by another description of the file.
fn is_direct(fd: RawFd) -> bool {
    // SAFETY: takes and gives numbers only; a bad fd is an error.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    flags >= 0 && flags & libc::O_DIRECT != 0
}

/// Whether the kernel can work on an fd for a ring. One that a caller opened with
/// O_NONBLOCK would answer EAGAIN where it cannot do so without waiting.
fn is_workable(fd: RawFd) -> bool {
    // SAFETY: takes and gives numbers only; a bad fd is an error.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    flags >= 0 && (flags & libc::O_NONBLOCK == 0 || is_well_known(fd))
}

/// Whether a write may be answered by SIGXFSZ, which would come to the owner.
fn has_file_size_limit() -> bool {
    let mut limit = libc::rlimit64 {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the kernel writes the struct, which lives through the call.
    let asked = unsafe { libc::getrlimit64(libc::RLIMIT_FSIZE, &raw mut limit) };
    asked != 0 || limit.rlim_cur != libc::RLIM64_INFINITY
}

/// Whether a file has fewer blocks than bytes: its holes are found on the pool.
pub(super) fn has_holes(fd: RawFd) -> bool {
    // SAFETY: an all-zero stat is valid, and fstat only writes to it.
    let mut stat: libc::stat64 = unsafe { std::mem::zeroed() };
    // SAFETY: as above; a bad fd is an error.
    let asked = unsafe { libc::fstat64(fd, &raw mut stat) };
    asked != 0
        || (stat.st_mode & libc::S_IFMT == libc::S_IFREG
            && stat.st_blocks.saturating_mul(512) < stat.st_size)
}
