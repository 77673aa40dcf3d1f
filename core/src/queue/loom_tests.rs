//! The lane and the bell under loom: the shipped code, all interleavings (with
//! bounded preemption where they are too many). A lost wake-up shows as a
//! deadlock of the sleeping owner.

use loom::{
    cell::UnsafeCell,
    model::Builder,
    sync::Arc,
    thread::{self, JoinHandle},
};

use super::{Bell, Lane, Ringer};

/// What a producer leaves behind a node. A push that does not publish it is
/// a data race to loom.
struct Slots(Vec<UnsafeCell<u32>>);

// SAFETY: a node's slot is written before its push by the one thread that owns
// the node, and read after its delivery; loom checks exactly this claim.
unsafe impl Sync for Slots {}

impl Slots {
    fn new(n: u32) -> Slots {
        Slots((0..n).map(|_| UnsafeCell::new(0)).collect())
    }

    fn fill(&self, node: u32) {
        // SAFETY: see the impl of Sync.
        self.0[node as usize].with_mut(|p| unsafe { *p = node + 100 });
    }

    fn check(&self, node: u32) {
        // SAFETY: see the impl of Sync.
        self.0[node as usize].with(|p| assert_eq!(unsafe { *p }, node + 100));
    }
}

struct Shared {
    lane: Lane,
    slots: Slots,
}

fn shared(n: u32) -> Arc<Shared> {
    Arc::new(Shared {
        lane: Lane::new(n),
        slots: Slots::new(n),
    })
}

/// Pushes each group at once (one alone by `push`), in order; counts the rings.
fn producer(
    shared: &Arc<Shared>,
    ringer: Option<Ringer>,
    groups: &'static [&'static [u32]],
) -> JoinHandle<u32> {
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        let mut rings = 0;
        for group in groups {
            group.iter().for_each(|&node| shared.slots.fill(node));
            let ring = match group {
                [node] => shared.lane.push(*node),
                many => shared.lane.push_many(many),
            };
            if ring {
                rings += 1;
                if let Some(ringer) = &ringer {
                    ringer.ring();
                }
            }
        }
        rings
    })
}

fn drain(shared: &Shared, got: &mut Vec<u32>) -> u32 {
    shared.lane.drain(|node| {
        shared.slots.check(node);
        got.push(node);
    })
}

/// Each exactly once, and those of one producer in its order.
fn assert_delivered(got: &[u32], producers: &[&[u32]]) {
    assert_eq!(
        got.len(),
        producers.iter().map(|p| p.len()).sum::<usize>(),
        "{got:?}"
    );
    for expected in producers {
        let own: Vec<u32> = got
            .iter()
            .copied()
            .filter(|n| expected.contains(n))
            .collect();
        assert_eq!(own, *expected);
    }
}

fn explore(preemptions: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(model);
}

#[test]
fn lane_delivers_each_once_in_order() {
    explore(Some(4), || {
        let shared = shared(4);
        let a = producer(&shared, None, &[&[0], &[1]]);
        let b = producer(&shared, None, &[&[2], &[3]]);
        let mut got = Vec::new();
        drain(&shared, &mut got);
        drain(&shared, &mut got);
        assert_eq!(a.join().unwrap() + b.join().unwrap(), 0, "never armed");
        drain(&shared, &mut got);
        assert_delivered(&got, &[&[0, 1], &[2, 3]]);
    });
}

#[test]
fn lane_push_many_is_one_step() {
    explore(Some(4), || {
        let shared = shared(5);
        let a = producer(&shared, None, &[&[0, 1, 2]]);
        let b = producer(&shared, None, &[&[3], &[4]]);
        let mut got = Vec::new();
        drain(&shared, &mut got);
        assert!([0, 3].contains(&got.iter().filter(|n| **n < 3).count()));
        a.join().unwrap();
        b.join().unwrap();
        drain(&shared, &mut got);
        assert_delivered(&got, &[&[0, 1, 2], &[3, 4]]);
        let first = got.iter().position(|n| *n == 0).unwrap();
        assert_eq!(got[first..first + 3], [0, 1, 2]);
    });
}

/// The owner hands a node back and it is pushed again, while another producer
/// may hold a stale head: ABA.
#[test]
fn lane_survives_reuse() {
    explore(Some(3), || {
        let shared = shared(3);
        let a = producer(&shared, None, &[&[1], &[2]]);
        let mut got = Vec::new();
        shared.slots.fill(0);
        let mut zeros = 0;
        for _ in 0..2 {
            assert!(!shared.lane.push(0));
            let before = got.len();
            drain(&shared, &mut got);
            zeros += got[before..].iter().filter(|n| **n == 0).count();
        }
        assert_eq!(zeros, 2);
        a.join().unwrap();
        drain(&shared, &mut got);
        got.retain(|n| *n != 0);
        assert_delivered(&got, &[&[1, 2]]);
    });
}

#[test]
fn lane_rings_once_per_arming() {
    explore(None, || {
        let shared = shared(3);
        let a = producer(&shared, None, &[&[0], &[1]]);
        let b = producer(&shared, None, &[&[2]]);
        let refused = shared.lane.arm();
        let rings = a.join().unwrap() + b.join().unwrap();
        // Pushes after the arm find it and one takes it; if all were before,
        // the arm saw them.
        assert_eq!(rings, u32::from(!refused));
        let mut got = Vec::new();
        drain(&shared, &mut got);
        assert_delivered(&got, &[&[0, 1], &[2]]);
    });
}

/// An arm taken back races with a push that takes it: never more rings than
/// arms, and nothing is lost.
#[test]
fn lane_disarm_races_with_push() {
    explore(Some(3), || {
        let shared = shared(2);
        let a = producer(&shared, None, &[&[0]]);
        let b = producer(&shared, None, &[&[1]]);
        let mut got = Vec::new();
        let armed = u32::from(!shared.lane.arm());
        shared.lane.disarm();
        drain(&shared, &mut got);
        assert!(a.join().unwrap() + b.join().unwrap() <= armed);
        drain(&shared, &mut got);
        got.sort_unstable();
        assert_eq!(got, [0, 1]);
        assert!(!shared.lane.push(0), "no arm is left");
    });
}

/// The owner sleeps whenever the fd is unreadable, drains when it wakes, and
/// takes `at_once` nodes per poll as a nested event loop does.
fn owner(shared: &Arc<Shared>, bell: &mut Bell, total: usize, at_once: usize) -> Vec<u32> {
    let mut got = Vec::new();
    let mut taken = 0;
    if bell.arm(&shared.lane, false) {
        assert!(bell.is_readable());
    }
    while taken < total {
        bell.sleep();
        drain(shared, &mut got);
        taken = got.len().min(taken + at_once);
        bell.settle(&shared.lane, taken < got.len());
        assert!(taken == got.len() || bell.is_readable());
    }
    got
}

/// With all rings landed, an idle armed bell must be quiet: no busy loop.
fn assert_quiet(shared: &Shared, bell: &mut Bell) {
    bell.settle(&shared.lane, false);
    assert!(bell.is_armed() && !bell.is_readable());
    bell.disarm(&shared.lane);
    assert!(!bell.is_readable() && !shared.lane.push(0));
}

#[test]
fn bell_wakes_for_one_producer() {
    explore(None, || {
        let shared = shared(2);
        let mut bell = Bell::new().unwrap();
        let a = producer(&shared, Some(bell.ringer()), &[&[0], &[1]]);
        let got = owner(&shared, &mut bell, 2, usize::MAX);
        a.join().unwrap();
        assert_delivered(&got, &[&[0, 1]]);
        assert_quiet(&shared, &mut bell);
    });
}

#[test]
fn bell_wakes_for_two_producers() {
    explore(Some(3), || {
        let shared = shared(3);
        let mut bell = Bell::new().unwrap();
        let a = producer(&shared, Some(bell.ringer()), &[&[0], &[1]]);
        let b = producer(&shared, Some(bell.ringer()), &[&[2]]);
        let got = owner(&shared, &mut bell, 3, usize::MAX);
        a.join().unwrap();
        b.join().unwrap();
        assert_delivered(&got, &[&[0, 1], &[2]]);
        assert_quiet(&shared, &mut bell);
    });
}

#[test]
fn bell_wakes_when_one_is_taken_at_a_time() {
    explore(Some(2), || {
        let shared = shared(4);
        let mut bell = Bell::new().unwrap();
        let a = producer(&shared, Some(bell.ringer()), &[&[0, 1]]);
        let b = producer(&shared, Some(bell.ringer()), &[&[2], &[3]]);
        let got = owner(&shared, &mut bell, 4, 1);
        a.join().unwrap();
        b.join().unwrap();
        assert_delivered(&got, &[&[0, 1], &[2, 3]]);
        assert_quiet(&shared, &mut bell);
    });
}

/// Between two armings the owner polls without sleeping; a ring of the first
/// may come during the second, and must not eat the second's.
#[test]
fn bell_survives_disarm_and_late_rings() {
    explore(Some(3), || {
        let shared = shared(3);
        let mut bell = Bell::new().unwrap();
        let a = producer(&shared, Some(bell.ringer()), &[&[0]]);
        let b = producer(&shared, Some(bell.ringer()), &[&[1], &[2]]);
        let mut got = Vec::new();
        bell.arm(&shared.lane, false);
        drain(&shared, &mut got);
        bell.disarm(&shared.lane);
        bell.settle(&shared.lane, !got.is_empty());
        let left = 3 - got.len();
        got.extend(owner(&shared, &mut bell, left, usize::MAX));
        a.join().unwrap();
        b.join().unwrap();
        assert_delivered(&got, &[&[0], &[1, 2]]);
        assert_quiet(&shared, &mut bell);
    });
}
