//! What follows a command's failure: the same again later, smaller, by the next
//! method, or not at all.

use super::clock::coarse_ns;
use super::queue::Queue;
use super::reasons;
use super::route::Endpoint;
use super::settle::public_errno;
use super::shared::{Answer, Errand, NO_PLUGIN, Purpose, add};
use super::slot::Failure;
use crate::device::ends_early;
use std::sync::atomic::Ordering;
use xcopy_abi::*;

/// Transient failures without a success between them that a request forgives
/// before it takes another method.
const RETRIES_MAX: u32 = 256;
/// First pause after a transient failure; it doubles up to 64 times that.
const PAUSE_NS: u64 = 1_000_000;

impl Queue {
    /// What follows a failure, by its class.
    pub(super) fn after_failure(
        &mut self,
        index: u32,
        errand: &Errand,
        answer: &Answer,
        id: u16,
        bytes: u64,
    ) {
        let slot = &mut self.slots[index as usize];
        // What was taken back because the request fails does not say why it does.
        if !slot.stopping || answer.status != -libc::ECANCELED {
            slot.detail = match answer.detail {
                0 => reasons::errno_detail(id, answer.status),
                detail => detail,
            };
        }
        slot.outcome |= sides(answer.flags);
        if answer.flags & XCOPY_RESULT_UNSETTLED != 0 && errand.plugin != NO_PLUGIN {
            slot.outcome |= XCOPY_CPL_INDETERMINATE | XCOPY_CPL_UNSETTLED;
        }
        if slot.stopping {
            return;
        }
        let on_host = errand.plugin == NO_PLUGIN
            || matches!(errand.purpose, Purpose::BridgeRead | Purpose::BridgeWrite);
        let reason = match answer.reason {
            // The kernel's word for a reservation conflict, on any disk.
            XCOPY_REASON_NONE | XCOPY_REASON_FAILED if answer.status == -libc::EBADE => {
                XCOPY_REASON_RESERVED
            }
            XCOPY_REASON_NONE => XCOPY_REASON_FAILED,
            reason => reasons::known(reason, XCOPY_REASON_FAILED),
        };
        let action = match answer.action {
            XCOPY_ACTION_RETRY..=XCOPY_ACTION_FATAL => answer.action,
            // DEFAULT, or one of a newer version.
            _ => default_action(-answer.status, on_host),
        };
        match action {
            // What may still write would undo what another command writes.
            _ if answer.flags & XCOPY_RESULT_UNSETTLED != 0 => {
                self.fatal(index, errand, answer, reason)
            }
            XCOPY_ACTION_RETRY => self.retry(index, errand, answer, id, reason),
            XCOPY_ACTION_SPLIT if bytes > 1 && self.split(index, errand, bytes) => {}
            XCOPY_ACTION_FATAL => self.fatal(index, errand, answer, reason),
            _ if on_host => self.fatal(index, errand, answer, reason),
            _ => self.leave_method(index, errand, answer, id, reason),
        }
    }

    fn retry(&mut self, index: u32, errand: &Errand, answer: &Answer, id: u16, reason: u16) {
        add(&self.shared.stats.retries, 1);
        let pair = self.slots[index as usize].pair;
        if let Some(method) = self.pairs[pair as usize]
            .methods
            .get_mut(errand.method as usize)
        {
            method.adapt.busy();
            self.update_way(pair, errand.method);
        }
        if !self.pause(index) {
            let on_host = errand.plugin == NO_PLUGIN || errand.purpose != Purpose::Method;
            if on_host {
                self.fatal(index, errand, answer, reason);
            } else {
                self.leave_method(index, errand, answer, id, reason);
            }
        }
    }

    /// Lets a request wait, longer each time; false, and from the start again, once
    /// it waited too often without a success.
    pub(super) fn pause(&mut self, index: u32) -> bool {
        let extra = self.slots[index as usize].extra();
        let was_paused = extra.not_before != 0;
        // What fails while it waits was on its way before: one failure for the lot.
        extra.retries += u32::from(!was_paused);
        if extra.retries > RETRIES_MAX {
            extra.retries = 0;
            return false;
        }
        let pause = PAUSE_NS << (extra.retries.saturating_sub(1) / 4).min(6);
        extra.not_before = coarse_ns() + pause;
        let until = extra.not_before;
        if !was_paused {
            self.timed += 1;
        }
        self.earliest = self.earliest.min(until);
        true
    }

    /// Smaller commands from now on; false if they cannot be smaller.
    fn split(&mut self, index: u32, errand: &Errand, bytes: u64) -> bool {
        let pair = self.slots[index as usize].pair;
        let pair = &mut self.pairs[pair as usize];
        let Some(method) = pair.methods.get_mut(errand.method as usize) else {
            return false;
        };
        if errand.ranges > 1 {
            // Fewer ranges first: a limit on either may be what was exceeded.
            method.limits.max_ranges = (errand.ranges / 2).max(1);
        } else {
            let before = method.adapt.chunk();
            let mut smaller = method.adapt;
            smaller.too_large(bytes);
            let limits = &method.limits;
            let grain = limits.src_granularity.max(limits.dst_granularity);
            let grain = u64::from(grain.max(limits.length_granularity));
            // Below a block there is no command at all.
            if smaller.chunk() < grain || (smaller.chunk() >= before && before >= bytes) {
                return false;
            }
            method.adapt = smaller;
        }
        method
            .memory
            .adapt
            .store(method.adapt.pack(), Ordering::Relaxed);
        let at = self.slots[index as usize].pair;
        self.update_way(at, errand.method);
        true
    }

    /// The request goes on by the next method; this one rests on the pair.
    fn leave_method(&mut self, index: u32, errand: &Errand, answer: &Answer, id: u16, reason: u16) {
        let slot = &mut self.slots[index as usize];
        if slot.off >> id & 1 == 1 {
            return;
        }
        slot.off |= 1 << id;
        slot.outcome |= XCOPY_CPL_FELL_BACK;
        slot.reason = reason;
        let detail = slot.detail;
        let failure = Failure {
            method: id,
            reason,
            error: answer.status,
            detail,
        };
        slot.extra().failures.push(failure);
        add(&self.shared.stats.fallbacks, 1);
        let of_token = matches!(
            slot.op,
            XCOPY_OP_TOKEN_CREATE | XCOPY_OP_TOKEN_WRITE | XCOPY_OP_TOKEN_RELEASE
        );
        let until = match reason {
            XCOPY_REASON_PLUGIN_FAULT => u64::MAX,
            // About one token or what was asked of it: others have nothing to do with
            // that. What the device does not know at all is about all of them.
            reason if of_token && reason != XCOPY_REASON_NOT_SUPPORTED => 0,
            // About this range, not about the pair.
            XCOPY_REASON_MISALIGNED | XCOPY_REASON_TOKEN => 0,
            _ => coarse_ns().saturating_add(self.context.retry_after_ns()),
        };
        let at = slot.pair;
        let pair = &mut self.pairs[at as usize];
        // Zeroing belongs to no method of the pair.
        if let Some(method) = pair.methods.get_mut(errand.method as usize)
            && until > 0
        {
            method.memory.rest(until, reason);
            method.rests = Some((until, reason));
            pair.recheck_ns = pair.recheck_ns.min(until);
            self.update_way(at, errand.method);
        }
        self.context.log(
            XCOPY_LOG_INFO,
            &format!(
                "method {id} left: {} ({})",
                reasons::text(reason),
                reasons::detail_text(detail)
            ),
        );
        if self.slots[index as usize].op != XCOPY_OP_COPY {
            self.fatal(index, errand, answer, reason);
        }
    }

    fn fatal(&mut self, index: u32, errand: &Errand, answer: &Answer, reason: u16) {
        let slot = &mut self.slots[index as usize];
        let source = slot.source();
        let mut start = errand.start;
        start.advance(source.ranges, answer.bytes);
        if let Some(range) = source.ranges.get(start.index as usize) {
            let range = xcopy_range {
                src_offset: source.src_base.wrapping_add(range.src_offset) + start.offset,
                dst_offset: source.dst_base.wrapping_add(range.dst_offset) + start.offset,
                length: range.length.saturating_sub(start.offset),
            };
            let ended = answer.status == -libc::EIO
                && answer.flags & XCOPY_RESULT_ERR_ON_READ != 0
                && matches!(&self.pairs[slot.pair as usize].src_end,
                    Endpoint::Kernel { fd, kind: XCOPY_KIND_FILE }
                        if ends_early(*fd, range.src_offset, range.length));
            if ended {
                slot.detail |= reasons::SOURCE_ENDED;
            }
            let first = start.index;
            let extra = slot.extra();
            if extra.failed.is_none_or(|(index, _)| first < index) {
                extra.failed = Some((first, range));
            }
        }
        let (status, detail) = (public_errno(answer.status), slot.detail);
        self.fail(index, status, reason, detail);
    }
}

fn sides(flags: u32) -> u32 {
    let mut sides = 0;
    if flags & XCOPY_RESULT_ERR_ON_READ != 0 {
        sides |= XCOPY_CPL_ERR_ON_READ;
    }
    if flags & XCOPY_RESULT_ERR_ON_WRITE != 0 {
        sides |= XCOPY_CPL_ERR_ON_WRITE;
    }
    sides
}

/// What an errno means where the backend does not say.
fn default_action(errno: i32, on_host: bool) -> u16 {
    match errno {
        libc::EAGAIN | libc::EINTR | libc::EBUSY => XCOPY_ACTION_RETRY,
        libc::E2BIG | libc::EMSGSIZE => XCOPY_ACTION_SPLIT,
        libc::ENOSPC
        | libc::EROFS
        | libc::EDQUOT
        | libc::EFBIG
        | libc::ENODEV
        | libc::EBADE
        | libc::ECANCELED => XCOPY_ACTION_FATAL,
        _ if on_host => XCOPY_ACTION_FATAL,
        _ => XCOPY_ACTION_NEXT_METHOD,
    }
}
