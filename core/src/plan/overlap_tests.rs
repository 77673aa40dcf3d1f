//! The checks against every pair of ranges, and slices against one go.

use proptest::prelude::*;
use xcopy_abi::xcopy_range;

use super::{Finding, Scan, Source, check_small};

fn range(src_offset: u64, dst_offset: u64, length: u64) -> xcopy_range {
    xcopy_range {
        src_offset,
        dst_offset,
        length,
    }
}

fn plain(ranges: &[xcopy_range]) -> Source<'_> {
    Source {
        ranges,
        src_base: 0,
        dst_base: 0,
    }
}

fn scan(source: &Source, same: Option<i128>, disjoint: bool, budget: u64) -> (Finding, u64) {
    let mut scan = Scan::new(source.ranges.len() as u64, same, disjoint);
    loop {
        if let Some(finding) = scan.step(source, budget) {
            assert_eq!(scan.step(source, budget), Some(finding), "the answer stays");
            return (finding, scan.total_bytes());
        }
    }
}

fn share(a: (i128, i128), b: (i128, i128)) -> bool {
    a.0 < b.1 && b.0 < a.1
}

/// Indices of all ranges that take part in an overlap.
fn guilty(source: &Source, same: Option<i128>) -> Vec<u64> {
    let dst = |r: &xcopy_range| {
        let start = i128::from(source.dst_base) + i128::from(r.dst_offset);
        (start, start + i128::from(r.length))
    };
    let src = |r: &xcopy_range, delta: i128| {
        let start = i128::from(source.src_base) + i128::from(r.src_offset) + delta;
        (start, start + i128::from(r.length))
    };
    let mut found = Vec::new();
    for (i, a) in source.ranges.iter().enumerate() {
        for (j, b) in source.ranges.iter().enumerate() {
            let twice = i != j && share(dst(a), dst(b));
            if twice || same.is_some_and(|delta| share(src(a, delta), dst(b))) {
                found.extend([i as u64, j as u64]);
            }
        }
    }
    found
}

/// Valid ranges: `spread` makes overlap rare or common, `order` how the
/// destinations lie.
fn ranges(max: usize) -> impl Strategy<Value = Vec<xcopy_range>> {
    let list = prop::collection::vec((0u64..100_000, 0u64..100_000, 1u64..60), 1..max);
    (
        list,
        0u8..4,
        prop_oneof![Just(1u64), Just(100)],
        any::<bool>(),
    )
        .prop_map(|(mut list, order, shrink, src_ascends)| {
            let mut at = 0;
            for (src, dst, length) in &mut list {
                *src /= shrink;
                if src_ascends {
                    *src = 50_000 + at;
                }
                if order != 0 {
                    // Disjoint by construction, then perhaps disturbed.
                    *dst = at + *dst % 3;
                    at = *dst + *length;
                } else {
                    *dst /= shrink;
                }
            }
            if order == 2 {
                list.reverse();
            }
            if order == 3 {
                let last = list.len() - 1;
                list.swap(last / 3, last);
            }
            list.into_iter()
                .map(|(src, dst, length)| range(src, dst, length))
                .collect()
        })
}

fn same_storage() -> impl Strategy<Value = Option<i128>> {
    prop_oneof![
        Just(None),
        Just(Some(0)),
        (-100_000i128..100_000).prop_map(Some),
        Just(Some(i128::MAX)),
        Just(Some(i128::MIN)),
    ]
}

fn agrees(source: &Source, same: Option<i128>, finding: Finding) {
    // Widened as the checks do: an absurd delta must not overflow the model.
    let same = same.map(|delta| delta.clamp(-(1 << 70), 1 << 70));
    let guilty = guilty(source, same);
    match finding {
        Finding::Clean => assert!(guilty.is_empty(), "missed {guilty:?}"),
        Finding::Overlap { index } => assert!(guilty.contains(&index), "{index} is innocent"),
        other => panic!("{other:?} of valid ranges"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn small_lists_agree_with_every_pair(
        ranges in ranges(17), bases in (0u64..1000, 0u64..1000), same in same_storage(),
    ) {
        let source = Source { ranges: &ranges, src_base: bases.0, dst_base: bases.1 };
        let small = check_small(&source, same);
        agrees(&source, same, small);
        let (long, _) = scan(&source, same, false, 7);
        prop_assert_eq!(small == Finding::Clean, long == Finding::Clean);
    }

    #[test]
    fn long_lists_agree_with_every_pair_in_any_slices(
        ranges in ranges(200), bases in (0u64..1000, 0u64..1000), same in same_storage(),
        budget in 1u64..300,
    ) {
        let source = Source { ranges: &ranges, src_base: bases.0, dst_base: bases.1 };
        let (finding, total) = scan(&source, same, false, u64::MAX);
        agrees(&source, same, finding);
        let sliced = scan(&source, same, false, budget);
        prop_assert_eq!(finding, sliced.0);
        if finding == Finding::Clean {
            prop_assert_eq!(total, sliced.1);
            prop_assert_eq!(total, ranges.iter().map(|range| range.length).sum::<u64>());
        }
    }

    #[test]
    fn one_source_that_touches_one_destination_is_found(
        order in prop_oneof![
            (1u64..120).prop_map(|n| (0..n).collect::<Vec<_>>()),
            (1u64..120).prop_map(|n| (0..n).rev().collect::<Vec<_>>()),
            (1u64..120).prop_flat_map(|n| Just((0..n).collect::<Vec<_>>()).prop_shuffle()),
        ],
        culprit in any::<prop::sample::Index>(), early in any::<bool>(),
        sort in any::<bool>(), budget in 1u64..100,
    ) {
        // Destinations of 10 bytes with gaps of 10 that the sources fill exactly.
        let n = order.len() as u64;
        let mut ranges: Vec<_> = (0..)
            .zip(&order)
            .map(|(i, gap)| {
                let place = if sort { n - 1 - i } else { i };
                range(gap * 20 + 10, place * 20, 10)
            })
            .collect();
        ranges.push(range(n * 20 + 10, n * 20, 10));
        prop_assert_eq!(scan(&plain(&ranges), Some(0), false, budget).0, Finding::Clean);
        let culprit = culprit.index(order.len());
        ranges[culprit].src_offset = ranges[culprit].src_offset + 1 - 2 * u64::from(early);
        let expected = Finding::Overlap { index: culprit as u64 };
        prop_assert_eq!(scan(&plain(&ranges), Some(0), false, budget).0, expected);
    }

    #[test]
    fn the_callers_word_skips_overlap_only(ranges in ranges(40), same in same_storage()) {
        let source = plain(&ranges);
        let total = ranges.iter().map(|range| range.length).sum::<u64>();
        prop_assert_eq!(scan(&source, same, true, 3), (Finding::Clean, total));
    }

    #[test]
    fn empty_and_overflowing_ranges_are_named(
        mut ranges in prop::collection::vec(any::<[u64; 3]>(), 1..12),
        bases in any::<(u64, u64)>(), shift in 0u32..64, same in same_storage(),
    ) {
        ranges.iter_mut().flatten().for_each(|value| *value >>= shift);
        let ranges: Vec<_> = ranges.iter().map(|r| range(r[0], r[1], r[2])).collect();
        let source = Source { ranges: &ranges, src_base: bases.0, dst_base: bases.1 };
        let mut sum = 0u128;
        let mut expected = Finding::Clean;
        for (index, range) in (0u64..).zip(&ranges) {
            sum += u128::from(range.length);
            let src = u128::from(bases.0) + u128::from(range.src_offset);
            let dst = u128::from(bases.1) + u128::from(range.dst_offset);
            let largest = sum.max(src.max(dst) + u128::from(range.length));
            if range.length == 0 {
                expected = Finding::Empty { index };
                break;
            }
            if largest > u128::from(u64::MAX) {
                expected = Finding::Overflow { index };
                break;
            }
        }
        prop_assert_eq!(scan(&source, same, true, 2).0, expected);
        let small = check_small(&source, same);
        match expected {
            Finding::Clean => {
                let valid = matches!(small, Finding::Clean | Finding::Overlap { .. });
                prop_assert!(valid);
            }
            _ => prop_assert_eq!(small, expected),
        }
    }
}

fn ascending(n: u64) -> Vec<xcopy_range> {
    (0..n).map(|i| range(i * 8192, i * 8192, 4096)).collect()
}

#[test]
fn too_long_to_sort_must_ascend() {
    let mut ranges = ascending(4097);
    assert_eq!(scan(&plain(&ranges), None, false, 100).0, Finding::Clean);
    ranges.swap(4000, 4001);
    let found = scan(&plain(&ranges), None, false, 100).0;
    assert_eq!(found, Finding::NotAscending { index: 4001 });
    assert_eq!(scan(&plain(&ranges), None, true, 100).0, Finding::Clean);
    ranges[4001].dst_offset = ranges[4000].dst_offset - 4095;
    let found = scan(&plain(&ranges), None, false, 100).0;
    assert_eq!(
        found,
        Finding::Overlap { index: 4001 },
        "overlap is the better reason"
    );
    ranges[4001].dst_offset = ranges[4000].dst_offset - 8192;
    ranges.remove(0);
    assert_eq!(
        scan(&plain(&ranges), None, false, 100).0,
        Finding::Clean,
        "4,096 are sorted"
    );
    ranges[4095].dst_offset = ranges[7].dst_offset + 4095;
    let found = scan(&plain(&ranges), None, false, 100).0;
    assert_eq!(found, Finding::Overlap { index: 4095 });
}

#[test]
fn one_culprit_in_a_long_ascending_list_is_found() {
    // Sources in the gaps of the destinations, far apart in order.
    let mut ranges = ascending(100_000);
    let n = ranges.len() as u64;
    for (i, range) in (0u64..).zip(&mut ranges) {
        range.src_offset = (i * 7919 % n) * 8192 + 4096;
    }
    assert_eq!(
        scan(&plain(&ranges), Some(0), false, 1000).0,
        Finding::Clean
    );
    assert_eq!(scan(&plain(&ranges), None, false, 1000).0, Finding::Clean);
    ranges[77_777].src_offset += 1;
    let found = scan(&plain(&ranges), Some(0), false, 1000).0;
    assert_eq!(found, Finding::Overlap { index: 77_777 });
}

#[test]
fn touching_is_not_overlapping() {
    let ranges = [range(0, 4096, 4096), range(8192, 12288, 4096)];
    assert_eq!(check_small(&plain(&ranges), Some(0)), Finding::Clean);
    assert_eq!(
        check_small(&plain(&ranges), Some(1)),
        Finding::Overlap { index: 0 }
    );
    let onto_itself = [range(0, 0, 1)];
    assert_eq!(
        check_small(&plain(&onto_itself), Some(0)),
        Finding::Overlap { index: 0 }
    );
    assert_eq!(check_small(&plain(&onto_itself), None), Finding::Clean);
    assert_eq!(check_small(&plain(&[]), Some(0)), Finding::Clean);
}

#[test]
fn a_list_that_shrinks_between_slices_is_no_panic() {
    let mut ranges = ascending(1000);
    ranges.reverse();
    let mut check = Scan::new(1000, Some(0), false);
    while ranges.len() > 1 {
        if check.step(&plain(&ranges), 40).is_some() {
            break;
        }
        ranges.pop();
    }
}
