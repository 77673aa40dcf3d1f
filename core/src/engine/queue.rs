//! A queue's owner side: what it holds, and the calls that its owner makes.
//!
//! submit admits requests (`admit`), binds their pairs (`bind`), dispatches
//! commands (`dispatch`), takes their ends (`settle`), and poll hands out the
//! completions. Nothing here blocks but `poll` with a timeout.

use super::clock::{coarse_ns, precise_ns};
use super::context::Context;
use super::pairs::{AffineDevice, Owed, Pair, PairIndex};
use super::plugin_queue::PluginQueue;
use super::ring::IndexRing;
use super::shared::{Mail, QueueShared, SlotFace, add};
use super::slot::{Slot, Stage};
use crate::error::{Error, Result};
use crate::host::HostRing;
use crate::queue::{Bell, Wait};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use xcopy_abi::*;

/// Requests and commands of one queue at most.
const CAPACITY_MAX: u32 = 65_536;
/// Capacity when none is given.
const CAPACITY: u32 = 256;
/// Commands that a polled plugin is asked to end in one call.
const POLL_BATCH: u32 = 256;
/// Ranges that one poll checks of each long list.
const SCAN_SLICE: u64 = 16_384;

/// The options that a queue has when none are given.
pub fn default_options() -> xcopy_queue_options {
    xcopy_queue_options {
        size: size_of::<xcopy_queue_options>() as u32,
        flags: 0,
        capacity: CAPACITY,
        window: 0,
        depth: 0,
        reserved: 0,
        chunk: 0,
    }
}

/// The owner side of a queue.
pub struct Queue {
    pub(super) context: Arc<Context>,
    pub(super) shared: Arc<QueueShared>,
    pub(super) options: xcopy_queue_options,
    pub(super) bell: Bell,
    pub(super) slots: Box<[Slot]>,
    pub(super) free_slots: Vec<u32>,
    pub(super) free_cells: Vec<u32>,
    pub(super) ready: IndexRing,
    /// Slots with something to dispatch or to settle.
    pub(super) runnable: VecDeque<u32>,
    pub(super) scans: u32,
    pub(super) pairs: Vec<Pair>,
    pub(super) index: PairIndex,
    /// Index of the pair that went the straight way last.
    pub(super) last: u32,
    pub(super) free_pairs: Vec<u32>,
    pub(super) plugins: Vec<PluginQueue>,
    pub(super) affine: Vec<AffineDevice>,
    /// What waits for a free command.
    pub(super) owed: VecDeque<Owed>,
    /// Commands in flight.
    pub(super) flying: u32,
    /// Slots with a deadline or a pause.
    pub(super) timed: u32,
    /// Coarse time of the earliest deadline or end of a pause.
    pub(super) earliest: u64,
    pub(super) epoch: u32,
    /// Methods that there are, as a mask, at that epoch.
    pub(super) known: u32,
    /// Bounce buffers of commands, by command.
    pub(super) buffers: Vec<Option<crate::host::Buffer>>,
    /// A wait just ended: see `advance`.
    slept: bool,
    /// The host's copies without a thread, once a pair has a use for it.
    pub(super) ring: Option<Box<HostRing>>,
    /// There can be no ring.
    pub(super) ring_refused: bool,
    /// Slots that were abandoned and are not settled yet.
    pub(super) abandoned: u32,
}

impl Queue {
    /// A queue with these options, already checked for size.
    pub fn new(context: Arc<Context>, mut options: xcopy_queue_options) -> Result<Queue> {
        if options.flags & !XCOPY_QUEUE_PINNED != 0 || options.reserved != 0 {
            return Err(Error::new(
                libc::EINVAL,
                "unknown queue flags, or reserved is not 0",
            ));
        }
        if options.window == 0 {
            options.window = options.capacity;
        }
        let legal = 1..=CAPACITY_MAX;
        if !legal.contains(&options.capacity) || !legal.contains(&options.window) {
            return Err(Error::new(
                libc::EINVAL,
                "capacity and window are 1 to 65,536 (window 0: the capacity)",
            ));
        }
        let (capacity, window) = (options.capacity, options.window);
        let bell = Bell::new()?;
        let shared = Arc::new(QueueShared::new(capacity, window, bell.ringer()));
        let bytes = u64::from(capacity) * (size_of::<Slot>() + size_of::<SlotFace>()) as u64
            + u64::from(window) * size_of::<super::shared::CommandCell>() as u64;
        add(&shared.stats.memory_bytes, bytes);
        context.add_queue(&shared);
        Ok(Queue {
            epoch: context.epoch.load(Ordering::Acquire),
            known: context.registry.known_methods(),
            context,
            shared,
            options,
            bell,
            slots: (0..capacity).map(|_| Slot::rest()).collect(),
            free_slots: (0..capacity).rev().collect(),
            free_cells: (0..window).rev().collect(),
            ready: IndexRing::new(capacity),
            runnable: VecDeque::with_capacity(capacity as usize),
            scans: 0,
            pairs: Vec::new(),
            index: PairIndex::default(),
            last: 0,
            free_pairs: Vec::new(),
            plugins: Vec::new(),
            affine: Vec::new(),
            owed: VecDeque::new(),
            flying: 0,
            timed: 0,
            earliest: u64::MAX,
            buffers: (0..window).map(|_| None).collect(),
            slept: false,
            ring: None,
            ring_refused: false,
            abandoned: 0,
        })
    }

    /// The context.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// The side that other threads use.
    pub fn shared(&self) -> &Arc<QueueShared> {
        &self.shared
    }

    /// Takes requests up to the first that is refused; how many. `error` says
    /// why the next one was not.
    ///
    /// # Safety
    /// `requests` points to `n` requests, `stride` bytes apart, of which at
    /// least 64 bytes each are readable (`stride` bytes if it is longer).
    pub unsafe fn submit(
        &mut self,
        requests: *const u8,
        stride: usize,
        n: u32,
        error: &mut Option<Error>,
    ) -> u32 {
        if self.shared.draining.load(Ordering::Acquire) {
            *error = Some(Error::new(
                libc::ESHUTDOWN,
                "the queue is drained: xcopy_queue_resume opens it",
            ));
            return 0;
        }
        let epoch = self.context.epoch.load(Ordering::Relaxed);
        if epoch != self.epoch {
            self.epoch = epoch;
            self.known = self.context.registry.known_methods();
            self.outdate_pairs();
        }
        let mut accepted = 0;
        loop {
            if stride == size_of::<xcopy_request>() {
                // SAFETY: the caller's array; see above.
                accepted += unsafe {
                    let rest = requests.add(stride * accepted as usize);
                    self.submit_straight(rest, stride, n - accepted)
                };
            }
            if accepted == n {
                break;
            }
            // SAFETY: as above.
            if let Err(refused) = unsafe { self.submit_one(requests, stride, accepted) } {
                *error = Some(refused);
                break;
            }
            accepted += 1;
        }
        let in_flight = &self.shared.in_flight;
        in_flight.store(
            in_flight.load(Ordering::Relaxed) + accepted,
            Ordering::Relaxed,
        );
        add(&self.shared.stats.requests, u64::from(accepted));
        if !self.runnable.is_empty() {
            self.pump();
        }
        self.flush();
        self.flush_ring();
        if self.bell.is_armed() {
            self.settle_bell();
        }
        accepted
    }

    /// Takes the request at `index` of an array, by the straight way if that is
    /// longer than what this version knows and the rest of it is 0.
    ///
    /// # Safety
    /// As for `submit`.
    #[cold]
    unsafe fn submit_one(&mut self, requests: *const u8, stride: usize, index: u32) -> Result<()> {
        // SAFETY: the caller's array.
        let at = unsafe { requests.add(stride * index as usize) };
        if stride > size_of::<xcopy_request>() {
            // SAFETY: a longer stride says that the bytes are there.
            unsafe { check_tail(at, stride) }?;
            // SAFETY: one request of the caller's array.
            if unsafe { self.submit_straight(at, stride, 1) } == 1 {
                return Ok(());
            }
        }
        // SAFETY: as above; requests are plain data, and C aligns them to 8.
        self.admit_slowly(unsafe { &*at.cast::<xcopy_request>() })
    }

    /// Offers staged commands to the plugins.
    #[inline]
    pub(super) fn flush(&mut self) {
        for index in 0..self.plugins.len() {
            if self.plugins[index].has_batch() {
                self.flush_one(index);
            }
        }
    }

    fn flush_one(&mut self, index: usize) {
        let (shared, plugin) = (&*self.shared, index as u32);
        self.plugins[index].flush(shared, |command, status| {
            // SAFETY: staged by this queue; the plugin refused it.
            let cookie = unsafe { (*command).cookie };
            let result = xcopy_result {
                cookie,
                status,
                ..Default::default()
            };
            shared.complete_on_owner(plugin, &result);
        });
        self.flying -= self.plugins[index].count_landed();
    }

    /// Everything that can be done now: ends are taken, commands dispatched.
    /// Completions go to the places of the poll under way, or become ready.
    pub(super) fn advance(&mut self) {
        self.flush();
        for plugin in &mut self.plugins {
            if plugin.flying > 0 {
                plugin.poll(POLL_BATCH);
                self.flying -= plugin.count_landed();
            }
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
        if !self.runnable.is_empty() {
            self.pump();
        }
        self.flush();
        // A plugin may end commands inside submit.
        if self.shared.has_ended() {
            self.take_ended();
            self.pump();
            self.flush();
        }
        self.flush_ring();
    }

    #[inline]
    fn take_ended(&mut self) {
        while let Some(index) = self.shared.next_ended() {
            self.on_end(index);
        }
    }

    fn drain_lane(&mut self) {
        let shared = self.shared.clone();
        let mut mail = false;
        shared.lane.drain(|node| {
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
    /// `out` points to `max` places, `stride` bytes apart.
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
        let polling = Polling::begin(
            &self.shared,
            Places {
                at: out,
                stride,
                taken: 0,
                max,
            },
        );
        let mut until = None;
        // What was ready before comes first.
        self.take_ready();
        loop {
            self.advance();
            self.take_ready();
            let taken = polling.taken();
            if taken >= min || timeout_ns == 0 || self.nothing_to_wait_for() {
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
        self.count_straight();
        let in_flight = &self.shared.in_flight;
        in_flight.store(in_flight.load(Ordering::Relaxed) - taken, Ordering::Relaxed);
        add(&self.shared.stats.completions, u64::from(taken));
        self.after_poll();
        taken
    }

    /// Hands out what is ready, as far as there are places.
    #[inline]
    fn take_ready(&mut self) {
        while !self.ready.is_empty() {
            // SAFETY: the owner's, borrowed for the test.
            let left = unsafe { (*self.shared.straight()).places.left() };
            let Some(index) = left.then(|| self.ready.pop()).flatten() else {
                break;
            };
            self.take(index);
        }
    }

    #[inline]
    fn after_poll(&mut self) {
        if self.bell.is_armed() {
            self.settle_bell();
        } else {
            self.bell.settle(&self.shared.lane, false);
        }
    }

    /// A wait without anything in flight would never end.
    fn nothing_to_wait_for(&self) -> bool {
        self.free_slots.len() + self.twins() + self.abandoned as usize == self.slots.len()
    }

    fn sleep(&mut self, until: u64, now: u64) -> Result<Wait> {
        let was_armed = self.bell.is_armed();
        if self.arm() {
            if !was_armed {
                self.disarm();
            }
            if self.ready.is_empty() {
                // A plugin without an fd has to be asked again and again.
                std::thread::yield_now();
            }
            return Ok(Wait::Ready);
        }
        let left = if until == u64::MAX {
            -1
        } else {
            i64::try_from(until - now).unwrap_or(i64::MAX)
        };
        let wait = self.bell.wait(left);
        self.slept = true;
        if !was_armed {
            self.disarm();
        }
        wait
    }

    /// Makes the fd readable while something is ready, until `disarm`; true if
    /// something is already.
    pub fn arm(&mut self) -> bool {
        let ready = self.is_ready(true);
        self.set_timer();
        self.bell.arm(&self.shared.lane, ready)
    }

    /// Ends what `arm` began.
    pub fn disarm(&mut self) {
        for plugin in &self.plugins {
            plugin.arm(false);
        }
        self.bell.disarm(&self.shared.lane);
    }

    fn set_timer(&mut self) {
        let at = (self.timed > 0).then_some(self.earliest);
        // On failure the bell keeps a sleeper awake instead.
        let _ = self.bell.set_deadline(at);
    }

    /// Adds the fds of plugin queues made since the last look.
    fn watch_plugins(&mut self) {
        for plugin in &mut self.plugins {
            if plugin.fd == PluginQueue::UNASKED {
                let fd = plugin.pollable();
                let added = fd >= 0 && self.bell.add(fd).is_ok();
                plugin.fd = if added { fd } else { PluginQueue::MUTE };
            }
        }
    }

    fn settle_bell(&mut self) {
        let ready = self.is_ready(true);
        self.set_timer();
        self.bell.settle(&self.shared.lane, ready);
    }

    /// Whether a poll has something to do now.
    fn is_ready(&mut self, arm: bool) -> bool {
        self.watch_plugins();
        let mut ready = !self.ready.is_empty() || self.scans > 0 || self.shared.has_ended();
        for plugin in &self.plugins {
            ready |= plugin.has_batch() || plugin.arm(arm);
        }
        ready || self.can_pay() || self.ring_is_ready()
    }

    /// How many completions poll would take without waiting.
    pub fn count_ready(&mut self) -> u32 {
        self.advance();
        if self.bell.is_armed() {
            self.settle_bell();
        }
        self.ready.len()
    }

    /// The pollable fd.
    pub fn fd(&self) -> i32 {
        self.bell.fd()
    }

    /// Why the queue cannot be destroyed now, or None.
    pub fn busy(&self) -> Option<Error> {
        let used = self.slots.len() - self.free_slots.len() - self.twins();
        let text = if used > self.abandoned as usize {
            format!("{used} requests are in flight or not taken: drain and poll first")
        } else if used > 0 {
            format!("{used} abandoned requests have commands that did not end: poll, or force it")
        } else if self.flying > 0 {
            let flying = self.flying;
            format!("{flying} devices are being opened, judged or closed here: poll first")
        } else {
            return None;
        };
        Some(Error::new(libc::EBUSY, text))
    }

    /// Frees the queue. With commands still in flight, what backends may still
    /// touch is left to them.
    pub fn destroy(mut self) {
        self.fill_slots(None);
        for slot in 0..self.slots.len() as u32 {
            self.stop_for_destroy(slot);
        }
        self.close_affine_devices();
        for slot in 0..self.slots.len() as u32 {
            self.abandon_for_destroy(slot);
        }
        self.context.remove_queue(&self.shared);
        let left_behind = self.flying > 0 || !self.chores_ended();
        for plugin in self.plugins.drain(..) {
            if plugin.fd >= 0 {
                self.bell.remove(plugin.fd);
            }
            if plugin.flying > 0 {
                plugin.abandon();
            } else {
                plugin.destroy();
            }
        }
        self.end_ring();
        if left_behind {
            self.context.leave_behind();
            // The pool and the plugins hold references of their own to `shared`;
            // buffers and arguments that a command may still write to must not be
            // freed.
            std::mem::forget(std::mem::take(&mut self.buffers));
            std::mem::forget(std::mem::take(&mut self.affine));
            for pair in &mut self.pairs {
                std::mem::forget(pair.probe.take());
            }
            // Nor must the devices be closed: a late write would reach whatever
            // the kernel or the plugin gives out next under the same name.
            for pair in &self.pairs {
                if pair.count.in_flight.load(Ordering::Relaxed) > 0 {
                    for device in [&pair.src, &pair.dst].into_iter().flatten() {
                        device.hold_for_ever();
                    }
                }
            }
        } else {
            let devices: Vec<_> = self
                .pairs
                .iter()
                .flat_map(|p| [p.src.clone(), p.dst.clone()])
                .flatten()
                .collect();
            for device in devices {
                self.context.release_if_idle(&device);
            }
        }
    }

    fn chores_ended(&self) -> bool {
        self.slots.iter().all(|slot| !slot.chore)
    }
}

/// Refuses a longer request whose unknown part is not 0.
///
/// # Safety
/// `stride` bytes at `at` are readable.
unsafe fn check_tail(at: *const u8, stride: usize) -> Result<()> {
    let known = size_of::<xcopy_request>();
    // SAFETY: the caller's word.
    let tail = unsafe { std::slice::from_raw_parts(at.add(known), stride - known) };
    if tail.iter().any(|byte| *byte != 0) {
        return Err(Error::new(
            libc::E2BIG,
            "the request has fields that this version does not know: leave them 0",
        ));
    }
    Ok(())
}

/// A poll under way: as long as it lasts, completions go to the caller's places.
struct Polling(*mut super::straight::Straight);

impl Polling {
    #[inline(always)]
    fn begin(shared: &QueueShared, places: Places) -> Polling {
        let polling = Polling(shared.straight());
        // SAFETY: the queue's, which outlives the poll, and whose owner this is.
        unsafe { (*polling.0).places = places };
        polling
    }

    /// How many places were filled.
    #[inline(always)]
    fn taken(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.0).places.taken }
    }

    /// The same, at the end.
    #[inline(always)]
    fn end(self) -> u32 {
        self.taken()
    }
}

impl Drop for Polling {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: as above. The places are the caller's again.
        unsafe { (*self.0).places = Places::none() };
    }
}

/// The caller's places for completions.
pub(super) struct Places {
    /// The next place; there are `max - taken`, `stride` bytes apart, at least 64
    /// writable bytes each (`stride` bytes if it is longer).
    at: *mut u8,
    stride: usize,
    taken: u32,
    max: u32,
}

impl Places {
    /// No place.
    pub(super) fn none() -> Places {
        Places {
            at: std::ptr::null_mut(),
            stride: 0,
            taken: 0,
            max: 0,
        }
    }

    /// Whether there is one left.
    #[inline(always)]
    pub(super) fn left(&self) -> bool {
        self.taken < self.max
    }

    /// Writes a completion, and zeroes the tail that the caller knows and we do
    /// not. Only while one is left.
    #[inline(always)]
    pub(super) fn put(&mut self, completion: xcopy_completion) {
        let known = size_of::<xcopy_completion>();
        if !self.left() {
            return;
        }
        // SAFETY: a place is left; C aligns completions to 8, but a stride need
        // not keep that.
        unsafe {
            self.at
                .cast::<xcopy_completion>()
                .write_unaligned(completion);
            if self.stride > known {
                std::ptr::write_bytes(self.at.add(known), 0, self.stride - known);
            }
            self.at = self.at.add(self.stride);
        }
        self.taken += 1;
    }
}

fn deadline_of(now: u64, timeout_ns: i64) -> u64 {
    u64::try_from(timeout_ns).map_or(u64::MAX, |timeout| now.saturating_add(timeout))
}
