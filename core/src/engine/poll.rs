//! poll: what can be done is done, and completions go to the caller.

use super::clock::{coarse_ns, precise_ns};
use super::devices::changes;
use super::places::Polling;
use super::queue::Queue;
use super::shared::{Mail, QueueShared};
use super::slot::Stage;
use crate::error::Error;
use crate::queue::Wait;
use std::sync::Arc;
use std::sync::atomic::{Ordering, compiler_fence};
use xcopy_abi::*;

/// Ranges that one poll checks of each long list.
const SCAN_SLICE: u64 = 16_384;

impl QueueShared {
    /// Takes up to `max` completions of straight requests without waiting; how many,
    /// as an error if there is more to do.
    ///
    /// # Safety
    /// The owner's thread; `out` points to `max` completions' places.
    #[inline(always)]
    pub unsafe fn glance(&self, out: *mut xcopy_completion, max: u32) -> Result<u32, u32> {
        let straight = self.straight();
        // SAFETY: the caller's word. Nothing below unwinds past the end.
        unsafe { straight.places.open(out, max) };
        if straight.other.get() != 0 {
            return Err(self.cut_short(max));
        }
        let mut hosts = straight.hosts();
        while let Some(host) = hosts.here() {
            if host.has_batch() {
                // What a submit left over.
                return Err(self.cut_short(max));
            }
            host.poll();
            hosts.go_on(host);
        }
        let taken = max - straight.places.close();
        self.count_taken(taken);
        // Counted out first, then the look at the handles; see `is_current`.
        compiler_fence(Ordering::SeqCst);
        if straight.other.get() != 0 || straight.looked.get() != changes() {
            return Err(taken);
        }
        if straight.rung.get() != self.rung() || !self.lane.is_idle() {
            return Err(taken);
        }
        Ok(taken)
    }

    /// The end of a glance that met what is not for it.
    #[cold]
    #[inline(never)]
    fn cut_short(&self, max: u32) -> u32 {
        let taken = max - self.straight().places.close();
        self.count_taken(taken);
        taken
    }

    /// The place after those that the last glance filled.
    pub fn next_place(&self) -> *mut xcopy_completion {
        self.straight().places.next()
    }

    /// Counts completions that were taken.
    #[inline(always)]
    fn count_taken(&self, taken: u32) {
        let completions = &self.stats.completions;
        let all = completions.load(Ordering::Relaxed);
        // Whoever sees it sees that they were accepted.
        completions.store(all.wrapping_add(u64::from(taken)), Ordering::Release);
    }
}

impl Queue {
    /// Everything that can be done now: ends are taken, commands dispatched.
    /// Completions go to the places of the poll under way, or become ready.
    pub(super) fn advance(&mut self) {
        for host in self.shared.straight().hosts() {
            host.flush();
            host.poll();
        }
        self.poll_ring();
        self.take_ended();
        if !self.shared.lane.is_empty() {
            self.drain_lane();
        }
        if self.timed > 0 {
            // A sleeper is woken to the nanosecond, and the coarse clock may lag:
            // it would be woken again and again until that catches up.
            let slept = std::mem::take(&mut self.slept) || self.bell.is_armed();
            let now = if slept { precise_ns() } else { coarse_ns() };
            if now >= self.earliest {
                self.expire(now);
            }
        }
        if self.scans > 0 {
            self.scan_slices();
        }
        if !self.owed.is_empty() {
            self.pay_owed();
        }
        self.dispatch();
        // A plugin may end commands inside submit.
        if self.shared.has_ended() {
            self.take_ended();
            self.dispatch();
        }
        self.flush_ring();
    }

    /// Gives what can go out to the plugins.
    pub(super) fn dispatch(&mut self) {
        if !self.runnable.is_empty() {
            self.pump();
        }
        self.shared.straight().flush();
    }

    #[inline]
    fn take_ended(&mut self) {
        while let Some(index) = self.shared.next_ended() {
            self.on_end(index);
        }
    }

    fn drain_lane(&mut self) {
        let shared: *const QueueShared = Arc::as_ptr(&self.shared);
        // SAFETY: `self` keeps it alive, and nothing below replaces it.
        let shared = unsafe { &*shared };
        let mut mail = false;
        let foresee = |node: u32| {
            if let Some(cell) = shared.cells.get(node as usize) {
                cell.expect_delivery();
            }
        };
        shared.lane.drain_foreseen(foresee, |node| {
            if node == shared.mail_node() {
                mail = true;
            } else {
                self.on_end(node);
            }
        });
        if !mail {
            return;
        }
        shared.open_mailbox();
        for letter in shared.take_mail() {
            match letter {
                Mail::Route { route, result } => self.on_route(route, result),
                Mail::Chore {
                    slot,
                    seq,
                    status,
                    flags,
                } => {
                    self.on_chore(slot, seq, status, flags);
                }
                Mail::Cancel => {
                    shared.open_cancel();
                    self.cancel_asked();
                }
                Mail::Closed(device) => self.on_closed(&device),
            }
        }
    }

    fn scan_slices(&mut self) {
        for index in 0..self.slots.len() as u32 {
            if self.slots[index as usize].stage == Stage::Scan {
                self.scan(index, SCAN_SLICE);
            }
        }
    }

    /// Takes up to `max` completions, waiting for `min` of them; how many.
    /// `error` says why none was waited for.
    ///
    /// # Safety
    /// `out` points to `max` places, `stride` bytes apart, all aligned to 8.
    pub unsafe fn poll(
        &mut self,
        out: *mut u8,
        stride: usize,
        min: u32,
        max: u32,
        timeout_ns: i64,
        error: &mut Option<Error>,
    ) -> u32 {
        let min = min.min(max);
        let shared: *const QueueShared = Arc::as_ptr(&self.shared);
        // SAFETY: `self` keeps it alive, and nothing below replaces it.
        let shared = unsafe { &*shared };
        // SAFETY: the caller's word.
        let polling = unsafe { Polling::begin(shared, out, stride, max) };
        let mut until = None;
        // What was ready before comes first.
        self.take_ready();
        loop {
            let hidden = shared.straight().places.hide();
            self.advance();
            shared.straight().places.show(hidden);
            self.take_ready();
            let taken = polling.taken();
            if taken >= min || timeout_ns == 0 || self.is_idle(taken) {
                break;
            }
            let now = precise_ns();
            let until = *until.get_or_insert_with(|| deadline_of(now, timeout_ns));
            if now >= until {
                break;
            }
            if self.ring_is_ready() {
                continue;
            }
            let slept = self.sleep(until, now);
            match slept {
                Ok(Wait::Ready | Wait::TimedOut) => {}
                Ok(Wait::Interrupted) => {
                    if taken == 0 {
                        *error = Some(Error::new(libc::EINTR, "a signal came: poll again"));
                    }
                    break;
                }
                Err(refused) => {
                    *error = Some(refused);
                    break;
                }
            }
        }
        let taken = polling.end();
        shared.count_taken(taken);
        self.after_poll();
        taken
    }

    /// Whether all requests but `taken` were taken, so that a wait would never end.
    fn is_idle(&self, taken: u32) -> bool {
        self.shared.in_flight() == taken
    }

    /// Hands out what is ready, as far as there are places.
    #[inline]
    fn take_ready(&mut self) {
        while !self.ready.is_empty() {
            let left = self.shared.straight().places.left() > 0;
            let Some(index) = left.then(|| self.ready.pop()).flatten() else {
                break;
            };
            self.take(index);
        }
    }

    fn after_poll(&mut self) {
        // Counted out first, then the look at the handles; see `is_current`.
        compiler_fence(Ordering::SeqCst);
        if self.shared.straight().looked.get() != changes() {
            self.look_for_closed();
        }
        self.settle_bell();
    }
}

fn deadline_of(now: u64, timeout_ns: i64) -> u64 {
    u64::try_from(timeout_ns).map_or(u64::MAX, |timeout| now.saturating_add(timeout))
}
