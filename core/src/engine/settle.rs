//! The end of requests: what is left to do once all commands ended, and exactly one
//! completion.

use super::queue::Queue;
use super::reasons;
use super::ring::{known, known_mut};
use super::route::Endpoint;
use super::shared::{Answer, NO_PLUGIN, Purpose};
use super::slot::Stage;
use crate::plan::Cursor;
use std::sync::atomic::Ordering;
use xcopy_abi::*;

impl Queue {
    /// Ends a request with an error once its commands have ended.
    pub(super) fn fail(&mut self, index: u32, res: i32, reason: u16, detail: u64) {
        let slot = &mut self.slots[index as usize];
        if !slot.stopping {
            slot.stopping = true;
            slot.res = if res < 0 { res } else { -libc::EIO };
            if reason != 0 {
                slot.reason = reason;
            }
            if detail != 0 {
                slot.detail = detail;
            }
            self.stop_commands(index);
        }
        if matches!(
            self.slots[index as usize].stage,
            Stage::WaitRoute | Stage::Scan
        ) {
            self.complete(index);
        } else {
            self.list(index);
        }
    }

    /// Asks the commands of a request to end early.
    fn stop_commands(&mut self, index: u32) {
        if self.slots[index as usize].in_flight == 0 {
            return;
        }
        let shared = self.shared.clone();
        for (at, cell) in shared.cells.iter().enumerate() {
            let errand = cell.errand();
            let control = matches!(
                errand.purpose,
                Purpose::Open | Purpose::Probe | Purpose::Close
            );
            if errand.slot != index || control || !shared.is_flying(at as u32) {
                continue;
            }
            cell.stop.store(true, Ordering::Relaxed);
            if errand.plugin == NO_PLUGIN {
                continue;
            }
            let plugin = &self.plugins[errand.plugin as usize];
            if plugin.host().unstage(cell.cmd.get()) {
                // SAFETY: the plugin never saw it.
                let cookie = unsafe { (*cell.cmd.get()).cookie };
                let result = xcopy_result {
                    cookie,
                    status: -libc::ECANCELED,
                    flags: XCOPY_RESULT_UNTOUCHED,
                    ..Default::default()
                };
                shared.complete_on_owner(errand.plugin, &result);
            } else if plugin.plugin.model() == XCOPY_MODEL_BLOCKING {
                if let Some(cookie) = cell.flying() {
                    self.withdraw(&errand, cookie);
                }
            } else {
                plugin.cancel(cell.cmd.get());
            }
        }
    }

    /// All commands of a request ended and nothing is left to dispatch.
    pub(super) fn settle(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        let bypassed = slot.extra.as_ref().is_some_and(|e| e.bypassed);
        if bypassed && slot.flags & XCOPY_REQ_NO_COHERENCE == 0 {
            self.chore(index, Stage::CacheDrop);
            return;
        }
        if slot.op == XCOPY_OP_TOKEN_CREATE {
            if slot.res == 0 {
                self.fill_token(index);
            } else if self.unmake(index) {
                return;
            }
        }
        let slot = &mut self.slots[index as usize];
        let writes = matches!(
            slot.op,
            XCOPY_OP_COPY | XCOPY_OP_ZERO | XCOPY_OP_TOKEN_WRITE
        );
        // Where a device failed to write, the host's writes may fail too, when the cache
        // is written and nobody would be told.
        let doubtful = XCOPY_CPL_ERR_ON_WRITE | XCOPY_CPL_FELL_BACK;
        let cached = matches!(
            self.pairs[slot.pair as usize].dst_end,
            Endpoint::Kernel { .. }
        );
        let checked =
            slot.flags & XCOPY_REQ_DURABLE != 0 || (cached && slot.outcome & doubtful == doubtful);
        if slot.res == 0 && checked && writes {
            slot.stage = Stage::Durable;
            if !self.make_durable(index) {
                self.slots[index as usize].stage = Stage::Run;
                self.list(index);
            }
            return;
        }
        self.complete(index);
    }

    pub(super) fn on_flushed(&mut self, index: u32, answer: &Answer) {
        let slot = &mut self.slots[index as usize];
        if answer.status != 0 {
            slot.stopping = true;
            slot.res = public_errno(answer.status);
            slot.detail = match answer.detail {
                0 => reasons::errno_detail(XCOPY_METHOD_NONE, answer.status),
                detail => detail,
            };
            slot.outcome |= XCOPY_CPL_ERR_ON_WRITE;
            slot.reason = XCOPY_REASON_FAILED;
        }
        if slot.stage == Stage::Durable {
            if answer.status != 0 {
                // What a cache held may be gone: none of it is known to be there.
                let end = slot.total;
                self.lose(index, Cursor::default(), end, true);
            }
            self.complete(index);
        }
    }

    /// Work on the pool for a request ended.
    pub(super) fn on_chore(&mut self, index: u32, seq: u32, status: i32, flags: u32) {
        let face = &self.shared.faces[index as usize];
        if face.seq.load(Ordering::Relaxed) != seq {
            return;
        }
        let slot = &mut self.slots[index as usize];
        slot.chore = false;
        if slot.stage == Stage::Abandoned {
            return self.end_quarantine(index);
        }
        slot.outcome |= flags;
        if slot.stage == Stage::CacheDrop {
            let extra = slot.extra();
            extra.bypassed = false;
            extra.past_cache = None;
        }
        slot.stage = Stage::Run;
        if status != 0 {
            let detail = reasons::errno_detail(XCOPY_METHOD_NONE, status);
            self.fail(index, public_errno(status), XCOPY_REASON_FAILED, detail);
        }
        self.list(index);
    }

    /// A request is over: its report is written and its completion is ready.
    pub(super) fn complete(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        if slot.deadline != 0 {
            self.timed -= 1;
        }
        if slot.stage == Stage::Scan {
            self.scans -= 1;
        }
        if slot.extra.as_ref().is_some_and(|e| e.not_before != 0) {
            self.timed -= 1;
        }
        slot.deadline = 0;
        if let Some(extra) = &mut slot.extra {
            extra.not_before = 0;
        }
        slot.stage = Stage::Ready;
        if self.timed == 0 {
            self.earliest = u64::MAX;
        }
        self.conclude(index);
        self.ready.push(index);
    }

    /// The last words on a request: reason, flags, report.
    pub(super) fn conclude(&mut self, index: u32) {
        let totals = self.totals(index);
        let slot = &mut self.slots[index as usize];
        slot.method = totals.method;
        let writes = matches!(
            slot.op,
            XCOPY_OP_COPY | XCOPY_OP_ZERO | XCOPY_OP_TOKEN_WRITE
        );
        let unknown = totals.unknown && totals.done < totals.untouched;
        if unknown && slot.res != 0 && writes {
            slot.outcome |= XCOPY_CPL_INDETERMINATE;
        }
        let pair = &self.pairs[slot.pair as usize];
        if slot.reason == 0
            && let Some(method) = pair.methods.iter().find(|m| m.id == totals.method)
        {
            let tried = || super::why::slower_of_two(&self.slots[index as usize], pair);
            let reason = match self.why_not_better(index, pair, method) {
                XCOPY_REASON_NONE if tried().is_some() => XCOPY_REASON_SLOWER,
                reason => reason,
            };
            self.slots[index as usize].reason = reason;
        }
        let report = self.slots[index as usize].report();
        if !report.is_null() {
            self.write_report(index, report);
        }
    }

    /// Releases the token, counts and memory of a request that was answered.
    pub(super) fn vacate(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        slot.set_rest();
        let at = slot.pair;
        let pair = &self.pairs[at as usize];
        let count = &pair.count.in_flight;
        let left = count.load(Ordering::Relaxed) - 1;
        count.store(left, Ordering::Relaxed);
        self.shared.faces[index as usize].close_and_reset();
        std::sync::atomic::compiler_fence(Ordering::SeqCst);
        let closed = left == 0 && !super::admit::alive(pair) && !self.is_in_use(at);
        self.free_slot(index);
        if closed {
            self.last_use_ended(index);
        }
    }

    /// The same for a request that went the straight way, which left everything
    /// else of its slot as it was.
    #[inline]
    pub(super) fn vacate_straight(&mut self, index: u32) {
        // SAFETY: a straight slot's index came from the free list, and its pair from
        // the list of pairs; neither list of theirs ever shrinks.
        let (slot, face) = unsafe {
            (
                known_mut(&mut self.slots, index),
                known(&self.shared.faces, index),
            )
        };
        slot.straight = false;
        slot.stage = Stage::Free;
        let at = slot.pair;
        // SAFETY: as above.
        let pair = unsafe { known(&self.pairs, at) };
        let count = &pair.count.in_flight;
        let left = count.load(Ordering::Relaxed) - 1;
        count.store(left, Ordering::Relaxed);
        face.close_and_reset();
        std::sync::atomic::compiler_fence(Ordering::SeqCst);
        let closed = left == 0 && !super::admit::alive(pair) && !self.is_in_use(at);
        self.free_slot(index);
        if closed {
            self.last_use_ended(index);
        }
    }

    #[cold]
    fn last_use_ended(&mut self, index: u32) {
        self.let_go(self.slots[index as usize].pair);
    }

    /// Lets go of the closed devices of a pair that no request uses.
    pub(super) fn let_go(&mut self, pair: u32) {
        let pair = &self.pairs[pair as usize];
        let devices: Vec<_> = [&pair.src, &pair.dst]
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        for device in devices.into_iter().filter(|d| d.is_dead()) {
            self.on_closed(&device);
        }
    }
}

/// The closed list of xcopy_completion.res.
pub(super) fn public_errno(status: i32) -> i32 {
    match -status {
        libc::EIO
        | libc::EREMOTEIO
        | libc::ENODATA
        | libc::EILSEQ
        | libc::EBADE
        | libc::ENOSPC
        | libc::EROFS
        | libc::ENODEV
        | libc::ETIMEDOUT
        | libc::ECANCELED
        | libc::EINVAL
        | libc::ENOTCONN
        | libc::EACCES
        | libc::EPERM
        | libc::EBUSY
        | libc::ENOMEM
        | libc::ESTALE
        | libc::EFBIG
        | libc::EDQUOT => status,
        libc::ENXIO => -libc::ENODEV,
        libc::ENOTSUP | libc::ENOSYS | libc::ENOTTY | libc::EXDEV => -libc::ENOTSUP,
        _ => -libc::EIO,
    }
}
