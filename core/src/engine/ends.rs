//! The end of commands: what each did, and what follows from that.

use super::pairs::Binding;
use super::queue::Queue;
use super::reasons;
use super::shared::{Answer, Errand, NO_PLUGIN, Purpose, add};
use super::slot::{Remainder, Slot, Stage};
use crate::plan::{Cursor, Kind, Step};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use xcopy_abi::*;

impl Queue {
    /// A command ended.
    #[inline]
    pub(super) fn on_end(&mut self, cell_index: u32) {
        let shared: *const super::shared::QueueShared = Arc::as_ptr(&self.shared);
        // SAFETY: `self` keeps it alive, and nothing below replaces it.
        let Some(cell) = (unsafe { &*shared }).cells.get(cell_index as usize) else {
            return;
        };
        if !self.shared.straight().has(cell) || !self.end_straight(cell) {
            self.on_other_end(cell_index);
        }
    }

    /// The end of a command that did not go the straight way, or not well.
    #[cold]
    #[inline(never)]
    fn on_other_end(&mut self, cell_index: u32) {
        let shared = &self.shared;
        let errand = shared.cells[cell_index as usize].errand();
        let answer = shared.answer(cell_index);
        shared.land(cell_index);
        self.free_cells.push(cell_index);
        match errand.plugin {
            NO_PLUGIN => self.flying -= 1,
            plugin => self.plugins[plugin as usize].host().landed(1),
        }
        self.on_end_slowly(cell_index, errand, answer);
    }

    fn on_end_slowly(&mut self, cell_index: u32, errand: Errand, answer: Answer) {
        match errand.purpose {
            Purpose::Open => return self.on_opened(errand.slot, &answer),
            Purpose::Probe => return self.on_judged(errand.slot, errand.plugin, &answer),
            Purpose::Close => return self.on_affine_closed(errand.slot),
            _ => {}
        }
        let index = errand.slot;
        let slot = &mut self.slots[index as usize];
        slot.in_flight = slot.in_flight.saturating_sub(1);
        let pair = &mut self.pairs[slot.pair as usize];
        if errand.purpose != Purpose::BridgeRead
            && let Some(method) = pair.methods.get_mut(errand.method as usize)
        {
            method.in_flight = method.in_flight.saturating_sub(1);
        }
        if errand.purpose == Purpose::Host {
            self.end_large(cell_index, &errand);
        }
        let slot = &mut self.slots[index as usize];
        if slot.stage == Stage::Abandoned {
            self.keep_late_token(cell_index, &errand, &answer);
            self.buffers[cell_index as usize] = None;
            self.release_method(&errand, errand.purpose == Purpose::BridgeRead);
            add(&self.shared.stats.late_answers, 1);
            return self.end_quarantine(index);
        }
        let bytes = self.command_bytes(cell_index);
        match errand.purpose {
            Purpose::Flush => self.on_flushed(index, &answer),
            // It is tried once: what it left lives no longer than its time.
            Purpose::Unmake => drop(self.shared.take_sense(cell_index)),
            Purpose::BridgeRead if answer.status == 0 && answer.bytes == bytes => {
                let op = self.slots[index as usize].op;
                let (id, offloads) = self.method_of(index, &errand, op);
                slot_share(&mut self.slots[index as usize], id, offloads).commands += 1;
                if !self.bridge_write(index, cell_index, &errand, bytes) {
                    self.release_method(&errand, true);
                }
            }
            purpose => {
                self.release_method(&errand, purpose == Purpose::BridgeRead);
                let pair = &self.pairs[self.slots[index as usize].pair as usize];
                let answer = super::by_host::told_apart(answer, &pair.dst_end);
                let op = self.slots[index as usize].op;
                self.judge(index, cell_index, &errand, answer, bytes, op);
                self.buffers[cell_index as usize] = None;
            }
        }
        let slot = &self.slots[index as usize];
        if slot.stage == Stage::Run {
            let face = &self.shared.faces[index as usize];
            let word = u64::from(slot.method) << 32 | u64::from(slot.in_flight);
            face.commands.store(word, Ordering::Relaxed);
            self.list(index);
        } else if slot.stage == Stage::Ready {
            // Abandoned, but its completion was not taken yet: that says what is
            // known now, and so must the report.
            self.conclude(index);
        }
    }

    pub(super) fn command_bytes(&self, cell_index: u32) -> u64 {
        // SAFETY: the command landed, so only this thread touches it.
        unsafe { (*self.shared.cells[cell_index as usize].cmd.get()).bytes }
    }

    /// A read leg holds its place in the method's depth until the write ended.
    fn release_method(&mut self, errand: &Errand, was_read: bool) {
        if was_read {
            let pair = self.slots[errand.slot as usize].pair;
            if let Some(method) = self.pairs[pair as usize]
                .methods
                .get_mut(errand.method as usize)
            {
                method.in_flight = method.in_flight.saturating_sub(1);
            }
        }
    }

    /// The write leg of a bridge, in the command whose read leg just ended.
    fn bridge_write(&mut self, index: u32, cell: u32, errand: &Errand, bytes: u64) -> bool {
        let slot = &self.slots[index as usize];
        if slot.stopping {
            let end = errand.start.position + bytes;
            self.lose(index, errand.start, end, false);
            self.buffers[cell as usize] = None;
            return false;
        }
        let pair = &self.pairs[slot.pair as usize];
        let (end, plugin) = (pair.dst_end.clone(), pair.end_plugins.1);
        // `send_leg` takes the command on top of the free list: this one.
        let step = Step {
            kind: Kind::Method,
            start: errand.start,
            ranges: 1,
            bytes,
        };
        self.send_leg(
            index,
            errand.method as usize,
            step,
            &end,
            plugin,
            Purpose::BridgeWrite,
        );
        true
    }

    /// Accounts one command's end.
    fn judge(
        &mut self,
        index: u32,
        cell: u32,
        errand: &Errand,
        mut answer: Answer,
        bytes: u64,
        op: u16,
    ) {
        let (id, mut offloads) = self.method_of(index, errand, op);
        let plugin_spoke = errand.plugin != NO_PLUGIN;
        let by_host = !plugin_spoke && errand.purpose == Purpose::Host;
        let host_touched = if by_host {
            answer.touched.min(bytes)
        } else {
            0
        };
        if plugin_spoke {
            check_honesty(&mut answer, bytes, id, op, &self.shared.stats);
            offloads &= answer.flags & XCOPY_RESULT_THROUGH_HOST == 0;
        }
        if errand.purpose == Purpose::BridgeRead {
            // What was read is not copied, and nothing was written.
            answer.bytes = 0;
            answer.zeroed = 0;
            answer.flags |= XCOPY_RESULT_UNTOUCHED;
            if answer.status == 0 {
                answer.status = -libc::EIO;
                answer.flags |= XCOPY_RESULT_ERR_ON_READ;
            }
        }
        if answer.status == 0 && op == XCOPY_OP_TOKEN_CREATE {
            self.keep_token(index, cell, errand, &answer, bytes);
            if self.slots[index as usize].stopping {
                // No token comes of it, so its part has none.
                return self.rest_of(index, errand, 0, 0, bytes);
            }
        }
        let unsent = plugin_spoke && is_unsent(&answer);
        let slot = &mut self.slots[index as usize];
        if unsent {
            slot.commands = slot.commands.saturating_sub(1);
        } else {
            slot_share(slot, id, offloads).commands += 1;
        }
        let done = answer.bytes.min(bytes);
        let zeroed = answer.zeroed.min(done);
        if done > 0 {
            self.account(index, id, offloads, done - zeroed);
            if zeroed > 0 {
                self.account(index, XCOPY_METHOD_ZERO, true, zeroed);
            }
        }
        if answer.status == 0 {
            let pair = self.slots[index as usize].pair;
            if let Some(method) = self.pairs[pair as usize]
                .methods
                .get_mut(errand.method as usize)
            {
                method.adapt.succeeded(bytes);
                method
                    .memory
                    .adapt
                    .store(method.adapt.pack(), Ordering::Relaxed);
                self.update_way(pair, errand.method);
            }
            if let Some(extra) = &mut self.slots[index as usize].extra {
                extra.retries = 0;
            }
            if done < bytes {
                // The host was asked to stop early.
                self.rest_of(index, errand, done, host_touched, bytes);
            }
            return;
        }
        add(&self.shared.stats.command_errors, 1);
        if answer.sense_len > 0
            && let Some(sense) = self.shared.take_sense(cell)
        {
            self.slots[index as usize].extra().sense = sense;
        }
        // What may still write is not untouched, whatever else is said of it.
        let sure = XCOPY_RESULT_UNTOUCHED | XCOPY_RESULT_UNSETTLED;
        let touched = match answer.flags & sure != XCOPY_RESULT_UNTOUCHED {
            _ if unsent => 0,
            _ if op == XCOPY_OP_TOKEN_CREATE => 0,
            false => 0,
            true if by_host => host_touched,
            true => bytes,
        };
        if !by_host && !unsent && done < bytes {
            // A device's word is one thing, and what is promised to be as it was another.
            let extra = self.slots[index as usize].extra();
            extra.touched = extra.touched.max(errand.start.position + bytes);
        }
        self.rest_of(index, errand, done, touched, bytes);
        self.after_failure(index, errand, &answer, id, bytes);
    }

    /// Which method a command counts for, and whether it offloads.
    fn method_of(&self, index: u32, errand: &Errand, op: u16) -> (u16, bool) {
        if op == XCOPY_OP_ZERO {
            return (XCOPY_METHOD_ZERO, errand.purpose != Purpose::BridgeWrite);
        }
        let pair = self.slots[index as usize].pair;
        match self.pairs[pair as usize]
            .methods
            .get(errand.method as usize)
        {
            Some(method) => (method.id, method.offloads()),
            None => (XCOPY_METHOD_NONE, false),
        }
    }

    /// Lets the straight way follow what was learnt of its method.
    pub(super) fn update_way(&mut self, pair: u32, method: u32) {
        if method == 0 && matches!(self.pairs[pair as usize].binding, Binding::Ready) {
            self.find_way(pair);
        }
    }

    fn account(&mut self, index: u32, id: u16, offloads: bool, bytes: u64) {
        if bytes == 0 {
            return;
        }
        let share = slot_share(&mut self.slots[index as usize], id, offloads);
        share.bytes += bytes;
        let face = &self.shared.faces[index as usize];
        add(&face.copied, bytes);
        add(&self.shared.stats.bytes_copied, bytes);
        if offloads {
            add(&face.offloaded, bytes);
            add(&self.shared.stats.bytes_offloaded, bytes);
        }
    }

    /// What a command did not do is planned again, or given up: what may have been
    /// touched, and what was not.
    fn rest_of(&mut self, index: u32, errand: &Errand, done: u64, touched: u64, bytes: u64) {
        for (from, to, tainted) in [(touched.max(done), bytes, false), (done, touched, true)] {
            if from >= to {
                continue;
            }
            let end = errand.start.position + to;
            let slot = &mut self.slots[index as usize];
            let mut start = errand.start;
            start.advance(slot.source().ranges, from);
            if slot.stopping {
                self.lose(index, start, end, tainted);
            } else {
                self.put_back(index, start, end, tainted);
            }
        }
    }

    pub(super) fn lose(&mut self, index: u32, start: Cursor, end: u64, tainted: bool) {
        let lost = Remainder {
            start,
            end,
            tainted,
            host: false,
        };
        let extra = self.slots[index as usize].extra();
        extra.touched = extra.touched.max(if tainted { end } else { 0 });
        extra.lost.push(lost);
    }
}

/// The entry of a method in a request's account. One method needs no list.
fn slot_share(slot: &mut Slot, id: u16, offloads: bool) -> &mut xcopy_method_share {
    if slot.method == XCOPY_METHOD_NONE {
        slot.method = id;
        slot.method_offloads = offloads;
    }
    let extra = slot.extra.get_or_insert_default();
    let at = extra.shares.iter().position(|share| share.method == id);
    let at = at.unwrap_or_else(|| {
        extra.shares.push(xcopy_method_share {
            method: id,
            offloaded: u16::from(offloads),
            commands: 0,
            bytes: 0,
        });
        extra.shares.len() - 1
    });
    let share = &mut extra.shares[at];
    share.offloaded &= u16::from(offloads);
    share
}

/// Turns an answer that cannot be true into an honest failure.
fn check_honesty(answer: &mut Answer, bytes: u64, id: u16, op: u16, stats: &super::shared::Stats) {
    let release = op == XCOPY_OP_TOKEN_RELEASE;
    let fault = if answer.status > 0 || answer.status < -4095 {
        XCOPY_FAULT_STATUS
    } else if answer.bytes > bytes {
        XCOPY_FAULT_OVER_REPORT
    } else if answer.status == 0 && answer.bytes < bytes && !release {
        XCOPY_FAULT_SHORT
    } else if answer.status == -libc::EFAULT {
        XCOPY_FAULT_PANIC
    } else {
        return;
    };
    add(&stats.plugin_faults, 1);
    *answer = Answer {
        status: -libc::EIO,
        action: XCOPY_ACTION_NEXT_METHOD,
        reason: XCOPY_REASON_PLUGIN_FAULT,
        detail: reasons::fault_detail(id, fault),
        ..Default::default()
    };
}

/// Whether a plugin failed a command without sending it.
fn is_unsent(answer: &Answer) -> bool {
    answer.status != 0
        && answer.bytes == 0
        && answer.flags & (XCOPY_RESULT_UNSENT | XCOPY_RESULT_UNSETTLED) == XCOPY_RESULT_UNSENT
}
