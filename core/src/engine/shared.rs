//! What a queue's owner shares with other threads: its command cells, its
//! request slots' public words, its lane and its mailbox.
//!
//! Everything else of a queue belongs to the owner alone (`queue.rs`).

pub use super::cell::{Answer, CommandCell, Errand, NO_PLUGIN, Purpose};
use super::devices::{Device, changed};
pub use super::face::{PairCount, SlotFace};
use super::ring::IndexRing;
use super::route::Route;
use super::straight::{ENDED, Straight};
use super::tokens::LeftBehind;
use crate::error::Result;
use crate::queue::{Lane, Ringer};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use xcopy_abi::*;

/// Sense data of failures: rare, so behind a lock and not in every cell.
type Senses = Mutex<std::collections::HashMap<u32, Vec<u8>>>;

/// What other threads ask of the owner.
pub enum Mail {
    /// A pair was probed.
    Route {
        /// Index of the queue's route.
        route: u32,
        /// The result.
        result: Result<Arc<Route>>,
    },
    /// Work on the pool for a request's stage ended.
    Chore {
        /// Slot and generation.
        slot: u32,
        /// The request's sequence number when it asked.
        seq: u32,
        /// 0 or -errno.
        status: i32,
        /// XCOPY_CPL_ flags to add.
        flags: u32,
    },
    /// Look for slots that were asked to cancel.
    Cancel,
    /// A device was closed.
    Closed(Arc<Device>),
}

/// Counters: the owner writes, any reads.
#[derive(Default)]
pub struct Stats {
    /// Requests of one command each that went the straight way; not in the next, nor
    /// in `commands`.
    pub(crate) straight: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) completions: AtomicU64,
    pub(crate) commands: AtomicU64,
    pub(crate) command_errors: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) fallbacks: AtomicU64,
    pub(crate) bytes_copied: AtomicU64,
    pub(crate) bytes_offloaded: AtomicU64,
    pub(crate) late_answers: AtomicU64,
    pub(crate) plugin_faults: AtomicU64,
    pub(crate) abandoned: AtomicU64,
    pub(crate) memory_bytes: AtomicU64,
}

/// Adds to a counter that only the calling thread writes: a load and a store,
/// not a locked instruction.
#[inline]
pub fn add(counter: &AtomicU64, n: u64) {
    counter.store(
        counter.load(Ordering::Relaxed).wrapping_add(n),
        Ordering::Relaxed,
    );
}

/// The shared side of a queue.
pub struct QueueShared {
    /// Commands.
    pub cells: Box<[CommandCell]>,
    /// Public words of the request slots.
    pub faces: Box<[SlotFace]>,
    /// Carries ended commands, and `mail_node`, to the owner.
    pub lane: Lane,
    ringer: Ringer,
    mail_node: u32,
    mail_posted: AtomicBool,
    /// A cancel letter is in the mailbox.
    cancel_posted: AtomicBool,
    mailbox: Mutex<VecDeque<Mail>>,
    senses: Senses,
    /// Commands that ended on the owner's thread, in order.
    ended: IndexRing,
    /// The straight way; the owner's.
    straight: Straight,
    /// Slots that requests on the straight way ever had are below.
    pub straight_reach: AtomicU32,
    /// Pairs in use.
    pub pairs: Mutex<Vec<Arc<PairCount>>>,
    /// Whether submit is refused.
    pub draining: AtomicBool,
    /// Counters.
    pub stats: Stats,
    /// The queue is no more, and `left` may hold something.
    is_left: AtomicBool,
    left: Mutex<LeftBehind>,
}

// SAFETY: `cmd`, `range` and the answer of a cell are written by one side at a
// time: the owner while the phase is not FLYING, whoever moved the phase from
// FLYING to DONE until it is delivered through the lane. `ended`, `straight` and
// the rest of a cell, but for its atomics, are touched by the owner's thread only
// (complete_on_owner is documented so).
unsafe impl Sync for QueueShared {}
// SAFETY: as above; raw pointers in commands are opaque or core memory.
unsafe impl Send for QueueShared {}

impl QueueShared {
    /// Shared state for `window` commands and `capacity` requests.
    pub fn new(capacity: u32, window: u32, ringer: Ringer) -> QueueShared {
        let straight = Straight::new();
        let off = straight.off();
        QueueShared {
            cells: (0..window).map(|at| CommandCell::new(at, off)).collect(),
            faces: (0..capacity).map(|_| SlotFace::new()).collect(),
            lane: Lane::new(window + 1),
            ringer,
            mail_node: window,
            mail_posted: AtomicBool::new(false),
            cancel_posted: AtomicBool::new(false),
            mailbox: Mutex::default(),
            senses: Mutex::default(),
            ended: IndexRing::new(window),
            straight,
            straight_reach: AtomicU32::new(0),
            pairs: Mutex::default(),
            draining: AtomicBool::new(false),
            stats: Stats::default(),
            is_left: AtomicBool::new(false),
            left: Mutex::default(),
        }
    }

    /// Takes over what commands in flight still use, until they ended.
    pub fn leave(&self, left: LeftBehind) {
        *self.left.lock().unwrap_or_else(|e| e.into_inner()) = left;
        self.is_left.store(true, Ordering::SeqCst);
        self.forget_left();
    }

    #[cold]
    fn forget_left(&self) {
        let flying = (0..self.cells.len()).any(|at| self.is_flying(at as u32));
        if !flying {
            let mut left = self.left.lock().unwrap_or_else(|e| e.into_inner());
            drop(std::mem::take(&mut *left));
        }
    }

    /// How often the bell was rung.
    #[inline(always)]
    pub fn rung(&self) -> u64 {
        self.ringer.rung()
    }

    /// Gives the command to a backend, not the straight way; its cookie.
    #[inline]
    pub fn launch(&self, index: u32) -> u64 {
        let cell = &self.cells[index as usize];
        cell.set_way(self.straight.off());
        cell.launch()
    }

    /// Takes a command back that no backend accepted, or whose end was delivered.
    #[inline]
    pub fn land(&self, index: u32) {
        self.cells[index as usize].land();
    }

    /// Whether a backend has the command.
    pub fn is_flying(&self, index: u32) -> bool {
        self.cells[index as usize].is_flying()
    }

    /// The straight way; the owner only.
    #[inline(always)]
    pub fn straight(&self) -> &Straight {
        &self.straight
    }

    #[inline(always)]
    fn locate(&self, plugin: u32, cookie: u64) -> Option<(u32, &CommandCell)> {
        let index = cookie as u32;
        let cell = self.cells.get(index as usize)?;
        (cell.is(cookie) && cell.is_of(plugin)).then_some((index, cell))
    }

    /// Ends commands from any thread.
    pub fn deliver(&self, indices: &[u32]) {
        if self.lane.push_many(indices) {
            self.ringer.ring();
        }
        if self.is_left.load(Ordering::SeqCst) {
            self.forget_left();
        }
    }

    /// Ends one command from any thread.
    pub fn complete_remote(&self, plugin: u32, result: &xcopy_result) {
        if let Some(index) = self.end_remote(plugin, result) {
            self.deliver(&[index]);
        }
    }

    /// Fetches what the end of the command writes; any thread.
    #[inline(always)]
    pub fn expect_end(&self, cookie: u64) {
        if let Some(cell) = self.cells.get(cookie as u32 as usize) {
            cell.expect_end();
        }
    }

    /// Writes the end of a command, to be delivered; any thread. An answer that
    /// names no command in flight of that plugin is counted and forgotten.
    pub fn end_remote(&self, plugin: u32, result: &xcopy_result) -> Option<u32> {
        let located = self.locate(plugin, result.cookie);
        let Some((index, cell)) = located.filter(|(_, cell)| cell.claim(result.cookie)) else {
            self.stats.late_answers.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        // SAFETY: the exchange made this thread the only writer of the answer
        // until the lane delivers it.
        unsafe { self.record(cell, index, result) };
        Some(index)
    }

    /// Ends a command on the owner's thread, without atomics that lock.
    #[cold]
    #[inline(never)]
    pub fn complete_on_owner(&self, plugin: u32, result: &xcopy_result) {
        let Some((index, cell)) = self.locate(plugin, result.cookie) else {
            add(&self.stats.late_answers, 1);
            return;
        };
        cell.end(result.cookie);
        // SAFETY: the phase was FLYING and is DONE now; the owner's thread, which
        // this is, reads the answer after this call.
        unsafe { self.record(cell, index, result) };
        self.ended.push(index);
        self.straight.mark(ENDED, true);
    }

    /// Writes a command's answer; of a plain success no more than is looked at.
    ///
    /// # Safety
    /// The caller alone may touch the cell's answer.
    #[inline(always)]
    unsafe fn record(&self, cell: &CommandCell, index: u32, result: &xcopy_result) {
        // SAFETY: the caller's word.
        let answer = unsafe { &mut *cell.answer() };
        if result.status == 0 && result.token_size | result.flags == 0 {
            answer.status = 0;
            answer.bytes = result.bytes;
            answer.zeroed = 0;
            answer.flags = 0;
            answer.token_size = 0;
        } else {
            *answer = self.keep(index, result);
        }
    }

    #[cold]
    fn keep(&self, index: u32, result: &xcopy_result) -> Answer {
        let mut answer = Answer {
            status: result.status,
            action: result.action,
            reason: result.reason,
            bytes: result.bytes,
            zeroed: 0,
            touched: 0,
            detail: result.detail,
            flags: result.flags,
            token_size: result.token_size,
            token_type: result.token_type,
            token_lifetime_s: result.token_lifetime_s,
            sense_len: 0,
        };
        if !result.sense.is_null() && result.sense_len > 0 && result.status != 0 {
            let len = (result.sense_len as usize).min(XCOPY_SENSE_MAX);
            // SAFETY: the plugin's word that sense_len bytes are there.
            let sense = unsafe { std::slice::from_raw_parts(result.sense, len) }.to_vec();
            answer.sense_len = len as u32;
            self.senses
                .lock()
                .unwrap_or_else(|e| e.into_inner())
                .insert(index, sense);
        }
        answer
    }

    /// Ends a command that the pool carried out.
    pub fn complete_chore(&self, index: u32, cookie: u64, answer: Answer) {
        let cell = &self.cells[index as usize];
        if cell.claim(cookie) {
            // SAFETY: as in `complete_remote`.
            unsafe { *cell.answer() = answer };
            self.deliver(&[index]);
        }
    }

    /// Takes the sense data that came with a command's failure.
    pub fn take_sense(&self, index: u32) -> Option<Vec<u8>> {
        self.senses
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .remove(&index)
    }

    /// The answer of a command that ended; the owner only, once.
    #[inline]
    pub fn answer(&self, index: u32) -> Answer {
        // SAFETY: the phase is DONE and its end was delivered to the owner,
        // who is the only one left to touch it.
        unsafe { *self.cells[index as usize].answer() }
    }

    /// The next command that ended on the owner's thread; the owner only.
    #[inline(always)]
    pub fn next_ended(&self) -> Option<u32> {
        let ended = self.ended.pop();
        if ended.is_none() {
            self.straight.mark(ENDED, false);
        }
        ended
    }

    /// Whether a command ended on the owner's thread and was not looked at yet.
    #[inline]
    pub fn has_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    /// The lane's node that stands for "there is mail".
    pub fn mail_node(&self) -> u32 {
        self.mail_node
    }

    /// Sends the owner a letter; any thread.
    pub fn send(&self, mail: Mail) {
        self.mailbox
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .push_back(mail);
        if !self.mail_posted.swap(true, Ordering::AcqRel) && self.lane.push(self.mail_node) {
            self.ringer.ring();
        }
    }

    /// Opens the mailbox, after its node was drained; the owner only.
    pub fn open_mailbox(&self) {
        // An exchange and not a store: it has to see the letter of a sender
        // whose own exchange came first and who therefore pushed no node.
        self.mail_posted.swap(false, Ordering::AcqRel);
    }

    /// The letters there are now, and no later ones, so that a busy sender cannot
    /// hold the owner; the owner only.
    pub fn take_mail(&self) -> VecDeque<Mail> {
        std::mem::take(&mut *self.mailbox.lock().unwrap_or_else(|e| e.into_inner()))
    }

    /// Tells the owner that a device was closed.
    pub fn tell_closed(&self, device: &Arc<Device>) {
        let pairs = self.pairs.lock().unwrap_or_else(|e| e.into_inner());
        let known = pairs
            .iter()
            .any(|p| p.src == device.handle || p.dst == device.handle);
        drop(pairs);
        // A queue may have opened it (AFFINE) and have no pair of it any more.
        if known || device.affine_opens.load(Ordering::Acquire) > 0 {
            self.send(Mail::Closed(device.clone()));
        }
    }

    /// Requests accepted and not yet taken; any thread.
    pub fn in_flight(&self) -> u32 {
        let stats = &self.stats;
        // Those taken first: each of them is among the accepted then.
        let taken = stats.completions.load(Ordering::SeqCst);
        let straight = stats.straight.load(Ordering::SeqCst);
        let others = stats.requests.load(Ordering::SeqCst);
        straight.wrapping_add(others).wrapping_sub(taken) as u32
    }

    /// Requests in flight that touch `handle`; any thread.
    pub fn device_in_flight(&self, handle: u32) -> u32 {
        // In this order: a request that leaves the straight way is counted with its
        // pair first, and so twice rather than not at all.
        let reach = self.straight_reach.load(Ordering::Relaxed) as usize;
        let faces = self.faces.iter().take(reach);
        let straight = faces.filter(|face| face.is_straight_of(handle)).count();
        let pairs = self.pairs.lock().unwrap_or_else(|e| e.into_inner());
        let others = pairs
            .iter()
            .filter(|p| p.src == handle || p.dst == handle)
            .map(|p| p.in_flight.load(Ordering::SeqCst));
        straight as u32 + others.sum::<u32>()
    }

    /// Refuses what is submitted from now on; any thread.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
        // Afterwards: who still sees the old count came before the drain.
        changed();
    }

    /// Asks all slots that `wanted` picks to cancel; answers how many.
    pub fn ask_cancel(&self, wanted: impl Fn(&SlotFace) -> bool) -> u32 {
        let mut asked = 0;
        for face in &self.faces {
            let seq = face.seq.load(Ordering::Acquire);
            if seq % 2 == 1 && wanted(face) && face.seq.load(Ordering::Acquire) == seq {
                face.cancel.store(seq, Ordering::Release);
                asked += 1;
            }
        }
        // One letter stands for all that were asked before it is opened: a storm
        // of cancels must not outrun the owner.
        if asked > 0 && !self.cancel_posted.swap(true, Ordering::AcqRel) {
            self.send(Mail::Cancel);
        }
        asked
    }

    /// Opens a cancel letter; the owner only, before it looks at the slots.
    pub fn open_cancel(&self) {
        self.cancel_posted.swap(false, Ordering::AcqRel);
    }

    /// How far the first request with `user_data` is.
    pub fn progress(&self, user_data: u64) -> Option<xcopy_progress> {
        self.faces.iter().find_map(|face| {
            let seq = face.seq.load(Ordering::Acquire);
            if seq % 2 == 0 || face.user_data.load(Ordering::Relaxed) != user_data {
                return None;
            }
            let commands = face.commands.load(Ordering::Relaxed);
            let progress = xcopy_progress {
                bytes_total: face.total.load(Ordering::Relaxed),
                bytes_copied: face.copied.load(Ordering::Relaxed),
                bytes_offloaded: face.offloaded.load(Ordering::Relaxed),
                commands_in_flight: commands as u32,
                method: (commands >> 32) as u32,
            };
            std::sync::atomic::fence(Ordering::Acquire);
            (face.seq.load(Ordering::Relaxed) == seq).then_some(progress)
        })
    }

    /// A copy of the counters.
    pub fn stats(&self) -> xcopy_queue_stats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let stats = &self.stats;
        let straight = get(&stats.straight);
        xcopy_queue_stats {
            requests: get(&stats.requests).wrapping_add(straight),
            completions: get(&stats.completions),
            commands: get(&stats.commands).wrapping_add(straight),
            command_errors: get(&stats.command_errors),
            retries: get(&stats.retries),
            fallbacks: get(&stats.fallbacks),
            bytes_copied: get(&stats.bytes_copied),
            bytes_offloaded: get(&stats.bytes_offloaded),
            late_answers: get(&stats.late_answers),
            plugin_faults: get(&stats.plugin_faults),
            abandoned: get(&stats.abandoned),
            memory_bytes: get(&stats.memory_bytes),
        }
    }
}
