//! What is wrong with ranges, in the words that a submit or a completion has for it,
//! and which of them it is.

use super::devices::Device;
use super::pairs::Pair;
use super::queue::Queue;
use crate::error::Error;
use crate::plan::{Finding, Hull, Source};
use std::sync::atomic::Ordering;
use xcopy_abi::*;

/// Why ranges cannot be copied.
pub(super) struct Refusal {
    /// What a submit that refuses them answers.
    pub error: Error,
    /// The same in a completion.
    pub reason: u16,
    fault: Fault,
}

/// What tells a bad range from the others.
enum Fault {
    /// It is the one of this index.
    At(u64),
    /// It ends beyond this byte of that side.
    Beyond(Side, u64),
    /// It cuts that side's blocks of so many bytes.
    CutsBlocks(Side, u64),
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Source,
    Destination,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Side::Source => "source",
            Side::Destination => "destination",
        }
    }

    fn offset(self, source: &Source, range: &xcopy_range) -> u64 {
        match self {
            Side::Source => source.src_base.wrapping_add(range.src_offset),
            Side::Destination => source.dst_base.wrapping_add(range.dst_offset),
        }
    }

    fn cuts(self, source: &Source, range: &xcopy_range, block: u64) -> bool {
        !self.offset(source, range).is_multiple_of(block) || !range.length.is_multiple_of(block)
    }
}

impl Refusal {
    fn new(text: String, reason: u16, fault: Fault) -> Refusal {
        Refusal {
            error: Error::new(libc::EINVAL, text),
            reason,
            fault,
        }
    }

    /// Looks for the first bad range in a slice of the list: its index, or None.
    pub fn find(&self, source: &Source, from: u64, to: u64) -> Option<u64> {
        if let Fault::At(index) = self.fault {
            return Some(index);
        }
        let slice = source.ranges.get(from as usize..to as usize)?;
        let bad = slice.iter().position(|range| match self.fault {
            Fault::At(_) => false,
            Fault::Beyond(side, end) => {
                let offset = side.offset(source, range);
                offset.checked_add(range.length).is_none_or(|to| to > end)
            }
            Fault::CutsBlocks(side, block) => side.cuts(source, range, block),
        });
        bad.map(|at| from + at as u64)
    }
}

impl Queue {
    /// Ends a request that did not begin because of one of its ranges; `bad` is
    /// which one, for the report.
    pub(super) fn refuse_ranges(&mut self, index: u32, refusal: &Refusal, bad: Option<u64>) {
        self.context.log(XCOPY_LOG_INFO, &refusal.error.message);
        let slot = &mut self.slots[index as usize];
        let source = slot.source();
        let range = bad.and_then(|bad| Some((bad, source.ranges.get(usize::try_from(bad).ok()?)?)));
        let failed = range.map(|(bad, range)| {
            let range = xcopy_range {
                src_offset: source.src_base.saturating_add(range.src_offset),
                dst_offset: source.dst_base.saturating_add(range.dst_offset),
                length: range.length,
            };
            (bad, range)
        });
        if failed.is_some() {
            slot.extra().failed = failed;
        }
        self.fail(index, -refusal.error.errno, refusal.reason, 0);
    }
}

/// The refusal for what a check of ranges found.
pub(super) fn refuse_finding(finding: Finding) -> Result<(), Refusal> {
    let (text, reason, index) = match finding {
        Finding::Clean => return Ok(()),
        Finding::Empty { index } => (
            format!("range {index} has length 0"),
            XCOPY_REASON_BOUNDS,
            index,
        ),
        Finding::Overflow { index } => (
            format!("range {index} goes beyond 2^64 bytes"),
            XCOPY_REASON_BOUNDS,
            index,
        ),
        Finding::Overlap { index } => (
            format!(
                "range {index} overlaps another one or its source: copy in pieces that do not \
                 overlap, one after the other"
            ),
            XCOPY_REASON_OVERLAP,
            index,
        ),
        Finding::NotAscending { index } => (
            format!(
                "range {index} does not ascend: sort by destination, or give XCOPY_REQ_DISJOINT"
            ),
            XCOPY_REASON_OVERLAP,
            index,
        ),
    };
    Err(Refusal::new(text, reason, Fault::At(index)))
}

/// Refuses ranges that leave the devices, or cut the blocks of a native one.
pub(super) fn check_bounds(
    pair: &Pair,
    op: u16,
    source: &Source,
    hull: &Hull,
) -> Result<(), Refusal> {
    if let Some(device) = &pair.src {
        check_end(Side::Source, device, hull.src.1, true)?;
        check_blocks(Side::Source, device, hull.src_bits, source)?;
    }
    if let Some(device) = &pair.dst
        && op != XCOPY_OP_TOKEN_CREATE
    {
        let bounded = device.kind != XCOPY_KIND_FILE;
        check_end(Side::Destination, device, hull.dst.1, bounded)?;
        check_blocks(Side::Destination, device, hull.dst_bits, source)?;
    }
    Ok(())
}

fn check_end(side: Side, device: &Device, end: u64, bounded: bool) -> Result<(), Refusal> {
    let refuse = |text: String, size: u64| {
        let fault = Fault::Beyond(side, size);
        Err(Refusal::new(text, XCOPY_REASON_BOUNDS, fault))
    };
    if !bounded {
        // A file grows, as far as its offsets go.
        let most = i64::MAX as u64;
        return match end > most {
            false => Ok(()),
            true => refuse("the ranges go beyond 2^63 bytes".into(), most),
        };
    }
    // A file may have grown since it was opened.
    if end > device.size.load(Ordering::Acquire) {
        let size = device.refresh_size();
        if end > size {
            let name = side.name();
            let text = format!("the ranges end at {end}, beyond the {name}'s {size} bytes");
            return refuse(text, size);
        }
    }
    Ok(())
}

fn check_blocks(side: Side, device: &Device, bits: u64, source: &Source) -> Result<(), Refusal> {
    let block = u64::from(device.block_size.load(Ordering::Relaxed));
    if device.kind != XCOPY_KIND_NATIVE || block <= 1 {
        return Ok(());
    }
    let whole = if block.is_power_of_two() {
        bits & (block - 1) == 0
    } else {
        // Blocks of 520 or 4,160 bytes: the union of the bits says nothing.
        let mut ranges = source.ranges.iter();
        ranges.all(|range| !side.cuts(source, range, block))
    };
    if whole {
        return Ok(());
    }
    let name = side.name();
    Err(Refusal::new(
        format!("a range is not a multiple of the {name}'s block of {block} bytes"),
        XCOPY_REASON_MISALIGNED,
        Fault::CutsBlocks(side, block),
    ))
}
