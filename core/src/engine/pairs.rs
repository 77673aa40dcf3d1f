//! Pairs of devices as one queue sees them: the methods bound to the queue's
//! plugin queues, and the shortest way to submit.

use super::by_ring::RingEnds;
use super::devices::{Device, PluginHandle};
use super::line::Line;
use super::memory::MethodMemory;
use super::route::{Endpoint, Route, RouteMethod};
use super::shared::PairCount;
use crate::error::Error;
use crate::host::Lanes;
use crate::plan::Adapt;
use std::collections::HashMap;
use std::sync::Arc;
use xcopy_abi::*;

/// A method bound to a queue.
pub struct BoundMethod {
    /// XCOPY_METHOD_ or a given number.
    pub id: u16,
    /// XCOPY_METHOD_ flags, as the verdict on the pair changed them.
    pub flags: u32,
    /// Index of the plugin queue, or NO_PLUGIN for the host.
    pub plugin: u32,
    /// The plugin's handle of the source.
    pub src: PluginHandle,
    /// The plugin's handle of the destination.
    pub dst: PluginHandle,
    /// Its limits.
    pub limits: xcopy_limits,
    /// Size and depth.
    pub adapt: Adapt,
    /// Its commands in flight on this pair and queue.
    pub in_flight: u32,
    /// Of those, the large ones of the host.
    pub large: u32,
    /// Where its commands wait with those of other queues.
    pub line: Option<Arc<Line>>,
    /// How many large ones run on the pool at once.
    pub lanes: Lanes,
    /// What is remembered beyond this queue.
    pub memory: Arc<MethodMemory>,
    /// XCOPY_REASON_ why no better method was usable when this was bound.
    pub why_not_better: u16,
    /// Coarse time until which it rests, and why.
    pub rests: Option<(u64, u16)>,
}

impl BoundMethod {
    /// Whether the method takes another command now: as many as its depth, and of
    /// one with a line a next one, to be there when the last one ends.
    pub fn has_room(&self) -> bool {
        let next = u32::from(self.line.is_some());
        self.in_flight < self.adapt.depth().saturating_add(next)
    }

    /// Whether bytes stay out of the host.
    pub fn offloads(&self) -> bool {
        self.flags & XCOPY_METHOD_OFFLOADS != 0
    }
}

/// How far a pair is bound.
pub enum Binding {
    /// Nothing is known yet.
    Unbound,
    /// The pool asks the plugins.
    Probing,
    /// AFFINE plugins open its devices on this queue.
    Opening,
    /// It waits for a free command to go on.
    Owing,
    /// An AFFINE plugin judges it on this queue.
    Judging,
    /// Methods are bound.
    Ready,
    /// It cannot be bound: every request of it fails so.
    Failed(Error),
}

/// The arguments of an AFFINE plugin's judgement, at a stable address.
pub struct ProbeCall {
    /// One for each method of the plugin.
    pub verdicts: Vec<xcopy_verdict>,
    /// What the command points to.
    pub args: xcopy_probe_args,
}

/// A pair on one queue.
pub struct Pair {
    /// Source and destination handles.
    pub key: (u32, u32),
    /// The source, unless the operation has none.
    pub src: Option<Arc<Device>>,
    /// The destination, unless the operation has none.
    pub dst: Option<Arc<Device>>,
    /// `Device::state` of both when it was bound.
    pub states: (u32, u32),
    /// Requests in flight, for other threads.
    pub count: Arc<PairCount>,
    /// How far it is bound.
    pub binding: Binding,
    /// All verdicts, for reports.
    pub verdicts: Vec<RouteMethod>,
    /// Usable methods, best first.
    pub methods: Vec<BoundMethod>,
    /// Index of read_write in `methods`.
    pub host: Option<usize>,
    /// The host's ends.
    pub src_end: Endpoint,
    /// The destination's.
    pub dst_end: Endpoint,
    /// What the host's ends offer to a ring.
    pub ring: RingEnds,
    /// Plugin queues of the host's ends, or NO_PLUGIN.
    pub end_plugins: (u32, u32),
    /// Destination byte = source byte + this, on one storage.
    pub same_storage: Option<i128>,
    /// Slots that wait for the binding.
    pub waiting: Vec<u32>,
    /// Coarse time after which what was refused is asked again.
    pub recheck_ns: u64,
    /// The route that it is being bound from.
    pub route: Option<Arc<Route>>,
    /// An AFFINE plugin's judgement under way.
    pub probe: Option<Box<ProbeCall>>,
    /// Both devices are the caller's alone.
    pub exclusive: bool,
}

/// A device that an AFFINE plugin opened, or opens, on this queue.
pub struct AffineDevice {
    /// The device.
    pub device: Arc<Device>,
    /// Index of the plugin queue.
    pub plugin: u32,
    /// The OPEN command's arguments, at a stable address.
    pub call: Box<(xcopy_device_desc, xcopy_open_args)>,
    /// None while it opens; then the handle or -errno.
    pub handle: Option<Result<PluginHandle, i32>>,
    /// Pairs that wait for it.
    pub waiting: Vec<u32>,
    /// A CLOSE was sent.
    pub closing: bool,
}

/// What waits for a free command, of a queue whose commands are all in use.
pub enum Owed {
    /// A pair's binding goes on.
    Binding(u32),
    /// An AFFINE plugin closes a device.
    Close(Arc<Device>),
}

/// Finds pairs by their handles, by a hash table that allocates only when it grows.
#[derive(Default)]
pub struct PairIndex {
    table: HashMap<u64, u32, std::hash::BuildHasherDefault<Mix>>,
}

/// Hash of a pair's handles: one multiplication, as handles are ours.
#[derive(Default)]
pub struct Mix(u64);

impl std::hash::Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    #[inline]
    fn write_u64(&mut self, value: u64) {
        let product = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = product ^ product >> 32;
    }
}

impl PairIndex {
    /// Both handles in one word: the source in the low half.
    #[inline(always)]
    pub fn word(src: u32, dst: u32) -> u64 {
        u64::from(src) | u64::from(dst) << 32
    }

    /// The pair's index.
    #[inline]
    pub fn get(&self, word: u64) -> Option<u32> {
        self.table.get(&word).copied()
    }

    /// Sets the pair's index.
    pub fn set(&mut self, word: u64, index: u32) {
        self.table.insert(word, index);
    }

    /// Forgets a pair.
    pub fn remove(&mut self, word: u64, index: u32) {
        if self.table.get(&word) == Some(&index) {
            self.table.remove(&word);
        }
    }
}
