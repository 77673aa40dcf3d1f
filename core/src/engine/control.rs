//! What interrupts a request: cancel, deadline, abandonment, the check of a
//! long list, and the chores of cache coherence.

use super::bounds::{check_bounds, refuse_finding};
use super::pool::Owner;
use super::queue::Queue;
use super::shared::Mail;
use super::slot::Stage;
use crate::device::{Dropped, drop_early, drop_range, flush_range};
use std::sync::atomic::Ordering;
use xcopy_abi::*;

impl Queue {
    /// Deadlines that passed and pauses that ended.
    pub(super) fn expire(&mut self, now: u64) {
        let mut earliest = u64::MAX;
        for index in 0..self.slots.len() as u32 {
            let slot = &mut self.slots[index as usize];
            if matches!(slot.stage, Stage::Free | Stage::Ready | Stage::Abandoned) {
                continue;
            }
            if let Some(extra) = &mut slot.extra
                && extra.not_before != 0
            {
                if extra.not_before <= now {
                    extra.not_before = 0;
                    self.timed -= 1;
                    self.list(index);
                } else {
                    earliest = earliest.min(extra.not_before);
                }
            }
            let slot = &mut self.slots[index as usize];
            if slot.deadline == 0 {
                continue;
            }
            if slot.deadline > now {
                earliest = earliest.min(slot.deadline);
                continue;
            }
            slot.deadline = 0;
            self.timed -= 1;
            let abandons = slot.flags & XCOPY_REQ_ABANDON_ON_TIMEOUT != 0;
            self.fail(index, -libc::ETIMEDOUT, XCOPY_REASON_TIMED_OUT, 0);
            if abandons {
                self.abandon(index);
            }
        }
        self.earliest = earliest;
    }

    /// Answers a request before it is settled.
    fn abandon(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        let running = matches!(
            slot.stage,
            Stage::Run | Stage::CacheFlush | Stage::CacheDrop | Stage::Durable
        );
        if !running || (slot.in_flight == 0 && !slot.chore) {
            return;
        }
        slot.outcome |= XCOPY_CPL_INDETERMINATE | XCOPY_CPL_UNSETTLED;
        self.complete(index);
    }

    /// Dispatches nothing more of a request whose queue is being destroyed, and
    /// asks its commands to end.
    pub(super) fn stop_for_destroy(&mut self, index: u32) {
        if !self.is_over(index) {
            self.fail(index, -libc::ECANCELED, XCOPY_REASON_DESTROYED, 0);
        }
    }

    /// A forced destroy answers nobody, but the caller's report is filled.
    pub(super) fn abandon_for_destroy(&mut self, index: u32) {
        if !self.is_over(index) {
            self.abandon(index);
        }
    }

    fn is_over(&self, index: u32) -> bool {
        matches!(
            self.slots[index as usize].stage,
            Stage::Free | Stage::Ready | Stage::Abandoned
        )
    }

    /// Stops the requests that were asked to cancel.
    pub(super) fn cancel_asked(&mut self) {
        self.fill_slots(None);
        for index in 0..self.slots.len() as u32 {
            let face = &self.shared.faces[index as usize];
            let seq = face.seq.load(Ordering::Relaxed);
            if seq.is_multiple_of(2) || face.cancel.load(Ordering::Acquire) != seq {
                continue;
            }
            let stage = self.slots[index as usize].stage;
            if !matches!(stage, Stage::Free | Stage::Ready | Stage::Abandoned) {
                self.fail(index, -libc::ECANCELED, XCOPY_REASON_CANCELED, 0);
            }
        }
    }

    /// Checks a slice of a long list; the request goes on when all is checked.
    pub(super) fn scan(&mut self, index: u32, slice: u64) {
        let slot = &mut self.slots[index as usize];
        let Some(mut scan) = slot.extra().scan.take() else {
            return;
        };
        let source = slot.source();
        let Some(finding) = scan.step(&source, slice) else {
            slot.extra().scan = Some(scan);
            return;
        };
        let pair = &self.pairs[slot.pair as usize];
        let hull = scan.hull();
        let checked =
            refuse_finding(finding).and_then(|()| check_bounds(pair, slot.op, &source, &hull));
        if let Err(refusal) = checked {
            let from = slot.extra.as_ref().map_or(0, |extra| extra.searched);
            let to = slot.nranges.min(from.saturating_add(slice));
            let bad = refusal.find(&source, from, to);
            if bad.is_none() && to < slot.nranges {
                let extra = slot.extra();
                (extra.searched, extra.scan) = (to, Some(scan));
                return;
            }
            return self.refuse_ranges(index, &refusal, bad);
        }
        slot.total = scan.total_bytes();
        slot.extra().hull = Some(hull);
        self.shared.faces[index as usize]
            .total
            .store(slot.total, Ordering::Relaxed);
        slot.stage = Stage::WaitRoute;
        self.scans -= 1;
        self.enter(index);
    }

    /// Has the pool write dirty pages (CacheFlush) or drop stale ones (CacheDrop)
    /// of a request's devices.
    pub(super) fn chore(&mut self, index: u32, stage: Stage) {
        let slot = &mut self.slots[index as usize];
        let pair = &self.pairs[slot.pair as usize];
        let hull = slot.hull();
        let span = |(from, to): (u64, u64)| (from, to.saturating_sub(from));
        // A long request drops, each time that the host takes over, what is new.
        let stale = match stage {
            Stage::CacheDrop => slot.stale(),
            _ => hull.dst,
        };
        let (src_span, dst_span) = (span(hull.src), span(stale));
        let kernel = |device: &Option<std::sync::Arc<super::devices::Device>>| {
            let device = device.as_ref()?;
            let wanted = device.fd >= 0 && !device.exclusive.load(Ordering::Relaxed);
            wanted.then(|| device.origin()).flatten()
        };
        let (src, dst) = (kernel(&pair.src), kernel(&pair.dst));
        slot.stage = stage;
        slot.chore = true;
        let seq = self.shared.faces[index as usize]
            .seq
            .load(Ordering::Relaxed);
        let shared = self.shared.clone();
        let job = Box::new(move || {
            let mut flags = 0;
            let mut status = 0;
            let ends = [(src, src_span, false), (dst, dst_span, true)];
            for (origin, (offset, length), is_dst) in ends {
                let Some(origin) = origin else { continue };
                let super::devices::Origin::Kernel(kernel) = origin.as_ref() else {
                    continue;
                };
                if stage == Stage::CacheDrop && !is_dst {
                    continue;
                }
                // A character node has its cache on the disk's block node.
                match kernel.cache_fd().map(|fd| flush_range(fd, offset, length)) {
                    Some(Ok(())) => {}
                    Some(Err(error)) => status = -error.errno,
                    None => flags |= XCOPY_CPL_CACHE_UNVERIFIED,
                }
                if is_dst && stage == Stage::CacheFlush {
                    drop_early(kernel, offset, length);
                } else if is_dst && drop_range(kernel, offset, length) == Dropped::Unverified {
                    flags |= XCOPY_CPL_CACHE_UNVERIFIED;
                }
            }
            shared.send(Mail::Chore {
                slot: index,
                seq,
                status,
                flags,
            });
        });
        if !self.context.pool.run(Owner::Core, job) {
            let mail = Mail::Chore {
                slot: index,
                seq,
                status: -libc::ENOTCONN,
                flags: 0,
            };
            self.shared.send(mail);
        }
    }
}
