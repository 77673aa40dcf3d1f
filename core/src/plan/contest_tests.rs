//! The choice between two methods judged by regret, on a simulated clock.

use proptest::prelude::*;

use super::contest::{CONTEST_MIN, Contest, Rate, Turn};

const MIB: u64 = 1 << 20;

/// A method: nanoseconds for each command and for each MiB, and commands at once.
#[derive(Clone, Copy, Debug)]
struct Method {
    latency_ns: u64,
    mib_ns: u64,
    depth: u64,
}

impl Method {
    /// Time of `bytes` in commands of 1 MiB, `depth` at a time.
    fn time(self, bytes: u64) -> u64 {
        let commands = bytes.div_ceil(MIB);
        commands.div_ceil(self.depth) * self.latency_ns + bytes * self.mib_ns / MIB
    }
}

/// Total time of a request of `total` bytes by contest, and bytes of each side.
fn simulate(total: u64, methods: [Method; 2], known: [Option<Rate>; 2]) -> (u64, [u64; 2]) {
    let mut contest = Contest::new(known);
    let (mut now, mut copied, mut by) = (0, 0, [0; 2]);
    while copied < total {
        let Turn::Send(side, room) = contest.turn(copied, true, || now) else {
            panic!("nothing is in flight: there is nothing to drain");
        };
        let bytes = room.min(total - copied);
        assert!(bytes > 0, "a turn without bytes never ends");
        contest.sent(bytes, copied, || now);
        now += methods[side].time(bytes);
        copied += bytes;
        by[side] += bytes;
    }
    (now, by)
}

fn steady(mib_ns: u64) -> Method {
    Method {
        latency_ns: 0,
        mib_ns,
        depth: 1,
    }
}

fn regret(total: u64, methods: [Method; 2]) -> f64 {
    let (time, _) = simulate(total, methods, [None; 2]);
    time as f64 / methods.map(|m| m.time(total)).into_iter().min().unwrap() as f64
}

#[test]
fn regret_stays_within_a_tenth_from_256_mib_on() {
    for total in [256, 300, 512, 1024, 4096, 65_536].map(|n| n * MIB) {
        for slower in (100..=1600).step_by(7) {
            for pair in [[100, slower], [slower, 100]] {
                let regret = regret(total, pair.map(|n| steady(n * 10_000)));
                assert!(
                    regret <= 1.10,
                    "{pair:?} over {} MiB: {regret}",
                    total / MIB
                );
            }
        }
    }
}

#[test]
fn a_method_that_needs_depth_is_found_by_the_larger_trials() {
    // Slow alone, fast in company: behind in the first trial by less than CLEAR.
    let deep = Method {
        latency_ns: 3_000_000,
        mib_ns: 100_000,
        depth: 16,
    };
    let methods = [steady(1_000_000), deep];
    let total = 16_384 * MIB;
    let (time, by) = simulate(total, methods, [None; 2]);
    assert!(by[1] > by[0] * 8, "{by:?}");
    let best = methods.map(|m| m.time(total)).into_iter().min().unwrap();
    assert!(time as f64 <= best as f64 * 1.10, "{time} against {best}");
}

#[test]
fn what_is_known_saves_the_small_trials() {
    let methods = [steady(2_000_000), steady(1_000_000)];
    let known = methods.map(|m| {
        Some(Rate {
            bytes: MIB,
            ns: m.mib_ns,
        })
    });
    let (_, by) = simulate(CONTEST_MIN, methods, known);
    assert_eq!(by, [0, CONTEST_MIN]);
}

#[test]
fn a_method_that_became_faster_is_found_again() {
    let stale = [
        Some(Rate {
            bytes: MIB,
            ns: 2_000_000,
        }),
        Some(Rate {
            bytes: MIB,
            ns: 1_000_000,
        }),
    ];
    let (_, by) = simulate(8192 * MIB, [steady(100_000), steady(1_000_000)], stale);
    assert!(by[0] > by[1] * 4, "{by:?}");
}

#[test]
fn a_side_that_copies_nothing_loses() {
    let mut contest = Contest::new([None; 2]);
    assert_eq!(contest.turn(0, true, || 0), Turn::Send(0, MIB));
    contest.sent(MIB, 0, || 0);
    assert_eq!(contest.turn(0, false, || 5), Turn::Drain);
    assert_eq!(contest.turn(0, true, || 5), Turn::Send(1, MIB));
    contest.sent(MIB, 0, || 5);
    assert_eq!(contest.turn(MIB, true, || 10), Turn::Send(1, u64::MAX));
    assert_eq!(contest.leader(), 1);
}

proptest! {
    #[test]
    fn any_clock_and_any_counts_are_survived(
        known in prop::array::uniform2(prop::option::of((any::<u64>(), 1u64..))),
        steps in prop::collection::vec((any::<u64>(), any::<u64>(), any::<bool>(), any::<u64>()), 1..100),
    ) {
        let known = known.map(|k| k.map(|(bytes, ns)| Rate { bytes, ns }));
        let mut contest = Contest::new(known);
        for (copied, now, idle, bytes) in steps {
            if let Turn::Send(side, room) = contest.turn(copied, idle, || now) {
                prop_assert!(side < 2 && room > 0);
                contest.sent(bytes, copied, || now);
            }
        }
        for rate in contest.rates().into_iter().flatten() {
            prop_assert!(rate.bytes_per_second() > 0);
        }
    }
}
