//! What is remembered of a pair of storages between requests and handles: how
//! large commands may be, and which methods are not worth trying for a while.

use crate::device::Storage;
use crate::plan::Rate;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// One method's past on one pair.
#[derive(Default)]
pub struct MethodMemory {
    /// Packed `plan::Adapt`, 0 while nothing was learnt.
    pub adapt: AtomicU64,
    /// Bytes per second that it moved when last measured, 0 while unknown.
    rate: AtomicU64,
    /// Coarse time of that measurement.
    rated_ns: AtomicU64,
    /// Coarse monotonic nanoseconds until which the method rests; u64::MAX for good.
    rests_until: AtomicU64,
    /// XCOPY_REASON_ of the failure that made it rest.
    why: AtomicU32,
}

/// How long a measured speed counts: arrays and their load change.
const RATE_HOLDS_NS: u64 = 300 * 1_000_000_000;

impl MethodMemory {
    /// Whether a speed was ever measured or stated.
    pub fn has_rate(&self) -> bool {
        self.rate.load(Ordering::Relaxed) != 0
    }

    /// The speed, if it was measured lately.
    pub fn rate(&self, now_ns: u64) -> Option<Rate> {
        let rate = self.rate.load(Ordering::Relaxed);
        let age = now_ns.saturating_sub(self.rated_ns.load(Ordering::Relaxed));
        (age < RATE_HOLDS_NS)
            .then(|| Rate::per_second(rate))
            .flatten()
    }

    /// Remembers a speed.
    pub fn set_rate(&self, rate: Rate, now_ns: u64) {
        self.rated_ns.store(now_ns, Ordering::Relaxed);
        self.rate.store(rate.bytes_per_second(), Ordering::Relaxed);
    }

    /// Lets the method rest.
    pub fn rest(&self, until_ns: u64, reason: u16) {
        self.why.store(u32::from(reason), Ordering::Relaxed);
        self.rests_until.store(until_ns, Ordering::Release);
    }

    /// Why the method rests now, or None.
    pub fn resting(&self, now_ns: u64) -> Option<u16> {
        let until = self.rests_until.load(Ordering::Acquire);
        (until > now_ns).then(|| self.why.load(Ordering::Relaxed) as u16)
    }

    /// Forgets the failure.
    pub fn wake(&self) {
        self.rests_until.store(0, Ordering::Release);
    }

    /// Forgets failure and speed.
    fn forget(&self) {
        self.wake();
        self.rate.store(0, Ordering::Relaxed);
    }
}

type Key = (Storage, Storage, u16);

/// All pairs of a context.
#[derive(Default)]
pub struct PairMemory {
    pairs: Mutex<HashMap<Key, Arc<MethodMemory>>>,
}

/// Pairs remembered at most; beyond it the memory starts anew.
const PAIRS_MAX: usize = 65_536;

impl PairMemory {
    /// The memory of `method` from `src` to `dst`.
    pub fn of(&self, src: Storage, dst: Storage, method: u16) -> Arc<MethodMemory> {
        let mut pairs = self.pairs.lock().unwrap_or_else(|e| e.into_inner());
        if pairs.len() >= PAIRS_MAX {
            pairs.clear();
        }
        pairs.entry((src, dst, method)).or_default().clone()
    }

    /// Forgets the failures and speeds of all pairs with `storage`.
    pub fn forget(&self, storage: Storage) {
        let pairs = self.pairs.lock().unwrap_or_else(|e| e.into_inner());
        for ((src, dst, _), memory) in pairs.iter() {
            if *src == storage || *dst == storage {
                memory.forget();
            }
        }
    }
}
