//! Dispatch: the next piece of a request and the method for it.

use super::bounds::{Refusal, check_bounds};
use super::clock::coarse_ns;
use super::contest::Way;
use super::orders::Order;
use super::pairs::{BoundMethod, Pair};
use super::queue::Queue;
use super::shared::{NO_PLUGIN, Purpose};
use super::slot::{Remainder, Slot, Stage};
use crate::plan::{Cursor, Kind, Step, next_command};
use std::sync::atomic::Ordering;
use xcopy_abi::*;

/// What came of trying to dispatch.
pub(super) enum Tried {
    /// A command went out: try the next.
    Sent,
    /// Nothing can go out now; an end, a chore or a clock moves it on.
    Blocked,
    /// The request failed.
    Failed,
}

/// A slice of a contest is not cut into commands smaller than this, in bytes.
const SLICE_LEAST: u64 = 256 << 10;

/// Room for the one range of a host command.
pub(super) const ONE: xcopy_range = xcopy_range {
    src_offset: 0,
    dst_offset: 0,
    length: 0,
};

impl Queue {
    /// The pair of a request is bound: it runs.
    pub(super) fn start_run(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        slot.stage = Stage::Run;
        match slot.op {
            XCOPY_OP_PREPARE => {
                let (pair, flags) = (slot.pair, slot.flags);
                if flags & XCOPY_REQ_EXCLUSIVE != 0 {
                    self.make_exclusive(pair);
                }
                self.complete(index);
            }
            _ => match self.recheck_bounds(index) {
                Ok(()) => match self.why_unfit(index) {
                    Some(reason) => self.fail(index, -libc::ENOTSUP, reason, 0),
                    None => self.list(index),
                },
                Err(refusal) => {
                    let slot = &self.slots[index as usize];
                    let bad = refusal.find(&slot.source(), 0, slot.nranges);
                    self.refuse_ranges(index, &refusal, bad);
                }
            },
        }
    }

    /// The devices' sizes may be known, or have changed, only now.
    fn recheck_bounds(&self, index: u32) -> Result<(), Refusal> {
        let slot = &self.slots[index as usize];
        match slot.op {
            XCOPY_OP_FLUSH | XCOPY_OP_TOKEN_RELEASE => Ok(()),
            op => {
                let pair = &self.pairs[slot.pair as usize];
                check_bounds(pair, op, &slot.source(), &slot.hull())
            }
        }
    }

    /// Puts a slot on the list of those to advance.
    pub(super) fn list(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        if !slot.listed {
            slot.listed = true;
            self.runnable.push_back(index);
        }
    }

    /// Advances every listed slot once.
    pub(super) fn pump(&mut self) {
        self.part_twins();
        for _ in 0..self.runnable.len() {
            let Some(index) = self.runnable.pop_front() else {
                break;
            };
            self.slots[index as usize].listed = false;
            if self.slots[index as usize].stage == Stage::Run {
                self.step(index);
            }
        }
    }

    fn step(&mut self, index: u32) {
        loop {
            let slot = &self.slots[index as usize];
            if slot.stage != Stage::Run || slot.chore {
                return;
            }
            let left = !slot.stopping && self.is_unfinished(index);
            if !left {
                if self.slots[index as usize].in_flight == 0 {
                    self.settle(index);
                }
                return;
            }
            let tried = match self.slots[index as usize].op {
                XCOPY_OP_COPY => self.copy_next(index),
                XCOPY_OP_ZERO => self.zero_next(index),
                XCOPY_OP_FLUSH => self.flush_next(index),
                _ => self.token_next(index),
            };
            match tried {
                Tried::Sent => {}
                Tried::Blocked => {
                    // With commands of its own in flight an end lists it again.
                    let slot = &self.slots[index as usize];
                    if slot.stage == Stage::Run && !slot.chore {
                        self.list(index);
                    }
                    return;
                }
                Tried::Failed => {
                    if self.slots[index as usize].in_flight > 0 {
                        return;
                    }
                }
            }
        }
    }

    fn copy_next(&mut self, index: u32) -> Tried {
        if self.free_cells.is_empty() || self.is_paused(index) {
            return Tried::Blocked;
        }
        let Some((piece, from_remainder)) = Self::next_piece(&self.slots[index as usize]) else {
            return self.begin_late(index);
        };
        let Some(first) = self.choose(index, piece.host) else {
            let reason = self.why_none(index);
            self.fail(index, -libc::ENOTSUP, reason, 0);
            return Tried::Failed;
        };
        let (chosen, room) = match self.by_contest(index, first) {
            Way::Method(chosen, room) => (chosen, room),
            Way::Wait => return Tried::Blocked,
        };
        if let Some(blocked) = self.order_cache(index, chosen) {
            return blocked;
        }
        let spans = self.spans_holes(index, chosen, piece.end - piece.start.position);
        let slot = &mut self.slots[index as usize];
        let pair = &self.pairs[slot.pair as usize];
        let method = &pair.methods[chosen];
        let bypasses = method.flags & XCOPY_METHOD_BYPASSES_CACHE != 0;
        if !method.has_room()
            || (method.flags & XCOPY_METHOD_SERIAL_DST != 0 && method.in_flight > 0)
        {
            return Tried::Blocked;
        }
        let cell_index = self.free_cells[self.free_cells.len() - 1];
        let cell = &self.shared.cells[cell_index as usize];
        // SAFETY: the cell is free, so only this thread touches its range; a
        // plugin's annex has max_ranges places for each command.
        let out = unsafe {
            let many = match method.plugin {
                NO_PLUGIN => std::ptr::null_mut(),
                plugin => self.plugins[plugin as usize].ranges_of(cell_index),
            };
            if many.is_null() {
                std::slice::from_mut(&mut *cell.range.get())
            } else {
                let plugin = &self.plugins[method.plugin as usize].plugin;
                std::slice::from_raw_parts_mut(many, plugin.table().max_ranges as usize)
            }
        };
        let mut cursor = piece.start;
        let least = u64::from(method.limits.length_granularity).max(SLICE_LEAST);
        let chunk = match spans {
            true => 0,
            false => method.adapt.chunk().min(room.max(least)),
        };
        let limits = within(method, spans);
        let source = slot.source();
        let Some(step) = next_command(&source, &mut cursor, piece.end, &limits, chunk, out) else {
            let mut end = piece.start;
            end.position = piece.end;
            Self::consume(slot, end, from_remainder);
            return Tried::Sent;
        };
        let left_out = match step.kind {
            Kind::Host(XCOPY_REASON_MISALIGNED)
                if method.flags & XCOPY_METHOD_TAIL_AT_END != 0
                    && out
                        .first()
                        .is_some_and(|range| ends_both(pair, range, &method.limits)) =>
            {
                None
            }
            Kind::Host(reason) => Some(reason),
            Kind::Method => None,
        };
        match left_out {
            None => {
                Self::consume(slot, cursor, from_remainder);
                let ranges = out.as_ptr();
                self.contest_sent(index, step.bytes);
                self.send_method(index, chosen, step, ranges)
            }
            Some(reason) => {
                let piece = HostPiece {
                    step,
                    cursor,
                    from_remainder,
                    reason,
                    bypasses,
                };
                self.leave_to_host(index, piece)
            }
        }
    }

    /// A piece that the chosen method cannot take goes by the host.
    fn leave_to_host(&mut self, index: u32, piece: HostPiece) -> Tried {
        let slot = &mut self.slots[index as usize];
        let pair = &self.pairs[slot.pair as usize];
        let host = pair.host.filter(|host| {
            slot.flags & XCOPY_REQ_NO_FALLBACK == 0 && is_allowed(slot, &pair.methods[*host])
        });
        let Some(host) =
            host.filter(|_| self.context.allowed() >> XCOPY_METHOD_READ_WRITE & 1 == 1)
        else {
            self.fail(index, -libc::ENOTSUP, piece.reason, 0);
            return Tried::Failed;
        };
        slot.outcome |= XCOPY_CPL_FELL_BACK;
        if slot.reason == 0 {
            slot.reason = piece.reason;
        }
        let end = piece.step.start.position + piece.step.bytes;
        let spans = !piece.bypasses && self.spans_holes(index, host, piece.step.bytes);
        let slot = &mut self.slots[index as usize];
        let pair = &self.pairs[slot.pair as usize];
        if piece.bypasses {
            // The host writes through the page cache: only after pages that the
            // method made stale were dropped.
            Self::consume(slot, piece.cursor, piece.from_remainder);
            slot.extra().late.push(Remainder {
                start: piece.step.start,
                end,
                tainted: false,
                host: true,
            });
            return Tried::Sent;
        }
        let method = &pair.methods[host];
        let limits = &within(method, spans);
        if method.in_flight >= method.adapt.depth() {
            return Tried::Blocked;
        }
        // The host's own limits, on a native device its block, hold here too.
        let (source, mut cursor) = (slot.source(), piece.step.start);
        let mut out = [ONE];
        let chunk = if spans { 0 } else { method.adapt.chunk() };
        let Some(step) = next_command(&source, &mut cursor, end, limits, chunk, &mut out) else {
            return Tried::Blocked;
        };
        if step.kind != Kind::Method {
            self.fail(index, -libc::ENOTSUP, piece.reason, 0);
            return Tried::Failed;
        }
        Self::consume(slot, cursor, piece.from_remainder);
        self.send_host(index, host, step, out[0])
    }

    /// Pieces that waited for the cache go on once everything else ended.
    fn begin_late(&mut self, index: u32) -> Tried {
        let slot = &mut self.slots[index as usize];
        if slot.in_flight > 0 {
            return Tried::Blocked;
        }
        let extra = slot.extra();
        if extra.bypassed {
            return self.wait_for_cache(index, Stage::CacheDrop);
        }
        extra.remainders = std::mem::take(&mut extra.late);
        Tried::Sent
    }

    /// The first method that the request may use now.
    pub(super) fn choose(&self, index: u32, host_only: bool) -> Option<usize> {
        let slot = &self.slots[index as usize];
        let pair = &self.pairs[slot.pair as usize];
        if host_only && let Some(host) = pair.host {
            return Some(host);
        }
        let can = |method: &BoundMethod| self.may_copy(slot, method);
        let first = pair.methods.iter().position(can)?;
        let fills = |method: &BoundMethod| method.flags & XCOPY_METHOD_FILLS_HOLES != 0;
        if slot.flags & XCOPY_REQ_KEEP_HOLES == 0 || !fills(&pair.methods[first]) {
            return Some(first);
        }
        let keeps = pair.methods.iter().position(|m| can(m) && !fills(m));
        keeps.or(Some(first))
    }

    /// Whether a request may use a method of its pair now.
    pub(super) fn may_copy(&self, slot: &Slot, method: &BoundMethod) -> bool {
        is_allowed(slot, method)
            && self.context.allowed() >> method.id & 1 == 1
            && method.rests.is_none()
            && (method.offloads()
                || slot.flags & (XCOPY_REQ_NO_FALLBACK | XCOPY_REQ_FAST_ONLY) == 0)
            && (method.plugin == NO_PLUGIN
                || self.plugins[method.plugin as usize].plugin.table().commands & XCOPY_CAN_COPY
                    != 0)
    }

    /// Waits out a pause after a transient failure.
    pub(super) fn is_paused(&self, index: u32) -> bool {
        let Some(extra) = &self.slots[index as usize].extra else {
            return false;
        };
        extra.not_before != 0 && coarse_ns() < extra.not_before
    }

    /// Keeps page caches right around methods that go past them: dirty pages
    /// out before, stale pages dropped before the host writes again.
    pub(super) fn order_cache(&mut self, index: u32, chosen: usize) -> Option<Tried> {
        let slot = &mut self.slots[index as usize];
        let pair = &self.pairs[slot.pair as usize];
        let bypasses = pair.methods[chosen].flags & XCOPY_METHOD_BYPASSES_CACHE != 0;
        let cached = [&pair.src, &pair.dst]
            .into_iter()
            .flatten()
            .any(|d| d.fd >= 0);
        if slot.flags & XCOPY_REQ_NO_COHERENCE != 0 || !cached {
            return None;
        }
        let exclusive = |d: &std::sync::Arc<super::devices::Device>| {
            d.fd < 0 || d.exclusive.load(Ordering::Relaxed)
        };
        if [&pair.src, &pair.dst].into_iter().flatten().all(exclusive) {
            return None;
        }
        let (flushed, bypassed) = slot
            .extra
            .as_ref()
            .map_or((false, false), |e| (e.flushed, e.bypassed));
        if bypasses && !flushed {
            if slot.in_flight > 0 {
                return Some(Tried::Blocked);
            }
            slot.extra().flushed = true;
            return Some(self.wait_for_cache(index, Stage::CacheFlush));
        }
        if bypasses {
            slot.extra().bypassed = true;
        } else if bypassed {
            if slot.in_flight > 0 {
                return Some(Tried::Blocked);
            }
            return Some(self.wait_for_cache(index, Stage::CacheDrop));
        } else if flushed {
            // The host dirties pages again.
            slot.extra().flushed = false;
        }
        None
    }

    fn wait_for_cache(&mut self, index: u32, stage: Stage) -> Tried {
        self.chore(index, stage);
        Tried::Blocked
    }

    /// Gives a piece to a plugin's method.
    pub(super) fn send_method(
        &mut self,
        index: u32,
        chosen: usize,
        step: Step,
        ranges: *const xcopy_range,
    ) -> Tried {
        let slot = &mut self.slots[index as usize];
        slot.untouched = slot.untouched.max(step.start.position + step.bytes);
        let method = &mut self.pairs[slot.pair as usize].methods[chosen];
        if method.plugin == NO_PLUGIN {
            // SAFETY: the planner just wrote the range; it lives in the cell.
            let range = unsafe { *ranges };
            return self.send_host_many(index, chosen, step, range);
        }
        if let Some(extra) = &mut slot.extra {
            // Should the plugin fail, its place is no longer what was seen of it.
            extra.sparse = None;
        }
        if method.flags & XCOPY_METHOD_BYPASSES_CACHE != 0 {
            slot.goes_past_cache(step.start.position, step.start.position + step.bytes);
        }
        method.in_flight += 1;
        let (plugin, id, src, dst) = (method.plugin, method.id, method.src, method.dst);
        let order = Order {
            op: XCOPY_CMD_COPY,
            purpose: Purpose::Method,
            plugin,
            method: chosen as u32,
            id,
            src,
            dst,
            ranges,
            nranges: step.ranges,
            bytes: step.bytes,
            start: step.start,
            buffer: std::ptr::null_mut(),
        };
        self.order(index, order);
        Tried::Sent
    }
}

/// A piece that a method left to the host.
struct HostPiece {
    step: Step,
    cursor: Cursor,
    from_remainder: bool,
    reason: u16,
    bypasses: bool,
}

/// A method's limits, without the one on bytes where a command may span holes.
fn within(method: &BoundMethod, spans: bool) -> xcopy_limits {
    let mut limits = method.limits;
    if spans {
        limits.max_bytes = 0;
    }
    limits
}

/// Whether a method has to switch a feature on and the request does not allow it.
pub(super) fn lacks_feature(slot: &Slot, flags: u32) -> bool {
    flags & XCOPY_METHOD_NEEDS_FEATURE != 0 && slot.flags & XCOPY_REQ_SET_HOST_BEHAVIOR == 0
}

/// Whether a request may use a method: its mask, and what failed for it.
pub(super) fn is_allowed(slot: &Slot, method: &BoundMethod) -> bool {
    if slot.off >> method.id & 1 == 1 || lacks_feature(slot, method.flags) {
        return false;
    }
    if slot.methods == 0 {
        return method.flags & XCOPY_METHOD_BY_NAME == 0;
    }
    slot.methods >> method.id & 1 == 1
}

/// Whether a range is the whole rest of the source from an aligned offset on,
/// and the destination does not go on behind it.
pub(super) fn ends_both(pair: &Pair, range: &xcopy_range, limits: &xcopy_limits) -> bool {
    let aligned = |offset: u64, granularity: u32| {
        offset.is_multiple_of(u64::from(granularity.max(limits.length_granularity).max(1)))
    };
    let (Some(src), Some(dst)) = (&pair.src, &pair.dst) else {
        return false;
    };
    aligned(range.src_offset, limits.src_granularity)
        && aligned(range.dst_offset, limits.dst_granularity)
        && range.src_offset + range.length == src.refresh_size()
        && range.dst_offset + range.length >= dst.refresh_size()
}
