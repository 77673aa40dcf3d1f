//! The planner: every byte once, in order, within the limits, and it ends.

use crate::input::Input;
use xcopy::abi::*;
use xcopy::plan::{Adapt, Cursor, Finding, Hull, Kind, Scan, Source, check_small, next_command};

fn limits(input: &mut Input) -> xcopy_limits {
    let grain = |input: &mut Input| match input.u8() % 4 {
        0 => 512,
        1 => 1 << input.below(32),
        2 => input.u16().into(),
        _ => input.u32(),
    };
    xcopy_limits {
        preferred_bytes: input.number(),
        max_bytes: input.number(),
        max_range_bytes: input.number(),
        src_granularity: grain(input),
        dst_granularity: grain(input),
        length_granularity: grain(input),
        max_ranges: input.u16().into(),
        max_concurrent: input.u16().into(),
        contiguous_dst: u32::from(input.one_in(3)),
    }
}

fn ranges(input: &mut Input) -> Vec<xcopy_range> {
    let tidy = !input.one_in(3);
    let mut at = 0u64;
    (0..input.below(40))
        .map(|_| {
            if !tidy {
                return xcopy_range {
                    src_offset: input.number(),
                    dst_offset: input.number(),
                    length: input.number(),
                };
            }
            let range = xcopy_range {
                src_offset: (1 << 40) + u64::from(input.u16()) * 256,
                dst_offset: at + u64::from(input.u8() & 3) * 512,
                length: 1 + u64::from(input.u16()) * (1 << input.below(4)),
            };
            at = range.dst_offset + range.length;
            range
        })
        .collect()
}

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let list = ranges(&mut input);
    let (src_base, dst_base) = match input.u8() % 4 {
        0..3 => (0, u64::from(input.u8()) * 512),
        _ => (input.number(), input.number()),
    };
    let source = Source {
        ranges: &list,
        src_base,
        dst_base,
    };
    let same = match input.u8() % 4 {
        0 => None,
        1 => Some(0),
        2 => Some(i128::from(input.u64() as i64)),
        _ => Some(if input.one_in(2) {
            i128::MAX
        } else {
            i128::MIN
        }),
    };
    let finding = overlap(&mut input, &source, same);
    if finding == Finding::Clean {
        commands(&mut input, &source);
    } else {
        // What changed after its check must not hurt either.
        let (mut cursor, limits) = (Cursor::default(), limits(&mut input));
        let mut out = [xcopy_range::default(); 8];
        for _ in 0..64 {
            let end = input.number();
            if next_command(&source, &mut cursor, end, &limits, input.number(), &mut out).is_none()
            {
                break;
            }
        }
    }
    adapt(&mut input);
}

/// Three checks of one list agree.
fn overlap(input: &mut Input, source: &Source, same: Option<i128>) -> Finding {
    let n = source.ranges.len() as u64;
    let mut sliced = Scan::new(n, same, false);
    let slice = 1 + u64::from(input.u8());
    let mut steps = 0;
    let finding = loop {
        if let Some(finding) = sliced.step(source, slice) {
            break finding;
        }
        steps += 1;
        assert!(steps < 1 << 20, "the check does not end");
    };
    let mut whole = Scan::new(n, same, false);
    assert_eq!(whole.step(source, u64::MAX), Some(finding));
    // All findings refuse; which one is named first may differ.
    let clean = check_small(source, same) == Finding::Clean;
    assert_eq!(clean, finding == Finding::Clean, "{finding:?}");
    let mut vouched = Scan::new(n, same, true);
    let trusted = vouched.step(source, u64::MAX).expect("all in one step");
    assert!(
        clean <= (trusted == Finding::Clean),
        "more is wrong when vouched for"
    );
    let _ = Hull::of(source);
    finding
}

/// Plans a valid list to its end.
fn commands(input: &mut Input, source: &Source) {
    let limits = limits(input);
    let total: u64 = source.ranges.iter().map(|range| range.length).sum();
    let mut chunk = input.number();
    // As many steps as a byte at a time would be too long for a fuzzer.
    if chunk != 0 {
        chunk = chunk.max(total / 64);
    }
    let mut out = vec![xcopy_range::default(); 1 + input.below(20)];
    let (mut cursor, mut at) = (Cursor::default(), 0u64);
    let mut walk = Cursor::default();
    for _ in 0..4096 {
        assert_eq!(cursor.position, at);
        let Some(step) = next_command(source, &mut cursor, total, &limits, chunk, &mut out) else {
            assert_eq!(at, total, "it ends early");
            return;
        };
        assert_eq!(step.start.position, at);
        assert!(step.ranges as usize <= out.len() && step.ranges > 0);
        let planned = &out[..step.ranges as usize];
        assert_eq!(planned.iter().map(|r| r.length).sum::<u64>(), step.bytes);
        assert!(step.bytes > 0);
        if chunk != 0 {
            assert!(step.bytes <= chunk);
        }
        match step.kind {
            Kind::Method => within(&limits, planned),
            Kind::Host(reason) => {
                assert!(reason != 0 && reason < XCOPY_REASON_COUNT);
                assert_eq!(step.ranges, 1);
            }
        }
        for range in planned {
            follow(source, &mut walk, range);
        }
        at += step.bytes;
        assert_eq!(cursor.position, at);
    }
}

/// The planned range is what lies at the cursor, and moves it on.
fn follow(source: &Source, walk: &mut Cursor, planned: &xcopy_range) {
    let range = source.ranges[walk.index as usize];
    assert_eq!(
        planned.src_offset,
        source.src_base + range.src_offset + walk.offset
    );
    assert_eq!(
        planned.dst_offset,
        source.dst_base + range.dst_offset + walk.offset
    );
    assert!(planned.length <= range.length - walk.offset);
    walk.advance(source.ranges, planned.length);
}

fn within(limits: &xcopy_limits, planned: &[xcopy_range]) {
    let most = |limit: u64| if limit == 0 { u64::MAX } else { limit };
    assert!(planned.len() <= limits.max_ranges.max(1) as usize);
    assert!(planned.iter().map(|r| r.length).sum::<u64>() <= most(limits.max_bytes));
    for range in planned {
        let aligned = |value: u64, grain: u32| value.is_multiple_of(grain.max(1).into());
        assert!(range.length <= most(limits.max_range_bytes));
        assert!(aligned(range.src_offset, limits.src_granularity));
        assert!(aligned(range.dst_offset, limits.dst_granularity));
        assert!(aligned(range.length, limits.length_granularity));
    }
    if limits.contiguous_dst != 0 {
        for pair in planned.windows(2) {
            assert_eq!(pair[0].dst_offset + pair[0].length, pair[1].dst_offset);
        }
    }
}

/// Size and depth stay within what was stated.
fn adapt(input: &mut Input) {
    let limits = limits(input);
    let (host, chunk, depth) = (input.one_in(2), input.number(), input.u16().into());
    let mut adapt = match input.u8() % 2 {
        0 => Adapt::new(&limits, host, chunk, depth),
        _ => Adapt::unpack(input.u64(), &limits, host, chunk, depth),
    };
    for _ in 0..input.below(32) {
        assert!(adapt.chunk() > 0 && adapt.depth() > 0);
        if limits.max_bytes != 0 {
            assert!(adapt.chunk() <= limits.max_bytes);
        }
        match input.u8() % 3 {
            0 => adapt.succeeded(input.number()),
            1 => adapt.busy(),
            _ => adapt.too_large(input.number()),
        }
        assert_ne!(adapt.pack(), 0);
    }
}
