//! Parameter lists of POPULATE TOKEN and WRITE USING TOKEN.

use super::{TOKEN_BYTES, Token, put};
use zeroize::Zeroizing;

/// Range descriptors of one list: their length is a field of two bytes, and no
/// device known takes more than this.
pub const RANGES_MAX: usize = 64;

const RANGE_BYTES: usize = 16;
const POPULATE_HEADER: usize = 16;
const WRITE_HEADER: usize = 536;

/// Logical blocks of one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRange {
    /// The first.
    pub lba: u64,
    /// How many.
    pub blocks: u32,
}

fn put_ranges(list: &mut [u8], header: usize, ranges: &[BlockRange]) {
    let length = (ranges.len() * RANGE_BYTES) as u16;
    put(list, header - 2, &length.to_be_bytes());
    for (index, range) in ranges.iter().enumerate() {
        let at = header + index * RANGE_BYTES;
        put(list, at, &range.lba.to_be_bytes());
        put(list, at + 8, &range.blocks.to_be_bytes());
    }
    let length = (list.len() - 2) as u16;
    put(list, 0, &length.to_be_bytes());
}

/// Of POPULATE TOKEN (SBC-4 5.12.2). `rod_type` None leaves the type to the
/// device; `inactivity_s` 0 is its default. At most [`RANGES_MAX`] ranges go in.
pub fn populate_parameters(
    ranges: &[BlockRange],
    immediate: bool,
    rod_type: Option<u32>,
    inactivity_s: u32,
) -> Vec<u8> {
    let ranges = &ranges[..ranges.len().min(RANGES_MAX)];
    let mut list = vec![0; POPULATE_HEADER + ranges.len() * RANGE_BYTES];
    list[2] = u8::from(immediate);
    put(&mut list, 4, &inactivity_s.to_be_bytes());
    if let Some(rod_type) = rod_type {
        list[2] |= 0x02;
        put(&mut list, 8, &rod_type.to_be_bytes());
    }
    put_ranges(&mut list, POPULATE_HEADER, ranges);
    list
}

/// Of WRITE USING TOKEN (SBC-4 5.59.2). `offset` is OFFSET INTO ROD, in blocks.
/// `delete` lets the device forget the token afterwards. Wiped when dropped, as
/// the token is in it.
pub fn write_parameters(
    token: &Token,
    ranges: &[BlockRange],
    offset: u64,
    immediate: bool,
    delete: bool,
) -> Zeroizing<Vec<u8>> {
    let ranges = &ranges[..ranges.len().min(RANGES_MAX)];
    let mut list = Zeroizing::new(vec![0; WRITE_HEADER + ranges.len() * RANGE_BYTES]);
    list[2] = u8::from(immediate) | u8::from(delete) << 1;
    put(&mut list, 8, &offset.to_be_bytes());
    put(&mut list, 16, token.bytes());
    debug_assert_eq!(16 + TOKEN_BYTES, WRITE_HEADER - 8);
    put_ranges(&mut list, WRITE_HEADER, ranges);
    list
}
