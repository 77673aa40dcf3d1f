//! Block device range descriptors (SBC-4 5.12.3), as POPULATE TOKEN and WRITE
//! USING TOKEN have them.

use crate::bytes::{u16_at, u32_at, u64_at};
use crate::fault::Refusal;
use crate::personality::{Style, TokenRules};
use crate::sense::Sense;
use crate::unit::Unit;

const RANGE_BYTES: usize = 16;

/// The ranges (LBA, blocks) of a parameter list whose list length field stands
/// at `length_at` and whose descriptors follow it.
pub(super) fn parse(
    list: &[u8],
    promised: usize,
    length_at: usize,
    style: Style,
    rules: &TokenRules,
) -> Result<Vec<(u64, u64)>, Refusal> {
    let header = length_at + 2;
    let most = usize::from(rules.ranges) * RANGE_BYTES;
    let length_error = || -> Refusal {
        match style {
            Style::Ctl => Sense::field_in_cdb(9).into(),
            _ => Sense::illegal(0x1A, 0x00).into(),
        }
    };
    if list.len() < header {
        return Err(length_error());
    }
    if promised > header + most {
        return Err(match style {
            Style::Ctl => length_error(),
            // TOO MANY SEGMENT DESCRIPTORS (SBC-4 5.12.2).
            _ => Sense::illegal(0x26, 0x08).into(),
        });
    }
    let told = usize::from(u16_at(list, 0));
    if told < header - 2 + RANGE_BYTES {
        return Err(Sense::field_in_list(0).into());
    }
    let length = usize::from(u16_at(list, length_at));
    if length < RANGE_BYTES || list.len() < header + length || told < header - 2 + length {
        return Err(Sense::field_in_list(length_at as u16).into());
    }
    Ok(list[header..header + length]
        .chunks_exact(RANGE_BYTES)
        .map(|range| (u64_at(range, 0), u64::from(u32_at(range, 8))))
        .collect())
}

/// All blocks are there, no two ranges overlap, and the sum is within the limit.
pub(super) fn check(
    ranges: &[(u64, u64)],
    unit: &Unit,
    style: Style,
    rules: &TokenRules,
) -> Result<u64, Refusal> {
    let mut sum = 0u64;
    for (lba, count) in ranges {
        unit.holds(*lba, *count).map_err(Sense::out_of_range)?;
        sum = sum.saturating_add(*count);
    }
    let mut sorted: Vec<_> = ranges.iter().filter(|(_, count)| *count > 0).collect();
    sorted.sort_unstable();
    if sorted
        .windows(2)
        .any(|pair| pair[0].0 + pair[0].1 > pair[1].0)
    {
        return Err(Sense::illegal(0x26, 0x00).into());
    }
    let bytes = sum.saturating_mul(u64::from(unit.block_size));
    if style != Style::Ctl && rules.max_bytes != 0 && bytes > rules.max_bytes {
        return Err(Sense::illegal(0x26, 0x00).into());
    }
    Ok(bytes)
}
