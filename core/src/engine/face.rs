//! What other threads see of a request in flight, and of its pair.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// The public words of a request's slot. A sequence number, odd while the slot
/// is in use, tells a reader whether what it read belongs together.
#[repr(C, align(64))]
#[derive(Default)]
pub struct SlotFace {
    /// Odd while in use.
    pub seq: AtomicU32,
    /// The sequence number that was asked to cancel.
    pub cancel: AtomicU32,
    /// The caller's.
    pub user_data: AtomicU64,
    /// Handles of source and destination: source in the high half.
    pub pair: AtomicU64,
    /// Bytes of the request.
    pub total: AtomicU64,
    /// Bytes known to be copied. 0 while the slot is free, as is the next.
    pub copied: AtomicU64,
    /// Of those, bytes that never passed through the host.
    pub offloaded: AtomicU64,
    /// Commands in flight (low half), method of the last that ended (high half).
    /// 1 while the slot is free, since a straight request has one at once.
    pub commands: AtomicU64,
    /// 1 if the pair's count has the request, which is not on the straight way.
    counted: AtomicU32,
}

impl SlotFace {
    /// A face of a free slot.
    pub fn new() -> SlotFace {
        SlotFace {
            commands: AtomicU64::new(1),
            ..SlotFace::default()
        }
    }

    /// The pair's count has the request that has, or will have, the slot.
    pub fn set_counted(&self) {
        self.counted.store(1, Ordering::Release);
    }

    /// Whether a request on the straight way has the slot and touches `handle`; any
    /// thread. One that ends or begins meanwhile may be seen or not.
    pub fn is_straight_of(&self, handle: u32) -> bool {
        let seq = self.seq.load(Ordering::SeqCst);
        let pair = self.pair.load(Ordering::Acquire);
        let counted = self.counted.load(Ordering::Acquire);
        let touches = pair as u32 == handle || (pair >> 32) as u32 == handle;
        seq % 2 == 1 && counted == 0 && touches && self.seq.load(Ordering::Relaxed) == seq
    }

    /// Begins a request.
    #[inline(always)]
    pub fn open(&self, user_data: u64, pair: u64, total: u64) {
        self.user_data.store(user_data, Ordering::Relaxed);
        self.pair.store(pair, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
        self.close();
    }

    /// Ends a request that has changed no figure, or begins one.
    #[inline(always)]
    pub fn close(&self) {
        let seq = self.seq.load(Ordering::Relaxed);
        self.seq.store(seq.wrapping_add(1), Ordering::Release);
    }

    /// Ends any request.
    pub fn close_and_reset(&self) {
        self.close();
        // Who sees a figure below sees the number above too.
        fence(Ordering::Release);
        self.copied.store(0, Ordering::Relaxed);
        self.offloaded.store(0, Ordering::Relaxed);
        self.commands.store(1, Ordering::Relaxed);
        self.counted.store(0, Ordering::Relaxed);
    }
}

/// Requests in flight of one pair on one queue, but for those on the straight way,
/// which their faces tell: the owner writes, any reads.
pub struct PairCount {
    /// Source.
    pub src: u32,
    /// Destination.
    pub dst: u32,
    /// How many.
    pub in_flight: AtomicU32,
}

#[cfg(test)]
mod tests {
    use super::SlotFace;

    /// A request is counted once: by its face on the straight way, else by its pair.
    #[test]
    fn tells_straight_requests_of_a_device() {
        let face = SlotFace::new();
        assert!(!face.is_straight_of(0) && !face.is_straight_of(7));
        for _ in 0..2 {
            face.open(1, 7 | 9 << 32, 4096);
            assert!(face.is_straight_of(7) && face.is_straight_of(9));
            assert!(!face.is_straight_of(8));
            face.close();
            assert!(!face.is_straight_of(7) && !face.is_straight_of(9));
        }
        face.open(2, 7 | 9 << 32, 4096);
        face.set_counted();
        assert!(!face.is_straight_of(7) && !face.is_straight_of(9));
        face.close_and_reset();
        face.open(3, 7, 4096);
        assert!(face.is_straight_of(7), "the mark went with its request");
    }
}
