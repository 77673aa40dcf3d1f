//! A queue's owner side: what it holds, its beginning and its end.

use super::context::Context;
use super::host_queue::HostQueue;
use super::pairs::{AffineDevice, Owed, Pair, PairIndex};
use super::plugin_queue::PluginQueue;
use super::ring::IndexRing;
use super::shared::{QueueShared, SlotFace, add};
use super::slot::Slot;
use super::tokens::LeftBehind;
use crate::error::{Error, Result};
use crate::host::{Buffer, HostRing};
use crate::queue::Bell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use xcopy_abi::*;

/// Requests and commands of one queue at most.
const CAPACITY_MAX: u32 = 65_536;
/// Capacity when none is given.
const CAPACITY: u32 = 256;

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
    pub(super) free_pairs: Vec<u32>,
    pub(super) plugins: Vec<PluginQueue>,
    pub(super) affine: Vec<AffineDevice>,
    /// What waits for a free command.
    pub(super) owed: VecDeque<Owed>,
    /// Commands that the pool and the ring have; plugin queues count their own.
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
    pub(super) slept: bool,
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

    /// Commands in flight.
    fn all_flying(&self) -> u32 {
        let hosts = self.shared.straight().hosts();
        self.flying + hosts.map(HostQueue::flying).sum::<u32>()
    }

    /// Whether any command is in flight.
    pub(super) fn has_flying(&self) -> bool {
        self.all_flying() > 0
    }

    /// Gives the slot of a request back that was not on the straight way.
    pub(super) fn free_slot(&mut self, index: u32) {
        self.free_slots.push(index);
        self.shared.straight().uncount_other();
    }

    /// Why the queue cannot be destroyed now, or None.
    pub fn busy(&self) -> Option<Error> {
        let used = self.shared.in_flight() + self.abandoned;
        let text = if used > self.abandoned {
            format!("{used} requests are in flight or not taken: drain and poll first")
        } else if used > 0 {
            format!("{used} abandoned requests have commands that did not end: poll, or force it")
        } else if self.has_flying() {
            let flying = self.all_flying();
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
        let left_behind = self.has_flying() || !self.chores_ended();
        self.shared.straight().forget_hosts();
        for plugin in self.plugins.drain(..) {
            if plugin.fd >= 0 {
                self.bell.remove(plugin.fd);
            }
            if plugin.host().flying() > 0 {
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
            self.leave_tokens();
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

    /// The tokens of commands in flight stay with them; their handles are free.
    fn leave_tokens(&mut self) {
        let mut left = LeftBehind::default();
        let in_flight = self.slots.iter_mut().filter(|slot| slot.in_flight > 0);
        for extra in in_flight.filter_map(|slot| slot.extra.as_mut()) {
            left.tokens
                .extend(extra.token.take().map(|t| t.token().clone()));
            left.making.push(std::mem::take(&mut extra.making));
        }
        let buffers = self.buffers.iter_mut();
        let secret = buffers.filter(|b| b.as_ref().is_some_and(Buffer::is_secret));
        left.buffers.extend(secret.filter_map(Option::take));
        self.shared.leave(left);
    }

    fn chores_ended(&self) -> bool {
        self.slots.iter().all(|slot| !slot.chore)
    }
}
