//! The straight way: requests that one command of a polled plugin can do, from
//! submit to completion without the machinery for splits, fall-backs, deadlines.
//!
//! Such a request reserves a slot but leaves it empty: its cell, and the face that
//! other threads see, are all there is of it. A cell and a slot that are free for
//! such a request are twins. Whatever else than its good end (`landing`) happens
//! to it fills the slot first (`fill_slot`), and it goes on as any other. A way
//! that is revoked has no request left on it.

use super::cell::CommandCell;
use super::devices::changes;
use super::host_queue::HostQueue;
use super::pairs::PairIndex;
use super::places::Places;
use super::queue::Queue;
use super::shared::QueueShared;
use super::way::{NEVER, Way, Wish};
use std::cell::{Cell, UnsafeCell};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use xcopy_abi::*;

/// Sets of ways used lately, of two places each.
const LATELY: usize = 512;

/// Bit of `Straight.other`: something waits for a free command.
pub(super) const OWED: u32 = 1 << 29;
/// Bit of `Straight.other`: a command ended on the owner's thread and was not
/// looked at.
pub(super) const ENDED: u32 = 1 << 30;
/// Bit of `Straight.other`: the bell is armed.
pub(super) const ARMED: u32 = 1 << 31;

/// What the straight ways of one queue have in common; the owner's.
pub struct Straight {
    /// Where completions go; none outside of a poll.
    pub(super) places: Places,
    /// How many requests are not on the straight way, with OWED, ENDED and ARMED. While it
    /// is 0 nothing but straight requests is under way and nothing is ready, so that
    /// submit and poll are short.
    pub(super) other: Cell<u32>,
    /// `devices::changes` when closed devices were last looked for.
    pub(super) looked: Cell<u64>,
    /// How often the bell was rung when it was last silenced.
    pub(super) rung: Cell<u64>,
    /// The first of the plugin queues, which leads to the others, or NULL. None goes
    /// before the queue does.
    hosts: Cell<*const HostQueue>,
    /// The way used last: a first guess that waits for no hash.
    last: Cell<*const Way>,
    /// The plugin queue used last, of those above: also a guess, as commands of all
    /// ways are made of free ones that do not wait to know which way it is.
    last_host: Cell<*const HostQueue>,
    /// Ways used lately, by a hash of their handles.
    lately: [[Cell<*const Way>; 2]; LATELY],
    /// The way of each pair, at an address for the life of the queue.
    ways: UnsafeCell<Vec<*mut Way>>,
    /// The way of commands and pairs that have none.
    off: *mut Way,
}

impl Straight {
    /// No way yet.
    pub fn new() -> Straight {
        let off = Box::into_raw(Box::new(Way::none(u32::MAX, 0)));
        let place = || Cell::new(off.cast_const());
        Straight {
            places: Places::none(),
            other: Cell::new(0),
            looked: Cell::new(0),
            rung: Cell::new(0),
            hosts: Cell::new(std::ptr::null()),
            last: place(),
            last_host: Cell::new(std::ptr::null()),
            lately: std::array::from_fn(|_| [place(), place()]),
            ways: UnsafeCell::default(),
            off,
        }
    }

    /// The way of commands that are on none.
    pub fn off(&self) -> *const Way {
        self.off
    }

    /// Whether a command goes, or went, the straight way.
    #[inline(always)]
    pub(super) fn has(&self, cell: &CommandCell) -> bool {
        !std::ptr::eq(cell.way(), self.off)
    }

    /// The way of a pair.
    pub(super) fn way(&self, pair: u32) -> *mut Way {
        // SAFETY: the owner's, borrowed for this call, which calls nobody.
        let ways = unsafe { &*self.ways.get() };
        ways.get(pair as usize).copied().unwrap_or(self.off)
    }

    /// Adds a plugin queue, to be polled and given commands.
    ///
    /// # Safety
    /// `host` outlives the queue's use, and was not added before.
    pub(super) unsafe fn add_host(&self, host: &HostQueue) {
        host.owned.next.set(self.hosts.replace(host));
        self.last_host.set(host);
    }

    /// Forgets all plugin queues, which are about to go.
    pub(super) fn forget_hosts(&self) {
        self.hosts.set(std::ptr::null());
        self.last_host.set(std::ptr::null());
    }

    /// All plugin queues.
    #[inline(always)]
    pub(super) fn hosts(&self) -> Hosts<'_> {
        Hosts(self.hosts.get(), std::marker::PhantomData)
    }

    /// Counts a request in that is not on the straight way.
    #[inline]
    pub(super) fn count_other(&self) {
        self.other.set(self.other.get() + 1);
    }

    /// Counts it out.
    #[inline]
    pub(super) fn uncount_other(&self) {
        self.other.set(self.other.get() - 1);
    }

    /// Sets or clears bits of `other`.
    #[inline]
    pub(super) fn mark(&self, bits: u32, on: bool) {
        let other = self.other.get() & !bits;
        self.other.set(if on { other | bits } else { other });
    }

    #[inline(always)]
    fn set_of(&self, word: u64) -> &[Cell<*const Way>; 2] {
        let hash = word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - LATELY.ilog2());
        &self.lately[hash as usize % LATELY]
    }

    /// The way of a pair of handles, if it was used lately; or any other.
    #[inline(always)]
    fn guess(&self, word: u64) -> &Way {
        let [first, second] = self.set_of(word);
        // SAFETY: both places point to ways, which live as long as `self`.
        let way = unsafe { &*first.get() };
        if way.word == word {
            return way;
        }
        // SAFETY: as above.
        unsafe { &*second.get() }
    }

    fn remember(&self, way: &Way) {
        let [first, second] = self.set_of(way.word);
        if !std::ptr::eq(first.get(), way) {
            second.set(first.replace(way));
        }
    }

    /// Takes requests up to the first that needs more than this; how many. The
    /// plugins do not have them yet.
    ///
    /// # Safety
    /// The owner's thread, outside of any other call of `Straight`; `requests` points
    /// to `n` requests.
    #[inline(always)]
    pub unsafe fn submit(&self, requests: *const xcopy_request, n: u32) -> u32 {
        // SAFETY: the caller's word.
        unsafe {
            let plain = self.submit_by(requests, n, |way, request, offsets| {
                way.takes_plain(request, offsets).then_some(None)
            });
            if plain == n {
                return n;
            }
            plain + self.submit_odd(requests.add(plain as usize), n - plain)
        }
    }

    /// The same where the first is none that asks for nothing.
    ///
    /// # Safety
    /// As for `submit`.
    #[cold]
    #[inline(never)]
    unsafe fn submit_odd(&self, requests: *const xcopy_request, n: u32) -> u32 {
        // SAFETY: the caller's word.
        unsafe { self.submit_by(requests, n, |way, request, _| way.takes(request).map(Some)) }
    }

    /// The same for requests that `takes` says yes to, with what they ask for.
    ///
    /// # Safety
    /// As for `submit`.
    #[inline(always)]
    unsafe fn submit_by(
        &self,
        requests: *const xcopy_request,
        n: u32,
        takes: impl Fn(&Way, &xcopy_request, Offsets) -> Option<Option<Wish>>,
    ) -> u32 {
        let (mut at, mut left) = (requests, n);
        // SAFETY: a way, which lives as long as `self`.
        let mut way = unsafe { &*self.last.get() };
        let mut host = self.last_host.get();
        while left != 0 {
            // SAFETY: the caller's array; requests are plain data.
            let request = unsafe { &*at };
            let word = handles_of(request);
            let offsets = offsets_of(request);
            if way.word != word {
                way = self.guess(word);
                if way.word != word {
                    break;
                }
            }
            let Some(wish) = takes(way, request, offsets) else {
                break;
            };
            // SAFETY: a way that takes requests has its plugin queue, which was added,
            // so that there is a last one.
            let there = unsafe {
                if (*host).owned.plugin != way.plugin {
                    host = way.host;
                }
                &*host
            };
            // SAFETY: the owner's list of cells of this queue.
            let Some(twin) = (unsafe { there.twin().as_ref() }) else {
                break;
            };
            if !launch(way, there, twin, request, (word, offsets), wish) {
                break;
            }
            // SAFETY: not past the end.
            at = unsafe { at.add(1) };
            left -= 1;
        }
        self.last_host.set(host);
        self.last.set(way);
        n - left
    }

    /// Offers staged commands to the plugins.
    #[inline(always)]
    pub(super) fn flush(&self) {
        let mut hosts = self.hosts();
        while let Some(host) = hosts.here() {
            host.flush();
            hosts.go_on(host);
        }
    }
}

/// Goes through the plugin queues of a queue.
pub(super) struct Hosts<'a>(*const HostQueue, std::marker::PhantomData<&'a HostQueue>);

impl<'a> Hosts<'a> {
    /// The one to look at.
    #[inline(always)]
    pub(super) fn here(&self) -> Option<&'a HostQueue> {
        // SAFETY: NULL, or a plugin queue that lives as `add_host` asks.
        unsafe { self.0.as_ref() }
    }

    /// Goes on from there, which does not have to be remembered while it is called.
    #[inline(always)]
    pub(super) fn go_on(&mut self, from: &'a HostQueue) {
        self.0 = from.owned.next.get();
    }
}

impl<'a> Iterator for Hosts<'a> {
    type Item = &'a HostQueue;

    fn next(&mut self) -> Option<&'a HostQueue> {
        let host = self.here()?;
        self.go_on(host);
        Some(host)
    }
}

impl Drop for Straight {
    fn drop(&mut self) {
        for way in self.ways.get_mut().drain(..).chain([self.off]) {
            // SAFETY: made by `Box::into_raw`, and dropped here alone.
            drop(unsafe { Box::from_raw(way) });
        }
    }
}

/// Both handles of a request, as in `PairIndex`. Two loads, as the caller just
/// wrote them by two stores: one load of both would wait for these to leave the
/// processor's store buffer. So below.
#[inline(always)]
fn handles_of(request: &xcopy_request) -> u64 {
    let (src, dst) = (&raw const request.src, &raw const request.dst);
    // SAFETY: fields of a request.
    unsafe { PairIndex::word(src.read_volatile(), dst.read_volatile()) }
}

/// Offsets in source and destination.
type Offsets = (u64, u64);

/// Those of a request.
#[inline(always)]
fn offsets_of(request: &xcopy_request) -> Offsets {
    let (src, dst) = (&raw const request.src_offset, &raw const request.dst_offset);
    // SAFETY: fields of a request.
    unsafe { (src.read_volatile(), dst.read_volatile()) }
}

/// Writes a command, with what others see of its request, and stages it; false, and
/// nothing is under way, if the devices have to be looked at before.
#[inline(always)]
fn launch(
    way: &Way,
    host: &HostQueue,
    cell: &CommandCell,
    request: &xcopy_request,
    (word, offsets): (u64, Offsets),
    wish: Option<Wish>,
) -> bool {
    let length = request.length;
    // SAFETY: a twin has a face of the same queue.
    let face = unsafe { &*cell.face.get() };
    face.open(request.user_data, word, length);
    if !way.is_current() {
        face.close();
        return false;
    }
    host.take_twin(cell);
    cell.set_way(way);
    cell.choice.set(wish.map_or(0, |wish| wish.choice));
    let cookie = cell.launch();
    let (range, command) = (cell.range.get(), cell.cmd.get());
    // SAFETY: the cell was free, so only this thread touches it.
    unsafe {
        (*range).src_offset = offsets.0;
        (*range).dst_offset = offsets.1;
        (*range).length = length;
        (*command).cookie = cookie;
        // All that is looked at: a plugin may have used up what was here.
        way.order(command);
        if let Some(wish) = wish {
            (*command).flags = wish.order;
        }
        (*command).ranges = range;
        (*command).nranges = 1;
        (*command).bytes = length;
    }
    host.stage(command);
    true
}

impl Queue {
    /// Sends a request the straight way that was not taken at first sight; false if
    /// it has to go the other way.
    #[cold]
    pub(super) fn submit_renewed(&mut self, request: &xcopy_request) -> bool {
        let word = PairIndex::word(request.src, request.dst);
        let Some(pair) = self.index.get(word) else {
            return false;
        };
        let shared: *const QueueShared = Arc::as_ptr(&self.shared);
        // SAFETY: `self` keeps it alive, and nothing below replaces it.
        let straight = unsafe { &*shared }.straight();
        let way = straight.way(pair);
        // SAFETY: ways live as long as the queue; nobody else looks at this one.
        if unsafe { (*way).epoch } != changes() && !self.look_again(pair) {
            return false;
        }
        // SAFETY: as above; nothing below changes it.
        let way = unsafe { &*way };
        let (wish @ Some(_), true) = (way.takes(request), way.word == word) else {
            return false;
        };
        // SAFETY: a way that takes requests has its plugin queue.
        let host = unsafe { &*way.host };
        if host.twin().is_null() {
            self.join_twins(host);
        }
        // SAFETY: the owner's list of cells of this queue.
        let Some(twin) = (unsafe { host.twin().as_ref() }) else {
            return false;
        };
        let known = (word, offsets_of(request));
        if !launch(way, host, twin, request, known, wish) {
            return false;
        }
        straight.remember(way);
        true
    }

    /// Compares a way with its devices if anything changed since it was; whether
    /// it is a way, and a newer one than before.
    #[cold]
    fn look_again(&mut self, index: u32) -> bool {
        // Before the devices: a change in between is seen the next time.
        let epoch = changes();
        let pair = &self.pairs[index as usize];
        // SAFETY: the owner's, borrowed for this call, which calls nobody.
        let way = unsafe { &mut *self.shared.straight().way(index) };
        let (Some(src), Some(dst)) = (&pair.src, &pair.dst) else {
            return false;
        };
        if way.epoch == NEVER || way.epoch == epoch || pair.states != (src.state(), dst.state()) {
            return false;
        }
        // Anew, because the sizes may have been what bounded the old one.
        let window = self.options.window;
        let allowed = (self.context.allowed(), self.known);
        let Some(fresh) = Way::of(index, pair, &self.plugins, allowed, window) else {
            return false;
        };
        *way = fresh;
        way.src_size = src.size.load(Ordering::Acquire);
        way.dst_size = dst.size.load(Ordering::Acquire);
        way.max_bytes = way.max_bytes.min(way.src_size).min(way.dst_size);
        way.epoch = epoch;
        true
    }

    /// Whether a request of the pair is in flight.
    pub(super) fn is_in_use(&self, pair: u32) -> bool {
        let straight = self.shared.straight();
        // SAFETY: the owner's, borrowed for this statement.
        let revoked = unsafe { (*straight.way(pair)).epoch } == NEVER;
        let on_it = |cell: &CommandCell| {
            // SAFETY: ways live as long as the queue.
            straight.has(cell) && cell.is_used() && unsafe { (*cell.way()).pair } == pair
        };
        let others = &self.pairs[pair as usize].count.in_flight;
        others.load(Ordering::Relaxed) != 0 || (!revoked && self.shared.cells.iter().any(on_it))
    }

    /// Ends the straight way of a pair: nothing is on it afterwards.
    pub(super) fn revoke(&mut self, pair: u32) {
        // SAFETY: the owner's, borrowed for this statement.
        let epoch = unsafe { &mut (*self.shared.straight().way(pair)).epoch };
        if std::mem::replace(epoch, NEVER) != NEVER {
            self.fill_slots(Some(pair));
        }
    }

    /// Forgets the pair's handles too.
    pub(super) fn forget_way(&mut self, pair: u32) {
        self.revoke(pair);
        // SAFETY: the owner's, borrowed for this statement.
        unsafe { (*self.shared.straight().way(pair)).word = 0 };
    }

    /// Finds the straight way of a pair that was bound, or has learnt something.
    pub(super) fn find_way(&mut self, index: u32) {
        let pair = &self.pairs[index as usize];
        let window = self.options.window;
        let allowed = (self.context.allowed(), self.known);
        match Way::of(index, pair, &self.plugins, allowed, window) {
            // SAFETY: the owner's, borrowed for this statement. Requests that are
            // on the old way are of the same method.
            Some(way) => unsafe { *self.shared.straight().way(index) = way },
            None => self.revoke(index),
        }
    }

    /// Gives a new pair, whose index is free or the next, a place for its way.
    pub(super) fn add_way(&mut self, index: u32) {
        let pair = &self.pairs[index as usize];
        let word = PairIndex::word(pair.key.0, pair.key.1);
        let way = Way::none(index, word);
        // SAFETY: the owner's, borrowed for this call, which calls nobody.
        unsafe {
            let ways = &mut *self.shared.straight().ways.get();
            match ways.get(index as usize) {
                Some(&place) => *place = way,
                None => ways.push(Box::into_raw(Box::new(way))),
            }
        }
    }
}
