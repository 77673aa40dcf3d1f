//! RECEIVE COPY OPERATING PARAMETERS (SPC-4 6.21).

use super::bytes::padded;
use zerocopy::byteorder::big_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct Parameters {
    available: U32,
    flags: u8,
    reserved_5: [u8; 3],
    max_cscds: U16,
    max_segments: U16,
    max_descriptors_bytes: U32,
    max_segment_bytes: U32,
    max_inline_bytes: U32,
    held_bytes: U32,
    max_stream_bytes: U32,
    reserved_32: U16,
    total_concurrent: U16,
    max_concurrent: u8,
    segment_granularity: u8,
    inline_granularity: u8,
    held_granularity: u8,
    reserved_40: [u8; 3],
    types: u8,
}

const _: () = assert!(size_of::<Parameters>() == 44);

/// Bytes to ask for: LIO refuses less than 54.
pub const OPERATING_ALLOCATION: usize = 512;

/// What a copy manager can take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OperatingParameters {
    /// Takes copies without a list identifier (SNLID).
    pub without_list_id: bool,
    /// CSCD descriptors at most.
    pub max_cscds: u16,
    /// Segment descriptors at most.
    pub max_segments: u16,
    /// Bytes of all descriptors at most.
    pub max_descriptors_bytes: u32,
    /// Bytes of one segment at most; 0 is no limit.
    pub max_segment_bytes: u32,
    /// Bytes of inline data at most.
    pub max_inline_bytes: u32,
    /// Bytes of held data at most.
    pub held_bytes: u32,
    /// Copies at once at most, of all kinds; 0 is not stated.
    pub total_concurrent: u16,
    /// Copies with list identifier at once at most; 0 is not stated.
    pub max_concurrent: u8,
    /// log2 of the bytes that a segment must be a multiple of.
    pub segment_granularity_log2: u8,
    /// Descriptor type codes that it implements.
    pub types: Vec<u8>,
}

impl OperatingParameters {
    /// From the parameter data; None if it is too short to state the limits.
    pub fn parse(bytes: &[u8]) -> Option<OperatingParameters> {
        if bytes.len() < 40 {
            return None;
        }
        let data: Parameters = padded(bytes);
        let end = usize::try_from(data.available.get())
            .ok()?
            .saturating_add(4);
        if end < 40 {
            return None;
        }
        let types = bytes.get(44..end.min(bytes.len())).unwrap_or_default();
        Some(OperatingParameters {
            without_list_id: data.flags & 1 != 0,
            max_cscds: data.max_cscds.get(),
            max_segments: data.max_segments.get(),
            max_descriptors_bytes: data.max_descriptors_bytes.get(),
            max_segment_bytes: data.max_segment_bytes.get(),
            max_inline_bytes: data.max_inline_bytes.get(),
            held_bytes: data.held_bytes.get(),
            total_concurrent: data.total_concurrent.get(),
            max_concurrent: data.max_concurrent,
            segment_granularity_log2: data.segment_granularity,
            types: types[..types.len().min(data.types.into())].to_vec(),
        })
    }

    /// The descriptor type is implemented, or the copy manager lists none.
    pub fn takes_type(&self, code: u8) -> bool {
        self.types.is_empty() || self.types.contains(&code)
    }
}
