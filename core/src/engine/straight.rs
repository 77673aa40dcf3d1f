//! The straight way: requests that one command of a polled plugin can do, from
//! submit to completion without the machinery for splits, fall-backs, deadlines.
//!
//! Such a request reserves a slot but leaves it empty: its cell's ticket, and the
//! face that other threads see, are all there is of it. Whatever else than its
//! good end happens to it fills the slot first (`fill_slot`), and it goes on as
//! any other. A way that is revoked has no request left on it.

use super::cell::{CommandCell, Errand, NO_WAY, Purpose, Ticket};
use super::devices::{Device, changes};
use super::pairs::PairIndex;
use super::plugin_queue::PluginQueue;
use super::queue::{Places, Queue};
use super::ring::{known, known_mut};
use super::shared::{QueueShared, add};
use super::slot::Stage;
use super::way::{NEVER, Way};
use crate::plan::Cursor;
use std::sync::Arc;
use std::sync::atomic::{Ordering, compiler_fence};
use xcopy_abi::*;

/// What the straight ways of one queue have in common.
pub struct Straight {
    /// The way of each pair.
    pub(super) ways: Vec<Way>,
    /// Free cells that have a free slot with them, as tickets say.
    pub(super) twins: Vec<u32>,
    /// Where completions go; none outside of a poll.
    pub(super) places: Places,
    /// Bytes of requests that ended and are not in the counters yet.
    copied: u64,
    offloaded: u64,
    /// A pair became idle, and one of its devices may have been closed.
    look: bool,
}

impl Straight {
    /// No way yet.
    pub fn new(window: u32) -> Straight {
        Straight {
            ways: Vec::new(),
            twins: Vec::with_capacity(window as usize),
            places: Places::none(),
            copied: 0,
            offloaded: 0,
            look: false,
        }
    }

    fn way(&mut self, pair: u32) -> &mut Way {
        &mut self.ways[pair as usize]
    }

    /// Ends a command if it went the straight way, did all, and there is a place
    /// for its completion; otherwise changes nothing.
    #[inline(always)]
    pub fn end_at_once(
        &mut self,
        shared: &QueueShared,
        plugin: u32,
        result: &xcopy_result,
    ) -> bool {
        let index = result.cookie as u32;
        let Some(cell) = shared.cells.get(index as usize) else {
            return false;
        };
        // SAFETY: only the owner's thread, which this is, touches tickets.
        let ticket = unsafe { *cell.ticket() };
        if !cell.is(result.cookie)
            || u32::from(ticket.plugin) != plugin
            || (result.status | result.flags as i32) != 0
            || result.bytes != ticket.total
            || !self.places.left()
        {
            return false;
        }
        cell.land_flying(result.cookie);
        self.finish(shared, index, ticket);
        true
    }

    /// Hands out the completion of a straight command that landed, all of its
    /// bytes copied, and gives its places back. A place for it is left.
    #[inline(always)]
    fn finish(&mut self, shared: &QueueShared, index: u32, ticket: Ticket) {
        // SAFETY: tickets hold indices of slots and pairs only; neither list ever
        // shrinks.
        let (face, way) = unsafe {
            (
                known(&shared.faces, u32::from(ticket.slot)),
                known(&self.ways, ticket.pair),
            )
        };
        let completion = way.completion(face.user_data.load(Ordering::Relaxed), ticket.total);
        self.copied += ticket.total;
        self.offloaded += completion.bytes_offloaded;
        self.places.put(completion);
        let count = &way.count.in_flight;
        let left = count.load(Ordering::Relaxed) - 1;
        count.store(left, Ordering::Relaxed);
        face.close();
        compiler_fence(Ordering::SeqCst);
        self.look |= left == 0 && changes() != way.epoch;
        put(&mut self.twins, index);
    }
}

/// Adds to a list with room for all cells, a cell that is not in it.
#[inline(always)]
fn put(list: &mut Vec<u32>, index: u32) {
    if list.len() < list.capacity() {
        list.push(index);
    }
}

impl Queue {
    /// Takes requests up to the first that needs the other way; how many.
    ///
    /// # Safety
    /// `requests` points to `n` requests, `stride` bytes apart, aligned to 8.
    #[inline(always)]
    pub(super) unsafe fn submit_straight(
        &mut self,
        requests: *const u8,
        stride: usize,
        n: u32,
    ) -> u32 {
        let shared: *const QueueShared = Arc::as_ptr(&self.shared);
        // SAFETY: `self` keeps it alive, and nothing below replaces it.
        let shared = unsafe { &*shared };
        let straight = shared.straight();
        let mut at = requests;
        let mut pair = self.last;
        let mut taken = 0;
        // SAFETY: the owner's place, here only borrowed for the test.
        if unsafe { (*straight).ways.is_empty() } {
            return 0;
        }
        while taken < n {
            // SAFETY: the caller's array; requests are plain data.
            let request = unsafe { &*at.cast::<xcopy_request>() };
            let word = PairIndex::word(request.src, request.dst);
            // SAFETY: the owner's, and not borrowed otherwise until the next turn,
            // but for the cold calls, after which it is not used again.
            let room = unsafe { &mut *straight };
            // SAFETY: `last` and `PairIndex` hold indices of pairs, which have a
            // way each.
            let mut way = unsafe { known(&room.ways, pair) };
            if way.word != word {
                let Some(found) = self.index.find(word) else {
                    break;
                };
                pair = found;
                // SAFETY: as above.
                way = unsafe { known(&room.ways, pair) };
            }
            if !way.takes(request) {
                if self.look_again(pair) {
                    continue;
                }
                break;
            }
            // Count first, then look at the handles; see `barrier_all_threads`.
            let count = &way.count.in_flight;
            let counted = count.load(Ordering::Relaxed);
            count.store(counted + 1, Ordering::Relaxed);
            compiler_fence(Ordering::SeqCst);
            if changes() != way.epoch {
                count.store(counted, Ordering::Relaxed);
                if self.look_again(pair) {
                    continue;
                }
                break;
            }
            let Some(index) = room.twins.pop() else {
                count.store(counted, Ordering::Relaxed);
                if self.join_twins() {
                    continue;
                }
                break;
            };
            // SAFETY: twins are cells, and a way names a plugin queue; neither
            // list ever shrinks.
            let (cell, plugin) = unsafe {
                (
                    known(&shared.cells, index),
                    known_mut(&mut self.plugins, u32::from(way.plugin)),
                )
            };
            launch(shared, cell, index, way, pair, request, plugin);
            at = at.wrapping_add(stride);
            taken += 1;
        }
        self.last = pair;
        self.flying += taken;
        add(&self.shared.stats.commands, u64::from(taken));
        taken
    }

    /// Compares a way with its devices if anything changed since it was; whether
    /// it is a way, and a newer one than before.
    #[cold]
    fn look_again(&mut self, index: u32) -> bool {
        // Before the devices: a change in between is seen the next time.
        let epoch = changes();
        let pair = &self.pairs[index as usize];
        // SAFETY: the owner's, borrowed for this call, which calls nobody.
        let way = unsafe { (*self.shared.straight()).way(index) };
        let (Some(src), Some(dst)) = (&pair.src, &pair.dst) else {
            return false;
        };
        if way.epoch == NEVER || way.epoch == epoch || pair.states != (src.state(), dst.state()) {
            return false;
        }
        // Anew, because the sizes may have been what bounded the old one.
        let window = self.options.window;
        let Some(fresh) = Way::of(
            pair,
            &self.plugins,
            self.context.allowed(),
            self.known,
            window,
        ) else {
            return false;
        };
        *way = fresh;
        way.src_size = src.size.load(Ordering::Acquire);
        way.dst_size = dst.size.load(Ordering::Acquire);
        way.max_bytes = way.max_bytes.min(way.src_size).min(way.dst_size);
        way.epoch = epoch;
        true
    }

    /// Puts a free cell and a free slot together; false if there are none.
    #[cold]
    fn join_twins(&mut self) -> bool {
        if self.free_slots.is_empty() || self.free_cells.is_empty() {
            return false;
        }
        let (Some(slot), Some(index)) = (self.free_slots.pop(), self.free_cells.pop()) else {
            return false;
        };
        let cell = &self.shared.cells[index as usize];
        cell.errand.set(Errand {
            slot,
            plugin: super::cell::NO_PLUGIN,
            method: 0,
            purpose: Purpose::Method,
            ranges: 1,
            start: Cursor::default(),
        });
        // SAFETY: a free cell and the owner's thread, which holds no reference to
        // the straight way here.
        unsafe {
            *cell.ticket() = Ticket {
                total: 0,
                pair: 0,
                slot: slot as u16,
                plugin: NO_WAY,
            };
            put(&mut (*self.shared.straight()).twins, index);
        }
        true
    }

    /// Gives the other way the free cells and slots of this one.
    #[inline]
    pub(super) fn part_twins(&mut self) {
        // SAFETY: the owner's, borrowed for this call, which calls nobody.
        let twins = unsafe { &mut (*self.shared.straight()).twins };
        for index in twins.drain(..) {
            let slot = self.shared.cells[index as usize].errand().slot;
            self.free_slots.push(slot);
            self.free_cells.push(index);
        }
    }

    /// Slots that are free together with a cell.
    pub(super) fn twins(&self) -> usize {
        // SAFETY: as above.
        unsafe { (*self.shared.straight()).twins.len() }
    }

    /// A straight command ended and was not looked at; false if it has to go on
    /// by the other way.
    #[inline(always)]
    pub(super) fn end_straight(&mut self, index: u32, cell: &CommandCell) -> bool {
        // SAFETY: only the owner's thread touches tickets.
        let ticket = unsafe { *cell.ticket() };
        if !cell.ended_well(ticket.total) {
            self.fill_slot(cell);
            return false;
        }
        cell.land();
        self.flying -= 1;
        // SAFETY: a ticket names a plugin queue; their list never shrinks.
        unsafe { known_mut(&mut self.plugins, u32::from(ticket.plugin)) }.flying -= 1;
        let shared = &*self.shared;
        // SAFETY: the owner's, borrowed for this call, which calls nobody.
        let straight = unsafe { &mut *shared.straight() };
        if self.ready.is_empty() && straight.places.left() {
            straight.finish(shared, index, ticket);
        } else {
            self.park(index, cell);
        }
        true
    }

    /// Keeps a straight request that ended well until its completion is taken.
    fn park(&mut self, index: u32, cell: &CommandCell) {
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
        self.free_cells.push(index);
        self.ready.push(at);
    }

    /// Writes what the slot of a straight command holds of any other request, and
    /// lets the command be an ordinary one; the slot's index. What a free slot
    /// holds already (`Slot::rest`) is not written again.
    pub(super) fn fill_slot(&mut self, cell: &CommandCell) -> u32 {
        // SAFETY: only the owner's thread touches tickets.
        let ticket = unsafe { *cell.ticket() };
        cell.turn_off();
        let index = u32::from(ticket.slot);
        let slot = &mut self.slots[index as usize];
        // SAFETY: the owner's, borrowed for this call, which calls nobody.
        let way = unsafe { &*(*self.shared.straight()).way(ticket.pair) };
        // SAFETY: the plugin may read the range, nobody writes it.
        slot.range = unsafe { *cell.range.get() };
        (slot.flags, slot.methods) = cell.request.get();
        slot.total = ticket.total;
        slot.pair = ticket.pair;
        slot.stage = Stage::Run;
        slot.in_flight = 1;
        slot.method = way.stamp.1;
        slot.reason = way.stamp.2;
        slot.method_offloads = way.outcome == XCOPY_CPL_OFFLOADED;
        slot.cursor.position = ticket.total;
        slot.untouched = ticket.total;
        if let Some(method) = self.pairs[ticket.pair as usize].methods.first_mut() {
            method.in_flight += 1;
        }
        index
    }

    /// Fills the slots of all straight requests under way, or of those of a pair.
    #[cold]
    pub(super) fn fill_slots(&mut self, pair: Option<u32>) {
        let shared = self.shared.clone();
        for cell in &shared.cells {
            // SAFETY: only the owner's thread touches tickets.
            let ticket = unsafe { *cell.ticket() };
            let wanted = pair.is_none_or(|pair| pair == ticket.pair);
            if wanted && cell.is_straight() && cell.is_used() {
                self.fill_slot(cell);
            }
        }
    }

    /// Ends the straight way of a pair: nothing is on it afterwards.
    pub(super) fn revoke(&mut self, pair: u32) {
        // SAFETY: the owner's, borrowed for this statement.
        let epoch = unsafe { &mut (*self.shared.straight()).way(pair).epoch };
        if std::mem::replace(epoch, NEVER) != NEVER {
            self.fill_slots(Some(pair));
        }
    }

    /// Forgets the pair's handles too.
    pub(super) fn forget_way(&mut self, pair: u32) {
        self.revoke(pair);
        // SAFETY: the owner's, borrowed for this statement.
        unsafe { (*self.shared.straight()).way(pair).word = 0 };
    }

    /// Finds the straight way of a pair that was bound, or has learnt something.
    pub(super) fn find_way(&mut self, index: u32) {
        let pair = &self.pairs[index as usize];
        let window = self.options.window;
        match Way::of(
            pair,
            &self.plugins,
            self.context.allowed(),
            self.known,
            window,
        ) {
            // SAFETY: the owner's, borrowed for this statement. Requests that are
            // on the old way are of the same method.
            Some(way) => unsafe { *(*self.shared.straight()).way(index) = way },
            None => self.revoke(index),
        }
    }

    /// Gives a new pair a place for its way.
    pub(super) fn add_way(&mut self, index: u32) {
        let pair = &self.pairs[index as usize];
        let way = Way::none(PairIndex::word(pair.key.0, pair.key.1), pair.count.clone());
        // SAFETY: the owner's, borrowed for this call, which calls nobody.
        let ways = unsafe { &mut (*self.shared.straight()).ways };
        match ways.get_mut(index as usize) {
            Some(place) => *place = way,
            None => ways.push(way),
        }
    }

    /// Takes over what straight ends left behind for the end of a poll.
    #[inline]
    pub(super) fn count_straight(&mut self) {
        // SAFETY: the owner's, borrowed until the cold call.
        let straight = unsafe { &mut *self.shared.straight() };
        let stats = &self.shared.stats;
        add(&stats.bytes_copied, std::mem::take(&mut straight.copied));
        add(
            &stats.bytes_offloaded,
            std::mem::take(&mut straight.offloaded),
        );
        if std::mem::take(&mut straight.look) {
            self.look_for_closed();
        }
    }

    /// Lets go of closed devices that no request uses any more.
    #[cold]
    fn look_for_closed(&mut self) {
        let mut closed: Vec<Arc<Device>> = Vec::new();
        for pair in &self.pairs {
            if pair.count.in_flight.load(Ordering::Relaxed) == 0 {
                let devices = [&pair.src, &pair.dst].into_iter().flatten();
                for device in devices.filter(|device| device.is_dead()) {
                    if !closed.iter().any(|known| Arc::ptr_eq(known, device)) {
                        closed.push(device.clone());
                    }
                }
            }
        }
        for device in closed {
            self.on_closed(&device);
        }
    }
}

/// Writes a command, with what others see of its request, and stages it.
#[inline(always)]
fn launch(
    shared: &QueueShared,
    cell: &CommandCell,
    index: u32,
    way: &Way,
    pair: u32,
    request: &xcopy_request,
    plugin: &mut PluginQueue,
) {
    // SAFETY: the cell was free, so only this thread touches it.
    let ticket = unsafe { &mut *cell.ticket() };
    if ticket.plugin != way.plugin {
        form(cell, u32::from(way.plugin), plugin.private_of(index));
        ticket.plugin = way.plugin;
    }
    let length = request.length;
    ticket.total = length;
    ticket.pair = pair;
    cell.request.set((request.flags, request.methods));
    // SAFETY: a twin's ticket holds the index of a slot.
    let face = unsafe { known(&shared.faces, u32::from(ticket.slot)) };
    face.open(request.user_data, way.word, length);
    let cookie = cell.launch();
    let (range, command) = (cell.range.get(), cell.cmd.get());
    // SAFETY: as above. Number by number: a struct just written in pieces is slow
    // to copy whole.
    unsafe {
        (*range).src_offset = request.src_offset;
        (*range).dst_offset = request.dst_offset;
        (*range).length = length;
        (*command).cookie = cookie;
        // Once more: a plugin may have used the last ones up.
        (*command).op = way.order as u16;
        (*command).method = (way.order >> 16) as u16;
        // NO_FALLBACK is bit 0, OFFLOAD_ONLY is bit 3; so is a method not named.
        (*command).flags = request.flags >> 3 & XCOPY_CMD_SET_HOST_BEHAVIOR
            | (request.flags | u32::from(request.methods == 0)) << 3 & XCOPY_CMD_OFFLOAD_ONLY;
        (*command).src = way.src;
        (*command).dst = way.dst;
        (*command).ranges = range;
        (*command).nranges = 1;
        (*command).bytes = length;
    }
    plugin.flying += 1;
    plugin.stage(command);
}

/// Gives a cell what all straight commands of a plugin have in common, so that
/// the next one that uses it need not.
#[cold]
fn form(cell: &CommandCell, plugin: u32, private_data: *mut core::ffi::c_void) {
    let errand = cell.errand.get();
    cell.errand.set(Errand { plugin, ..errand });
    // SAFETY: the cell is free, so only this thread, its owner's, touches it.
    unsafe {
        *cell.cmd.get() = xcopy_cmd {
            private_data,
            ..CommandCell::no_command()
        };
    }
}
