//! The lane: a stack of command indices, many producers, one consumer.
//!
//! One word is the whole state: empty, empty and armed, or the newest node.
//! Only read-modify-writes change it, so a push and an arm cannot pass each
//! other unseen. The consumer takes everything with one swap, so the reuse of
//! an index (ABA) is harmless: a stale `next` can only name the node that is
//! at the head again.

use super::sync::{AtomicU32, Ordering};

/// Nothing pushed, nobody to wake. Also ends a chain.
const EMPTY: u32 = 0;
/// Nothing pushed; the next push takes the arm and rings.
const ARMED: u32 = u32::MAX;
/// All other values are an index plus one, and this bit if no node is below.
/// Then the link is neither written nor read: an owner that keeps up with its
/// producer shares one cache line with it per command, not two.
const LAST: u32 = 1 << 31;

/// Keeps what producers hammer away from what everyone only reads. 128: x86
/// fetches lines in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Apart<T>(T);

/// Carries indices from any thread to the queue's owner.
///
/// An index may be pushed again only after a drain delivered it. Breaking that
/// can lose or repeat deliveries, never more than `nodes` of them per drain,
/// and nothing else.
#[derive(Debug)]
pub struct Lane {
    head: Apart<AtomicU32>,
    next: Box<[AtomicU32]>,
}

impl Lane {
    /// A lane for the indices below `nodes`.
    pub fn new(nodes: u32) -> Lane {
        let nodes = nodes.min(LAST - 2);
        Lane {
            head: Apart(AtomicU32::new(EMPTY)),
            next: (0..nodes).map(|_| AtomicU32::new(EMPTY)).collect(),
        }
    }

    /// Pushes one index; any thread. What was written before is visible to the
    /// owner when it is delivered. True: the lane was armed, and this caller,
    /// alone, must ring. An index out of range is ignored.
    #[must_use = "true means that the owner may sleep and must be rung"]
    pub fn push(&self, node: u32) -> bool {
        match self.next.get(node as usize) {
            Some(link) => self.publish(node + 1, link, LAST),
            None => false,
        }
    }

    /// Pushes many with one atomic step; delivered in the slice's order.
    /// Otherwise as [`push`](Lane::push).
    #[must_use = "true means that the owner may sleep and must be rung"]
    pub fn push_many(&self, nodes: &[u32]) -> bool {
        // The newest is the head: each links to the one before it in the slice.
        let mut first = None;
        let mut newest = EMPTY;
        for &node in nodes {
            if let Some(link) = self.next.get(node as usize) {
                if first.is_none() {
                    first = Some(link);
                } else {
                    link.store(newest, Ordering::Relaxed);
                }
                newest = node + 1;
            }
        }
        first.is_some_and(|first| self.publish(newest, first, 0))
    }

    /// Puts a chain that begins with `newest` and ends at `oldest` on top; `alone`
    /// is the bit for a chain of one with nothing below.
    fn publish(&self, newest: u32, oldest: &AtomicU32, alone: u32) -> bool {
        // A guess and not a load, which would fetch the line once to read and
        // again to write. A wrong guess costs a retry on a line that is here.
        let mut head = EMPTY;
        loop {
            let bare = matches!(head, EMPTY | ARMED);
            let last = if bare { alone } else { 0 };
            if last == 0 {
                oldest.store(if bare { EMPTY } else { head }, Ordering::Relaxed);
            }
            // Release: the links and the command's results. Every change of the
            // head is a read-modify-write, so the owner's swap synchronises
            // with all the pushes below it too, not just with the last.
            match self.head.0.compare_exchange_weak(
                head,
                newest | last,
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return head == ARMED,
                Err(now) => head = now,
            }
        }
    }

    /// The owner's quick look, one relaxed load. "Not empty" is certain, "empty"
    /// may be old; [`arm`](Lane::arm) is the look before sleep.
    pub fn is_empty(&self) -> bool {
        matches!(self.head.0.load(Ordering::Relaxed), EMPTY | ARMED)
    }

    /// Whether nothing is pushed, by one relaxed load that may be old; false for an
    /// armed lane too.
    #[inline(always)]
    pub fn is_idle(&self) -> bool {
        self.head.0.load(Ordering::Relaxed) == EMPTY
    }

    /// Takes all, hands them to `f` oldest first, and says how many; the owner
    /// only. `f` may cause the index it was given to be pushed again. An empty
    /// lane stays armed; one that is not has lost its arm to a push.
    pub fn drain(&self, f: impl FnMut(u32)) -> u32 {
        self.drain_foreseen(|_| (), f)
    }

    /// As [`drain`](Lane::drain), and tells `foresee` each index once before the
    /// first goes to `f`, newest first.
    pub fn drain_foreseen(&self, foresee: impl Fn(u32), mut f: impl FnMut(u32)) -> u32 {
        if self.is_empty() {
            return 0;
        }
        // Only pushes make it non-empty and only this empties it, so what is
        // swapped out is a chain.
        let mut node = self.head.0.swap(EMPTY, Ordering::Acquire);

        // Turn the chain round. Counted, because a repeated push makes a ring.
        let mut newer = EMPTY;
        let mut count = 0;
        while let Some(link) = self.link(node)
            && (count as usize) < self.next.len()
        {
            let older = follow(node, link);
            foresee((node & !LAST) - 1);
            if newer == EMPTY {
                newer = node | LAST;
            } else {
                link.store(newer, Ordering::Relaxed);
                newer = node & !LAST;
            }
            node = older;
            count += 1;
        }

        node = newer;
        let mut delivered = 0;
        while let Some(link) = self.link(node)
            && delivered < count
        {
            // Before f: afterwards the link may be a producer's again.
            let newer = follow(node, link);
            delivered += 1;
            f((node & !LAST) - 1);
            node = newer;
        }
        delivered
    }

    /// Arms an empty lane; the owner only, idempotent. True: it is not empty,
    /// and not armed.
    #[must_use = "true means that there is something to drain before sleeping"]
    pub fn arm(&self) -> bool {
        match self
            .head
            .0
            .compare_exchange(EMPTY, ARMED, Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(_) => false,
            Err(now) => now != ARMED,
        }
    }

    /// Takes the arm back, unless a push has taken it; the owner only.
    pub fn disarm(&self) {
        // A failure means: not armed, or a push was first and rings once more.
        let _ = self
            .head
            .0
            .compare_exchange(ARMED, EMPTY, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn link(&self, node: u32) -> Option<&AtomicU32> {
        self.next.get(((node & !LAST) as usize).wrapping_sub(1))
    }
}

/// The value that a node's link stands for.
fn follow(node: u32, link: &AtomicU32) -> u32 {
    if node & LAST == 0 {
        link.load(Ordering::Relaxed)
    } else {
        EMPTY
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64};

    use super::*;

    fn drained(lane: &Lane) -> Vec<u32> {
        let mut got = Vec::new();
        let count = lane.drain(|node| got.push(node));
        assert_eq!(count as usize, got.len());
        got
    }

    #[test]
    fn delivers_in_order() {
        let lane = Lane::new(8);
        assert!(lane.is_empty());
        assert!(!lane.push(3) && !lane.push(0));
        assert!(!lane.push_many(&[7, 2, 5]));
        assert!(!lane.push(1));
        assert!(!lane.is_empty());
        assert_eq!(drained(&lane), [3, 0, 7, 2, 5, 1]);
        assert!(lane.is_empty());
        assert!(drained(&lane).is_empty());
    }

    #[test]
    fn one_push_takes_the_arm() {
        let lane = Lane::new(4);
        assert!(!lane.arm() && !lane.arm());
        assert!(lane.is_empty());
        assert!(drained(&lane).is_empty(), "an empty drain keeps the arm");
        assert!(lane.push(0));
        assert!(!lane.push(1));
        assert!(lane.arm(), "not empty");
        assert_eq!(drained(&lane), [0, 1]);
        assert!(!lane.push(2), "the arm is gone");
        assert_eq!(drained(&lane), [2]);
        assert!(!lane.arm());
        assert!(lane.push_many(&[3, 2]));
        lane.disarm();
        assert_eq!(drained(&lane), [3, 2]);
        assert!(!lane.arm());
        lane.disarm();
        assert!(!lane.push(0));
    }

    #[test]
    fn out_of_range_is_ignored() {
        let lane = Lane::new(2);
        assert!(!lane.arm());
        for node in [2, 3, u32::MAX - 1, u32::MAX] {
            assert!(!lane.push(node));
        }
        assert!(!lane.push_many(&[2, u32::MAX]) && !lane.push_many(&[]));
        assert!(lane.is_empty());
        assert!(lane.push_many(&[9, 1, u32::MAX, 0, 2]));
        assert_eq!(drained(&lane), [1, 0]);

        let none = Lane::new(0);
        assert!(!none.push(0) && !none.arm() && drained(&none).is_empty());
    }

    #[test]
    fn repeated_pushes_stay_bounded() {
        let sequences: [&[u32]; 5] = [
            &[0, 0],
            &[0, 1, 0],
            &[2, 0, 1, 0, 2],
            &[1, 1, 1, 1, 1],
            &[0, 1, 2, 1, 0, 2, 2],
        ];
        for sequence in sequences {
            let lane = Lane::new(3);
            for &node in sequence {
                let _ = lane.push(node);
            }
            assert!(drained(&lane).len() <= 3, "{sequence:?}");
            let _ = lane.push_many(sequence);
            assert!(drained(&lane).len() <= 3, "{sequence:?}");
            assert!(lane.is_empty());
            assert!(!lane.push(1));
            assert_eq!(drained(&lane), [1], "usable afterwards");
        }
    }

    #[test]
    fn pushing_again_while_draining() {
        let lane = Lane::new(3);
        let _ = lane.push_many(&[0, 1, 2]);
        let mut got = Vec::new();
        lane.drain(|node| {
            got.push(node);
            let _ = lane.push(node);
        });
        assert_eq!(got, [0, 1, 2]);
        assert_eq!(drained(&lane), [0, 1, 2]);
    }

    /// Each node carries a generation, so a lost and a doubled one cannot
    /// cancel out; the payload proves that the push published it.
    #[test]
    fn threads_lose_and_repeat_nothing() {
        const PRODUCERS: u32 = 3;
        const EACH: u32 = 16;
        const ROUNDS: u64 = 20_000;
        let lane = Lane::new(PRODUCERS * EACH);
        let free: Vec<AtomicBool> = (0..PRODUCERS * EACH)
            .map(|_| AtomicBool::new(true))
            .collect();
        let payload: Vec<AtomicU64> = (0..PRODUCERS * EACH).map(|_| AtomicU64::new(0)).collect();
        std::thread::scope(|scope| {
            for producer in 0..PRODUCERS {
                let (lane, free, payload) = (&lane, &free, &payload);
                scope.spawn(move || {
                    for round in 1..=ROUNDS {
                        for k in 0..EACH {
                            let node = producer * EACH + k;
                            while !free[node as usize].swap(false, Ordering::Acquire) {
                                std::thread::yield_now();
                            }
                            payload[node as usize].store(round, Ordering::Relaxed);
                            let _ = lane.push(node);
                        }
                    }
                });
            }
            let mut seen = vec![0u64; (PRODUCERS * EACH) as usize];
            let mut left = ROUNDS * u64::from(PRODUCERS * EACH);
            while left > 0 {
                let count = lane.drain(|node| {
                    let node = node as usize;
                    seen[node] += 1;
                    assert_eq!(payload[node].load(Ordering::Relaxed), seen[node]);
                    free[node].store(true, Ordering::Release);
                });
                left -= u64::from(count);
                if count == 0 {
                    std::thread::yield_now();
                }
            }
            assert!(seen.iter().all(|&n| n == ROUNDS));
        });
        assert!(lane.is_empty());
    }
}
