//! A finished request's figures: its completion and its report.

use super::queue::Queue;
use super::ring::known;
use super::shared::{Purpose, SlotFace, add};
use super::slot::{Slot, Stage};
use std::mem::offset_of;
use std::sync::atomic::Ordering;
use xcopy_abi::*;

/// Sums over a request.
pub(super) struct Totals {
    /// Longest prefix known to be copied.
    pub done: u64,
    /// The method that moved most.
    pub method: u16,
    /// What is not done may have been touched, or some of it is done.
    pub unknown: bool,
    /// Bytes at and after this position were not touched; at least `done`.
    pub untouched: u64,
}

/// The completion of a request that went the straight way and ended well.
#[inline(always)]
pub(super) fn straight_completion(slot: &Slot, face: &SlotFace) -> xcopy_completion {
    let (bytes, offloads) = (slot.total, slot.method_offloads);
    xcopy_completion {
        user_data: face.user_data.load(Ordering::Relaxed),
        res: 0,
        flags: if offloads {
            XCOPY_CPL_OFFLOADED
        } else {
            XCOPY_CPL_EMULATED
        },
        bytes_done: bytes,
        bytes_copied: bytes,
        bytes_offloaded: if offloads { bytes } else { 0 },
        detail: 0,
        commands: 1,
        method: slot.method,
        reason: slot.reason,
        reserved: 0,
    }
}

impl Queue {
    pub(super) fn totals(&self, index: u32) -> Totals {
        let slot = &self.slots[index as usize];
        let mut done = if matches!(slot.op, XCOPY_OP_COPY | XCOPY_OP_ZERO) || slot.total > 0 {
            slot.cursor.position.min(slot.total)
        } else {
            0
        };
        let mut unknown = false;
        let mut untouched = slot.untouched.min(slot.total);
        let mut method = slot.method;
        let touched = slot.extra.as_ref().map_or(0, |extra| extra.touched);
        if let Some(extra) = &slot.extra {
            let pieces = extra
                .remainders
                .iter()
                .chain(&extra.late)
                .chain(&extra.lost);
            for piece in pieces.clone() {
                done = done.min(piece.start.position);
                unknown |= piece.tainted;
            }
            let mut clean: Vec<_> = pieces.filter(|piece| !piece.tainted).collect();
            clean.sort_unstable_by_key(|piece| std::cmp::Reverse(piece.end));
            for piece in clean {
                if piece.end >= untouched {
                    untouched = untouched.min(piece.start.position);
                }
            }
            if let Some(most) = extra.shares.iter().max_by_key(|s| (s.bytes, s.commands)) {
                method = most.method;
            }
        }
        if slot.in_flight > 0 || slot.chore {
            // Abandoned: what is in flight is not known to be done.
            unknown = true;
            done = done.min(self.earliest_in_flight(index));
        }
        let copied = self.shared.faces[index as usize]
            .copied
            .load(Ordering::Relaxed);
        if copied == 0 {
            done = 0;
            method = if slot.res == 0 {
                method
            } else {
                XCOPY_METHOD_NONE
            };
        }
        Totals {
            done,
            method,
            unknown: unknown || copied > done,
            untouched: untouched.max(done).max(touched),
        }
    }

    /// Where the first command of a request begins whose end was not looked at:
    /// with a backend, or ended on another thread and still on its way here.
    fn earliest_in_flight(&self, index: u32) -> u64 {
        let mut earliest = self.slots[index as usize].cursor.position;
        for cell in &self.shared.cells {
            let errand = cell.errand();
            let control = matches!(
                errand.purpose,
                Purpose::Open | Purpose::Probe | Purpose::Close
            );
            if errand.slot == index && !control && cell.is_used() {
                earliest = earliest.min(errand.start.position);
            }
        }
        earliest
    }

    /// Takes a completion that is ready; its place is free afterwards, unless
    /// commands of it may still write.
    #[inline]
    pub(super) fn take(&mut self, index: u32) {
        // SAFETY: `ready` holds indices of slots only.
        let (slot, face) = unsafe { (known(&self.slots, index), known(&self.shared.faces, index)) };
        let completion = if slot.straight {
            let completion = straight_completion(slot, face);
            self.vacate_straight(index);
            completion
        } else {
            self.take_slowly(index)
        };
        self.shared.straight().places.put(completion);
    }

    #[cold]
    fn take_slowly(&mut self, index: u32) -> xcopy_completion {
        let slot = &self.slots[index as usize];
        let face = &self.shared.faces[index as usize];
        let mut completion = xcopy_completion {
            user_data: face.user_data.load(Ordering::Relaxed),
            res: slot.res,
            flags: slot.outcome,
            bytes_done: slot.total,
            bytes_copied: face.copied.load(Ordering::Relaxed),
            bytes_offloaded: face.offloaded.load(Ordering::Relaxed),
            detail: slot.detail,
            commands: slot.commands,
            method: slot.method,
            reason: slot.reason,
            reserved: 0,
        };
        if slot.res == 0 && slot.outcome & XCOPY_CPL_FELL_BACK == 0 {
            // What was transient is over.
            completion.detail = 0;
        }
        if slot.res != 0 || slot.extra.is_some() {
            completion.bytes_done = self.totals(index).done;
        }
        let moved = completion.bytes_copied;
        if moved > 0 {
            completion.flags |= if completion.bytes_offloaded == moved {
                XCOPY_CPL_OFFLOADED
            } else {
                XCOPY_CPL_EMULATED
            };
        }
        if completion.flags & XCOPY_CPL_UNSETTLED != 0 {
            self.slots[index as usize].stage = Stage::Abandoned;
            self.abandoned += 1;
            add(&self.shared.stats.abandoned, 1);
            // Everything may have ended while the completion waited to be taken.
            self.end_quarantine(index);
        } else {
            self.vacate(index);
        }
        completion
    }

    /// Gives an abandoned request's place back once nothing of it can write.
    pub(super) fn end_quarantine(&mut self, index: u32) {
        let slot = &self.slots[index as usize];
        let over = slot.stage == Stage::Abandoned && slot.in_flight == 0 && !slot.chore;
        if over && !self.unmake(index) {
            self.abandoned -= 1;
            self.vacate(index);
        }
    }

    /// Fills the caller's report, at most as many bytes as it says it has.
    pub(super) fn write_report(&self, index: u32, report: *mut xcopy_report) {
        let slot = &self.slots[index as usize];
        let face = &self.shared.faces[index as usize];
        let totals = self.totals(index);
        // SAFETY: the caller's struct, valid until its completion is taken, which
        // is later; only `size` is read.
        let size = unsafe { (*report).size };
        let mut full = xcopy_report {
            size,
            nshares: 0,
            nfallbacks: 0,
            sense_len: 0,
            failed_index: slot.nranges,
            failed: xcopy_range::default(),
            untouched_from: totals.untouched,
            shares: [xcopy_method_share::default(); XCOPY_METHOD_MAX],
            fallbacks: [xcopy_fallback::default(); XCOPY_REPORT_FALLBACKS],
            sense: [0; XCOPY_SENSE_MAX],
            reserved: 0,
        };
        match slot.extra.as_ref().filter(|e| !e.shares.is_empty()) {
            Some(extra) => {
                for (to, from) in full.shares.iter_mut().zip(&extra.shares) {
                    *to = *from;
                    full.nshares += 1;
                }
            }
            None if slot.commands > 0 && slot.method != XCOPY_METHOD_NONE => {
                full.nshares = 1;
                full.shares[0] = xcopy_method_share {
                    method: slot.method,
                    offloaded: u16::from(slot.method_offloads),
                    commands: slot.commands,
                    bytes: face.copied.load(Ordering::Relaxed),
                };
            }
            None => {}
        }
        self.report_fallbacks(slot, totals.method, &mut full);
        if let Some(extra) = &slot.extra {
            if let Some((index, range)) = extra.failed {
                full.failed_index = index;
                full.failed = range;
            }
            let n = extra.sense.len().min(XCOPY_SENSE_MAX);
            full.sense[..n].copy_from_slice(&extra.sense[..n]);
            full.sense_len = n as u32;
        }
        let bytes = (size as usize).min(size_of::<xcopy_report>());
        // SAFETY: the caller says that `size` bytes are there; at least the head
        // is, checked at submit. Both are plain data and do not overlap.
        unsafe {
            std::ptr::copy_nonoverlapping(
                (&raw const full).cast::<u8>(),
                report.cast::<u8>(),
                bytes.max(offset_of!(xcopy_report, shares)),
            );
        }
    }
}
