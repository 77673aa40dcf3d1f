//! Properties of the next command, against a model that looks at each byte.

use proptest::prelude::*;
use xcopy_abi::{XCOPY_REASON_LIMITS, XCOPY_REASON_MISALIGNED, xcopy_limits, xcopy_range};

use super::{Cursor, Kind, Source, Step, next_command};

fn range(src_offset: u64, dst_offset: u64, length: u64) -> xcopy_range {
    xcopy_range {
        src_offset,
        dst_offset,
        length,
    }
}

#[derive(Clone, Debug)]
struct Case {
    ranges: Vec<xcopy_range>,
    src_base: u64,
    dst_base: u64,
    limits: xcopy_limits,
    chunk: u64,
    out: usize,
}

impl Case {
    fn source(&self) -> Source<'_> {
        Source {
            ranges: &self.ranges,
            src_base: self.src_base,
            dst_base: self.dst_base,
        }
    }

    fn total(&self) -> u64 {
        self.ranges.iter().map(|range| range.length).sum()
    }

    fn granularities(&self) -> [u64; 3] {
        let limits = &self.limits;
        [
            limits.src_granularity,
            limits.dst_granularity,
            limits.length_granularity,
        ]
        .map(|granularity| u64::from(granularity.max(1)))
    }

    /// The unit by trial, so that it shares no arithmetic with the planner.
    fn unit(&self) -> u64 {
        let all = self.granularities();
        (1..)
            .find(|unit| all.iter().all(|granularity| unit % granularity == 0))
            .unwrap()
    }

    fn max(limit: u64) -> u64 {
        if limit == 0 { u64::MAX } else { limit }
    }

    fn command_max(&self) -> u64 {
        Self::max(self.limits.max_bytes).min(Self::max(self.chunk))
    }

    fn range_max(&self) -> u64 {
        self.command_max()
            .min(Self::max(self.limits.max_range_bytes))
    }

    fn ranges_max(&self) -> usize {
        self.out.min(self.limits.max_ranges.max(1) as usize)
    }

    /// Source and destination of the byte at a linear position, and the bytes
    /// from there to the end of its range or to `end`.
    fn at(&self, position: u64, end: u64) -> (u64, u64, u64) {
        let mut before = position;
        for range in &self.ranges {
            if before < range.length {
                return (
                    self.src_base + range.src_offset + before,
                    self.dst_base + range.dst_offset + before,
                    (range.length - before).min(end - position),
                );
            }
            before -= range.length;
        }
        panic!("no byte at {position}");
    }

    /// Whether the method could start a range at a position.
    fn takes(&self, position: u64, end: u64) -> bool {
        let [src_granularity, dst_granularity, length_granularity] = self.granularities();
        let (src, dst, left) = self.at(position, end);
        src % src_granularity == 0 && dst % dst_granularity == 0 && left >= length_granularity
    }

    /// Plans from `cursor` to `end`, with every step checked.
    fn plan(&self, mut cursor: Cursor, end: u64) -> Vec<Step> {
        let mut out = vec![xcopy_range::default(); self.out];
        let mut steps = Vec::new();
        let mut position = cursor.position;
        while let Some(step) = next_command(
            &self.source(),
            &mut cursor,
            end,
            &self.limits,
            self.chunk,
            &mut out,
        ) {
            assert_eq!(step.start.position, position, "steps follow each other");
            assert!(step.bytes > 0);
            self.check(&step, end, &out[..step.ranges as usize]);
            position += step.bytes;
            assert_eq!(cursor.position, position);
            let mut walked = step.start;
            walked.advance(&self.ranges, step.bytes);
            assert_eq!(walked, cursor, "advance and planning walk alike");
            steps.push(step);
        }
        assert_eq!(position, end, "the whole request is planned");
        steps
    }

    fn check(&self, step: &Step, end: u64, out: &[xcopy_range]) {
        let start = step.start.position;
        let mut position = start;
        for piece in out {
            let (src, dst, left) = self.at(position, end);
            assert_eq!(
                (piece.src_offset, piece.dst_offset),
                (src, dst),
                "linear order"
            );
            assert!(piece.length > 0 && piece.length <= left);
            position += piece.length;
        }
        assert_eq!(position - start, step.bytes);
        assert!(step.bytes <= Self::max(self.chunk));
        match step.kind {
            Kind::Method => self.check_method(position, end, out),
            Kind::Host(reason) => {
                assert_eq!(out.len(), 1);
                if self.unit() > self.range_max() {
                    assert_eq!(reason, XCOPY_REASON_LIMITS);
                } else {
                    assert_eq!(reason, XCOPY_REASON_MISALIGNED);
                    for byte in start..position {
                        assert!(!self.takes(byte, end), "the method could take byte {byte}");
                    }
                }
            }
        }
    }

    fn check_method(&self, position: u64, end: u64, out: &[xcopy_range]) {
        let [src_granularity, dst_granularity, length_granularity] = self.granularities();
        let bytes: u64 = out.iter().map(|piece| piece.length).sum();
        assert!(self.unit() <= self.range_max());
        assert!(bytes <= self.command_max());
        assert!(out.len() <= self.ranges_max());
        for piece in out {
            assert!(piece.length <= self.range_max());
            assert_eq!(piece.src_offset % src_granularity, 0);
            assert_eq!(piece.dst_offset % dst_granularity, 0);
            assert_eq!(piece.length % length_granularity, 0);
        }
        let contiguous = self.limits.contiguous_dst == 1;
        let apart = |a: &xcopy_range, dst: u64| a.dst_offset + a.length != dst;
        for pair in out.windows(2) {
            assert!(!contiguous || !apart(&pair[0], pair[1].dst_offset));
        }
        if position == end {
            return;
        }
        // A cut may leave a tail to the host, but nothing that was aligned before.
        let (_, dst, left) = self.at(position, end);
        let last = out.last().unwrap();
        let within_a_range = self.at(position - 1, end).2 > 1;
        if within_a_range && left >= length_granularity {
            assert!(self.takes(position, end), "misaligned by a cut");
        }
        // Why did it end here?
        if out.len() == self.ranges_max() {
            return;
        }
        let room = (self.command_max() - bytes).min(self.range_max());
        let forced = (contiguous && apart(last, dst))
            || !self.takes(position, end)
            || (left - left % length_granularity > room && room < self.unit());
        assert!(
            forced,
            "{room} bytes and a range were left at {position} of {end}"
        );
    }
}

fn granularity() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0u32), Just(1), Just(2), Just(4), Just(8), 1u32..13]
}

fn limit() -> impl Strategy<Value = u64> {
    prop_oneof![2 => Just(0u64), 1 => 1u64..40, 3 => 24u64..400]
}

/// Half of the lists are aligned to a common stride, half of those contiguous.
fn ranges() -> impl Strategy<Value = Vec<xcopy_range>> {
    let stride = prop_oneof![Just(1u64), Just(8), Just(24), Just(60)];
    let list = prop::collection::vec((0u64..20, 0u64..20, 1u64..12), 1..24);
    (stride, list, any::<bool>()).prop_map(|(stride, list, contiguous)| {
        let mut dst = 0;
        list.into_iter()
            .map(|(src, gap, length)| {
                dst += if contiguous { 0 } else { gap * stride };
                let range = range(src * stride, dst, length * stride);
                dst += range.length;
                range
            })
            .collect()
    })
}

prop_compose! {
    fn case()(
        ranges in ranges(),
        (src_base, dst_base) in prop_oneof![Just((0u64, 0u64)), (0u64..200, 0u64..200)],
        (src_granularity, dst_granularity) in prop_oneof![
            granularity().prop_map(|one| (one, one)),
            (granularity(), granularity()),
        ],
        length_granularity in granularity(),
        (max_bytes, max_range_bytes, chunk) in (limit(), limit(), limit()),
        (max_ranges, contiguous_dst, out) in (0u32..12, 0u32..2, 1usize..12),
    ) -> Case {
        let limits = xcopy_limits {
            max_bytes, max_range_bytes, src_granularity, dst_granularity, length_granularity,
            max_ranges, contiguous_dst, ..xcopy_limits::default()
        };
        Case { ranges, src_base, dst_base, limits, chunk, out }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_byte_once_in_order_within_limits(case in case()) {
        case.plan(Cursor::default(), case.total());
    }

    #[test]
    fn any_part_can_be_planned_again(case in case(), other in case(), cuts in any::<[u64; 2]>()) {
        // Under the limits of another method, as after a failure.
        let total = case.total();
        let (a, b) = (cuts[0] % total, cuts[1] % total);
        let mut cursor = Cursor::default();
        cursor.advance(&case.ranges, a.min(b));
        assert_eq!(cursor.position, a.min(b));
        let again = Case { limits: other.limits, chunk: other.chunk, out: other.out, ..case };
        again.plan(cursor, a.max(b));
    }

    #[test]
    fn a_failed_step_is_planned_again_by_itself(case in case(), other in case()) {
        let steps = case.plan(Cursor::default(), case.total());
        let again = Case { limits: other.limits, chunk: other.chunk, out: other.out, ..case };
        for step in steps {
            again.plan(step.start, step.start.position + step.bytes);
        }
    }

    #[test]
    fn no_input_panics_or_loops(
        ranges in prop::collection::vec(any::<[u64; 3]>(), 0..8),
        (src_base, dst_base, end, chunk) in any::<(u64, u64, u64, u64)>(),
        cursor in (0u64..10, any::<u64>(), any::<u64>()),
        (max_bytes, max_range_bytes) in any::<(u64, u64)>(),
        grains in any::<[u32; 3]>(),
        (max_ranges, out) in (any::<u32>(), 0usize..8),
    ) {
        let ranges: Vec<_> = ranges.iter().map(|r| range(r[0], r[1], r[2])).collect();
        let source = Source { ranges: &ranges, src_base, dst_base };
        let limits = xcopy_limits {
            max_bytes, max_range_bytes, max_ranges, src_granularity: grains[0],
            dst_granularity: grains[1], length_granularity: grains[2], ..Default::default()
        };
        let mut out = vec![xcopy_range::default(); out];
        let mut cursor = Cursor { index: cursor.0, offset: cursor.1, position: cursor.2 };
        for _ in 0..100 {
            let before = cursor.position;
            match next_command(&source, &mut cursor, end, &limits, chunk, &mut out) {
                Some(step) => prop_assert!(step.bytes > 0 && cursor.position > before),
                None => break,
            }
        }
    }
}

fn first(source: &Source, limits: &xcopy_limits, chunk: u64) -> (Step, Vec<xcopy_range>) {
    let mut out = [xcopy_range::default(); 8];
    let end = source.ranges.iter().map(|range| range.length).sum();
    let step = next_command(source, &mut Cursor::default(), end, limits, chunk, &mut out).unwrap();
    (step, out[..step.ranges as usize].to_vec())
}

fn plain(ranges: &[xcopy_range]) -> Source<'_> {
    Source {
        ranges,
        src_base: 0,
        dst_base: 0,
    }
}

#[test]
fn nvme_limits_pack_ranges_of_one_contiguous_destination() {
    // MSSRL 8 blocks, MCL 32 blocks, MSRC 16 ranges, blocks of 4 KiB.
    let limits = xcopy_limits {
        max_bytes: 32 * 4096,
        max_range_bytes: 8 * 4096,
        src_granularity: 4096,
        dst_granularity: 4096,
        length_granularity: 4096,
        max_ranges: 16,
        contiguous_dst: 1,
        ..Default::default()
    };
    let ranges = [
        range(1 << 20, 0, 12 * 4096),
        range(5 << 20, 12 * 4096, 4096),
        range(6 << 20, 20 * 4096, 4096),
    ];
    let (step, out) = first(&plain(&ranges), &limits, 0);
    assert_eq!(step.kind, Kind::Method);
    let second = (1 << 20) + 8 * 4096;
    let expected = [
        range(1 << 20, 0, 8 * 4096),
        range(second, 8 * 4096, 4 * 4096),
        range(5 << 20, 12 * 4096, 4096),
    ];
    assert_eq!(out, expected);
}

#[test]
fn head_middle_and_tail() {
    let limits = xcopy_limits {
        src_granularity: 512,
        dst_granularity: 4096,
        length_granularity: 512,
        ..Default::default()
    };
    let ranges = [range(100 + 512, 100, 8192)];
    let source = plain(&ranges);
    let mut out = [xcopy_range::default()];
    let mut cursor = Cursor::default();
    let mut next = || {
        let step = next_command(&source, &mut cursor, 8192, &limits, 0, &mut out);
        step.map(|step| (step.kind, step.bytes))
    };
    assert_eq!(next(), Some((Kind::Host(XCOPY_REASON_MISALIGNED), 3996)));
    assert_eq!(next(), Some((Kind::Method, 4096)));
    assert_eq!(next(), Some((Kind::Host(XCOPY_REASON_MISALIGNED), 100)));
    assert_eq!(next(), None);
}

#[test]
fn offsets_that_never_align_are_the_hosts() {
    let limits = xcopy_limits {
        src_granularity: 520,
        dst_granularity: 520,
        ..Default::default()
    };
    let ranges = [range(0, 1, 1 << 40)];
    let (step, out) = first(&plain(&ranges), &limits, 10_000);
    assert_eq!(step.kind, Kind::Host(XCOPY_REASON_MISALIGNED));
    assert_eq!(
        out,
        [range(0, 1, 8192)],
        "cut so that block starts stay block starts"
    );
}

#[test]
fn a_far_common_place_of_odd_granularities_is_found() {
    let limits = xcopy_limits {
        src_granularity: 4_294_967_291,
        dst_granularity: 4_294_967_279,
        ..Default::default()
    };
    let ranges = [range(1, 1, u64::MAX - 1)];
    let (step, _) = first(&plain(&ranges), &limits, 0);
    // The product of two primes, less the offset.
    assert_eq!(step.bytes, 4_294_967_291 * 4_294_967_279 - 1);
}

#[test]
fn limits_that_leave_nothing_are_named() {
    let too_small = xcopy_limits {
        src_granularity: 4096,
        max_range_bytes: 4095,
        ..Default::default()
    };
    let no_unit = xcopy_limits {
        src_granularity: u32::MAX,
        dst_granularity: u32::MAX - 1,
        length_granularity: u32::MAX - 2,
        ..Default::default()
    };
    for limits in [too_small, no_unit] {
        let (step, _) = first(&plain(&[range(0, 0, 1 << 20)]), &limits, 0);
        assert_eq!(
            (step.kind, step.bytes),
            (Kind::Host(XCOPY_REASON_LIMITS), 1 << 20)
        );
    }
}

#[test]
fn nothing_to_plan() {
    let limits = xcopy_limits::default();
    let ranges = [range(0, 0, 0), range(0, 0, 10)];
    let source = plain(&ranges);
    let mut cursor = Cursor::default();
    let mut out = [xcopy_range::default(); 2];
    assert_eq!(
        next_command(&source, &mut cursor, 0, &limits, 0, &mut out),
        None
    );
    assert_eq!(
        next_command(&source, &mut cursor, 10, &limits, 0, &mut []),
        None
    );
    let step = next_command(&source, &mut cursor, 10, &limits, 0, &mut out).unwrap();
    assert_eq!((step.start.index, step.bytes), (1, 10));
    assert_eq!(
        next_command(&source, &mut cursor, 20, &limits, 0, &mut out),
        None
    );
}
