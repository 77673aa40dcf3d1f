//! The ends of straight requests: at once to the caller's places, or later, or as
//! the ends of ordinary requests.

use super::cell::CommandCell;
use super::devices::{Device, changes};
use super::host_queue::HostQueue;
use super::queue::Queue;
use super::shared::{QueueShared, Stats, add};
use super::slot::Stage;
use super::way::Way;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use xcopy_abi::*;

impl HostQueue {
    /// Ends commands on the owner's thread. Those that went the straight way and
    /// ended well have their completion at once, if a poll has a place for it.
    ///
    /// # Safety
    /// The owner's thread; `results` points to `n` results.
    #[inline(always)]
    pub unsafe fn complete_local(&self, results: *const xcopy_result, n: u32) {
        let shared = &*self.shared;
        let places = &shared.straight().places;
        let mut at = places.next();
        // SAFETY: the caller's array; as many places as results are left.
        unsafe {
            if n > places.left() {
                return self.complete_mixed(std::slice::from_raw_parts(results, n as usize));
            }
            let (mut result, mut left) = (results, n);
            while left != 0 {
                if !self.land_well(shared, &*result, at) {
                    return self.complete_rest(result, left, n - left);
                }
                result = result.add(1);
                at = at.add(1);
                left -= 1;
            }
        }
        places.fill(at, places.left() - n);
        self.landed(n);
    }

    /// The same for `n` results that begin with one of another kind, after `done`
    /// whose places were filled.
    ///
    /// # Safety
    /// As for `complete_local`.
    #[cold]
    #[inline(never)]
    unsafe fn complete_rest(&self, other: *const xcopy_result, n: u32, done: u32) {
        let places = &self.shared.straight().places;
        // SAFETY: the caller's word.
        unsafe {
            places.fill(places.next().add(done as usize), places.left() - done);
            self.landed(done);
            self.complete_mixed(std::slice::from_raw_parts(other, n as usize));
        }
    }

    /// The same for results of all kinds, or more than there are places.
    #[cold]
    #[inline(never)]
    fn complete_mixed(&self, results: &[xcopy_result]) {
        let places = &self.shared.straight().places;
        for result in results {
            let (at, left) = (places.next(), places.left());
            // SAFETY: a place is left.
            unsafe {
                if left != 0 && self.land_well(&self.shared, result, at) {
                    places.fill(at.add(1), left - 1);
                    self.landed(1);
                } else {
                    self.shared.complete_on_owner(self.plugin, result);
                }
            }
        }
    }

    /// Writes the completion of a command that went the straight way and ended well,
    /// and frees it; false, and nothing is done, if it is none.
    ///
    /// # Safety
    /// The owner's thread; `at` can be written.
    #[inline(always)]
    unsafe fn land_well(
        &self,
        shared: &QueueShared,
        result: &xcopy_result,
        at: *mut xcopy_completion,
    ) -> bool {
        let cookie = result.cookie;
        let Some(cell) = shared.cells.get(cookie as u32 as usize) else {
            return false;
        };
        // SAFETY: cells point to ways of this queue, which live as long.
        let way = unsafe { &*cell.way() };
        if !cell.is(cookie)
            || !std::ptr::eq(way.host, self)
            || (result.status | result.flags as i32) != 0
        {
            return false;
        }
        // SAFETY: its way has a plugin queue, and so is a straight one.
        let total = unsafe { cell.total() };
        if result.bytes != total {
            return false;
        }
        cell.land_flying(cookie);
        // SAFETY: the cell was a twin; the caller's word on the place.
        unsafe { finish(&shared.stats, way, cell, total, at) };
        self.put_twin(cell);
        true
    }
}

/// Writes the completion of a straight command that landed, all of its bytes
/// copied, counts them, and closes its request.
///
/// # Safety
/// The cell was a twin before, and `at` can be written.
#[inline(always)]
unsafe fn finish(
    stats: &Stats,
    way: &Way,
    cell: &CommandCell,
    total: u64,
    at: *mut xcopy_completion,
) {
    // SAFETY: the caller's word.
    let face = unsafe { &*cell.face.get() };
    let user_data = face.user_data.load(Ordering::Relaxed);
    // SAFETY: the caller's word.
    let offloaded = unsafe { way.complete(at, user_data, total) };
    add(&stats.bytes_copied, total);
    add(&stats.bytes_offloaded, offloaded);
    face.close();
}

impl Queue {
    /// A straight command ended and was not looked at; false if it has to go on
    /// by the other way.
    #[inline(always)]
    pub(super) fn end_straight(&mut self, cell: &CommandCell) -> bool {
        // SAFETY: it is on the straight way.
        let total = unsafe { cell.total() };
        if !cell.ended_well(total) {
            self.fill_slot(cell);
            return false;
        }
        cell.land();
        let straight = self.shared.straight();
        // SAFETY: the command has a way, which has its plugin queue.
        let (way, host) = unsafe { (&*cell.way(), &*(*cell.way()).host) };
        host.landed(1);
        let (at, left) = (straight.places.next(), straight.places.left());
        if !self.ready.is_empty() || left == 0 {
            self.park(cell);
            return true;
        }
        // SAFETY: the cell was a twin, and a place is left.
        unsafe {
            finish(&self.shared.stats, way, cell, total, at);
            straight.places.fill(at.add(1), left - 1);
        }
        host.put_twin(cell);
        true
    }

    /// Keeps a straight request that ended well until its completion is taken.
    fn park(&mut self, cell: &CommandCell) {
        let at = self.fill_slot(cell);
        let slot = &mut self.slots[at as usize];
        slot.in_flight = 0;
        slot.stage = Stage::Ready;
        slot.straight = true;
        let (bytes, offloads) = (slot.total, slot.method_offloads);
        if let Some(method) = self.pairs[slot.pair as usize].methods.first_mut() {
            method.in_flight = method.in_flight.saturating_sub(1);
        }
        let offloaded = if offloads { bytes } else { 0 };
        let face = &self.shared.faces[at as usize];
        face.copied.store(bytes, Ordering::Relaxed);
        face.offloaded.store(offloaded, Ordering::Relaxed);
        add(&self.shared.stats.bytes_copied, bytes);
        add(&self.shared.stats.bytes_offloaded, offloaded);
        self.free_cells.push(cell.index());
        self.ready.push(at);
    }

    /// Writes what the slot of a straight command holds of any other request, and
    /// lets the command be an ordinary one; the slot's index. What a free slot
    /// holds already (`Slot::rest`) is not written again.
    pub(super) fn fill_slot(&mut self, cell: &CommandCell) -> u32 {
        let straight = self.shared.straight();
        // SAFETY: ways live as long as the queue; this call changes none.
        let way = unsafe { &*cell.way() };
        cell.set_way(straight.off());
        straight.count_other();
        let index = cell.slot.get();
        // SAFETY: it was on the straight way.
        let total = unsafe { cell.total() };
        // Counted with its pair first; see `device_in_flight`.
        let count = &self.pairs[way.pair as usize].count.in_flight;
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.shared.faces[index as usize].set_counted();
        let slot = &mut self.slots[index as usize];
        // SAFETY: the plugin may read the range, nobody writes it.
        slot.range = unsafe { *cell.range.get() };
        slot.flags = cell.choice.get() as u32;
        slot.methods = (cell.choice.get() >> 32) as u32;
        slot.total = total;
        slot.pair = way.pair;
        slot.stage = Stage::Run;
        slot.in_flight = 1;
        slot.method = way.stamp().method;
        slot.reason = way.stamp().reason;
        slot.method_offloads = way.offloads();
        slot.cursor.position = total;
        slot.untouched = total;
        if let Some(method) = self.pairs[way.pair as usize].methods.first_mut() {
            method.in_flight += 1;
        }
        index
    }

    /// Fills the slots of all straight requests under way, or of those of a pair.
    #[cold]
    pub(super) fn fill_slots(&mut self, pair: Option<u32>) {
        let shared = self.shared.clone();
        for cell in &shared.cells {
            if shared.straight().has(cell) && cell.is_used() {
                // SAFETY: ways live as long as the queue.
                let of = unsafe { (*cell.way()).pair };
                if pair.is_none_or(|pair| pair == of) {
                    self.fill_slot(cell);
                }
            }
        }
    }

    /// Lets go of closed devices that no request uses any more. Straight requests
    /// of others go on the other way, whose end looks for itself.
    #[cold]
    pub(super) fn look_for_closed(&mut self) {
        // Before the devices: a change in between is seen the next time.
        self.shared.straight().looked.set(changes());
        let mut closed: Vec<Arc<Device>> = Vec::new();
        for index in 0..self.pairs.len() {
            let pair = &self.pairs[index];
            let devices = [&pair.src, &pair.dst].into_iter().flatten();
            let dead: Vec<_> = devices.filter(|device| device.is_dead()).cloned().collect();
            if dead.is_empty() {
                continue;
            }
            self.revoke(index as u32);
            if self.is_in_use(index as u32) {
                continue;
            }
            for device in dead {
                if !closed.iter().any(|known| Arc::ptr_eq(known, &device)) {
                    closed.push(device);
                }
            }
        }
        for device in closed {
            self.on_closed(&device);
        }
    }
}
