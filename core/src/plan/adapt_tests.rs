//! Size and depth under any sequence of results.

use proptest::prelude::*;
use xcopy_abi::xcopy_limits;

use super::Adapt;

const MIB: u64 = 1 << 20;

fn size() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0u64), 1u64..100_000, MIB / 2..64 * MIB, any::<u64>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn limits_and_forced_values_hold_after_any_results(
        (preferred_bytes, max_bytes) in (size(), size()),
        max_concurrent in prop_oneof![Just(0u32), 1u32..100],
        (forced_chunk, forced_depth) in (size(), prop_oneof![Just(0u32), 1u32..1000]),
        host in any::<bool>(),
        results in prop::collection::vec((0u8..5, size()), 0..200),
    ) {
        let limits = xcopy_limits {
            preferred_bytes, max_bytes, max_concurrent, ..Default::default()
        };
        let max = if max_bytes == 0 { u64::MAX } else { max_bytes };
        let mut adapt = Adapt::new(&limits, host, forced_chunk, forced_depth);
        let mut refused = u64::MAX;
        for (result, bytes) in results {
            let full = adapt.chunk();
            match result {
                0 => adapt.succeeded(bytes),
                1 => adapt.succeeded(full),
                2 => adapt.busy(),
                3 => {
                    adapt.too_large(bytes);
                    refused = refused.min(bytes.max(2));
                }
                _ => {
                    let word = adapt.pack();
                    let again = Adapt::unpack(word, &limits, host, forced_chunk, forced_depth);
                    prop_assert!(again.chunk() <= adapt.chunk());
                    prop_assert!(again.chunk() >= adapt.chunk() - (adapt.chunk() >> 16));
                    prop_assert_eq!(again.depth(), adapt.depth());
                    adapt = again;
                }
            }
            let chunk = adapt.chunk();
            prop_assert!(chunk >= 1 && chunk <= max && chunk < refused);
            prop_assert!(adapt.depth() >= 1);
            if forced_chunk == 0 {
                let top = if preferred_bytes == 0 { 16 * MIB } else { preferred_bytes };
                prop_assert!(chunk <= top);
            } else {
                prop_assert!(chunk <= forced_chunk);
                prop_assert!(refused != u64::MAX || chunk == forced_chunk.min(max));
            }
            match (forced_depth, max_concurrent) {
                (0, 0) => prop_assert!(adapt.depth() <= 64),
                (0, stated) => prop_assert!(adapt.depth() <= stated),
                (forced, _) => prop_assert_eq!(adapt.depth(), forced),
            }
        }
    }

    #[test]
    fn any_word_is_taken(word in any::<u64>(), max_bytes in size(), forced in size()) {
        let limits = xcopy_limits { max_bytes, ..Default::default() };
        let adapt = Adapt::unpack(word, &limits, false, forced, 0);
        prop_assert!(adapt.chunk() >= 1 && (max_bytes == 0 || adapt.chunk() <= max_bytes));
        prop_assert!(adapt.depth() >= 1 && adapt.depth() <= 64);
    }
}

#[test]
fn starts_small_and_doubles_on_full_size_only() {
    let mut adapt = Adapt::new(&xcopy_limits::default(), false, 0, 0);
    assert_eq!((adapt.chunk(), adapt.depth()), (MIB, 4));
    adapt.succeeded(4096);
    assert_eq!((adapt.chunk(), adapt.depth()), (MIB, 5));
    adapt.succeeded(MIB);
    assert_eq!(adapt.chunk(), 2 * MIB);
    // Sent before the doubling: no proof that twice as much works.
    adapt.succeeded(MIB);
    assert_eq!(adapt.chunk(), 2 * MIB);
    for _ in 0..100 {
        adapt.succeeded(adapt.chunk());
    }
    assert_eq!((adapt.chunk(), adapt.depth()), (16 * MIB, 64));
    adapt.busy();
    assert_eq!((adapt.chunk(), adapt.depth()), (16 * MIB, 32));
}

#[test]
fn a_burst_of_refusals_halves_once() {
    let limits = xcopy_limits {
        preferred_bytes: 64 * MIB,
        ..Default::default()
    };
    let mut adapt = Adapt::new(&limits, false, 0, 0);
    for _ in 0..4 {
        adapt.succeeded(adapt.chunk());
    }
    assert_eq!(adapt.chunk(), 16 * MIB);
    for _ in 0..8 {
        adapt.too_large(16 * MIB);
    }
    assert_eq!(adapt.chunk(), 8 * MIB);
    adapt.succeeded(8 * MIB);
    assert_eq!(adapt.chunk(), 8 * MIB, "the ceiling is remembered");
    let again = Adapt::unpack(adapt.pack(), &limits, false, 0, 0);
    assert_eq!(again, adapt);
}

#[test]
fn what_is_stated_or_forced_counts_at_once() {
    let limits = xcopy_limits {
        preferred_bytes: 65536,
        max_bytes: 131_072,
        max_concurrent: 16,
        ..Default::default()
    };
    let adapt = Adapt::new(&limits, true, 0, 0);
    assert_eq!((adapt.chunk(), adapt.depth()), (65536, 16));
    let mut forced = Adapt::new(&limits, true, 1 << 30, 40);
    assert_eq!((forced.chunk(), forced.depth()), (131_072, 40));
    forced.busy();
    assert_eq!(forced.depth(), 40);
    assert_eq!(Adapt::new(&xcopy_limits::default(), true, 0, 0).depth(), 8);
}

#[test]
fn a_forced_request_teaches_the_pair_nothing() {
    let limits = xcopy_limits::default();
    let learnt = {
        let mut adapt = Adapt::new(&limits, false, 0, 0);
        adapt.succeeded(MIB);
        adapt
    };
    let mut forced = Adapt::unpack(learnt.pack(), &limits, false, 4096, 1);
    assert_eq!((forced.chunk(), forced.depth()), (4096, 1));
    forced.succeeded(4096);
    assert_eq!(forced.pack(), learnt.pack());
    assert_eq!(
        Adapt::unpack(0, &limits, false, 0, 0),
        Adapt::new(&limits, false, 0, 0)
    );
}
