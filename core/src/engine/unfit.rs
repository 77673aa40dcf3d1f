//! Requests of which a piece could not be copied by any method that they allow: known
//! from their ranges, before the first byte is.

use super::dispatch::{ONE, ends_both, is_allowed};
use super::pairs::{BoundMethod, Pair};
use super::queue::Queue;
use super::slot::{Failure, Slot};
use crate::plan::{Kind, next_command};
use xcopy_abi::*;

/// Ranges of a list that is looked through: beyond, what is out of line is met when
/// its turn comes.
const RANGES_MAX: u64 = 4096;

impl Queue {
    /// Why a piece of a COPY would be left to the host, which may not take it, whatever
    /// method is taken; None if there is no such piece. Methods that leave one are off
    /// for the request.
    pub(super) fn why_unfit(&mut self, index: u32) -> Option<u16> {
        let slot = &self.slots[index as usize];
        if slot.op != XCOPY_OP_COPY || slot.nranges > RANGES_MAX {
            return None;
        }
        let pair = &self.pairs[slot.pair as usize];
        let may = |host: usize| is_allowed(slot, &pair.methods[host]);
        if slot.flags & XCOPY_REQ_NO_FALLBACK == 0
            && self.context.allowed() >> XCOPY_METHOD_READ_WRITE & 1 == 1
            && pair.host.is_some_and(may)
        {
            return None;
        }
        let before = slot.off;
        let mut first = None;
        while let Some(chosen) = self.choose(index, false) {
            let slot = &self.slots[index as usize];
            let method = &self.pairs[slot.pair as usize].methods[chosen];
            let Some(reason) = left_over(slot, &self.pairs[slot.pair as usize], method) else {
                if let Some((method, reason)) = first {
                    self.say_unfit(index, method, reason);
                }
                return None;
            };
            let id = method.id;
            first = first.or(Some((id, reason)));
            self.slots[index as usize].off |= 1 << id;
        }
        self.slots[index as usize].off = before;
        first.map(|(_, reason)| reason)
    }

    fn say_unfit(&mut self, index: u32, method: u16, reason: u16) {
        let slot = &mut self.slots[index as usize];
        slot.outcome |= XCOPY_CPL_FELL_BACK;
        slot.reason = reason;
        slot.extra().failures.push(Failure {
            method,
            reason,
            error: -libc::ENOTSUP,
            detail: 0,
        });
    }
}

/// Why a method leaves a piece of a request to the host.
fn left_over(slot: &Slot, pair: &Pair, method: &BoundMethod) -> Option<u16> {
    // Where it is cut does not matter, only what is left over.
    let limits = xcopy_limits {
        max_bytes: 0,
        max_range_bytes: 0,
        max_ranges: 1,
        ..method.limits
    };
    let (source, mut cursor) = (slot.source(), slot.cursor);
    let mut out = [ONE];
    while let Some(step) = next_command(&source, &mut cursor, slot.total, &limits, 0, &mut out) {
        if let Kind::Host(reason) = step.kind {
            let tail_at_end = reason == XCOPY_REASON_MISALIGNED
                && method.flags & XCOPY_METHOD_TAIL_AT_END != 0
                && ends_both(pair, &out[0], &limits);
            if !tail_at_end {
                return Some(reason);
            }
        }
    }
    None
}
