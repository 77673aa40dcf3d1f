//! Parameter lists of EXTENDED COPY: LID1 (SPC-4 6.4) and LID4 (SPC-4 6.5), with
//! identification CSCD descriptors (E4h) and block to block segments (02h).

use super::designator::{CSCD_DESIGNATOR_MAX, Designator};
use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromZeros, Immutable, IntoBytes, Unaligned};

/// Type code of an identification descriptor CSCD descriptor (SPC-4 6.4.5.2).
pub const CSCD_IDENTIFICATION: u8 = 0xe4;
/// Type code of a block device to block device segment (SPC-4 6.4.6.4).
pub const SEGMENT_BLOCK_TO_BLOCK: u8 = 0x02;
/// Bytes of a CSCD descriptor.
pub const CSCD_BYTES: usize = 32;
/// Bytes of a block to block segment descriptor.
pub const SEGMENT_BYTES: usize = 28;
/// Blocks of one segment at most: the field has 16 bits.
pub const SEGMENT_BLOCKS_MAX: u64 = 0xffff;

#[derive(IntoBytes, FromZeros, Immutable, Unaligned)]
#[repr(C)]
struct HeaderLid1 {
    list_id: u8,
    flags: u8,
    cscds_bytes: U16,
    reserved_4: [u8; 4],
    segments_bytes: U32,
    inline_bytes: U32,
}

#[derive(IntoBytes, FromZeros, Immutable, Unaligned)]
#[repr(C)]
struct HeaderLid4 {
    format: u8,
    flags: u8,
    header_cscds_bytes: U16,
    reserved_4: [u8; 11],
    immediate: u8,
    header_cscd_type: u8,
    reserved_17: [u8; 3],
    list_id: U32,
    reserved_24: [u8; 18],
    cscds_bytes: U16,
    segments_bytes: U16,
    inline_bytes: U16,
}

#[derive(IntoBytes, FromZeros, Immutable, Unaligned)]
#[repr(C)]
struct CscdDescriptor {
    type_code: u8,
    device_type: u8,
    relative_port: U16,
    code_set: u8,
    designator_type: u8,
    reserved_6: u8,
    designator_bytes: u8,
    designator: [u8; CSCD_DESIGNATOR_MAX],
    pad: u8,
    block_bytes: [u8; 3],
}

#[derive(IntoBytes, FromZeros, Immutable, Unaligned)]
#[repr(C)]
struct SegmentDescriptor {
    type_code: u8,
    flags: u8,
    length: U16,
    source: U16,
    destination: U16,
    reserved_8: U16,
    blocks: U16,
    source_lba: U64,
    destination_lba: U64,
}

const _: () = assert!(size_of::<HeaderLid1>() == 16);
const _: () = assert!(size_of::<HeaderLid4>() == 48);
const _: () = assert!(size_of::<CscdDescriptor>() == CSCD_BYTES);
const _: () = assert!(size_of::<SegmentDescriptor>() == SEGMENT_BYTES);

/// How the command is named to the copy manager (SPC-4 6.4.2, LIST ID USAGE).
/// Held status (00b) is never asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListId {
    /// 11b: not at all; the field is 0.
    None,
    /// 10b: by this identifier; what is held of it is discarded at its end.
    Discard(u32),
}

impl ListId {
    fn usage(self) -> u8 {
        match self {
            ListId::None => 0b11 << 3,
            ListId::Discard(_) => 0b10 << 3,
        }
    }

    fn id(self) -> u32 {
        match self {
            ListId::None => 0,
            ListId::Discard(id) => id,
        }
    }
}

/// A logical unit as source or destination.
#[derive(Clone, Copy, Debug)]
pub struct Cscd<'a> {
    /// Its name, of VPD page 83h.
    pub designator: &'a Designator,
    /// Its PERIPHERAL DEVICE TYPE.
    pub device_type: u8,
    /// Bytes of its logical block.
    pub block_size: u32,
}

impl Cscd<'_> {
    fn descriptor(&self) -> CscdDescriptor {
        let len = self.designator.bytes.len().min(CSCD_DESIGNATOR_MAX);
        let mut designator = [0; CSCD_DESIGNATOR_MAX];
        designator[..len].copy_from_slice(&self.designator.bytes[..len]);
        let [_, block_bytes @ ..] = self.block_size.to_be_bytes();
        CscdDescriptor {
            type_code: CSCD_IDENTIFICATION,
            device_type: self.device_type & 0x1f,
            relative_port: U16::ZERO,
            code_set: self.designator.code_set & 0xf,
            designator_type: self.designator.kind.code(),
            reserved_6: 0,
            designator_bytes: len as u8,
            designator,
            pad: 0,
            block_bytes,
        }
    }
}

/// Blocks to copy, by index of the CSCD descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Index of the source's CSCD descriptor.
    pub source: u16,
    /// Index of the destination's.
    pub destination: u16,
    /// `blocks` counts destination blocks, not source blocks (DC).
    pub in_destination_blocks: bool,
    /// Blocks to copy.
    pub blocks: u16,
    /// First block of the source.
    pub source_lba: u64,
    /// First block of the destination.
    pub destination_lba: u64,
}

impl Segment {
    fn descriptor(&self) -> SegmentDescriptor {
        SegmentDescriptor {
            type_code: SEGMENT_BLOCK_TO_BLOCK,
            flags: u8::from(self.in_destination_blocks) << 1,
            // Of what follows these four bytes.
            length: U16::new(SEGMENT_BYTES as u16 - 4),
            source: self.source.into(),
            destination: self.destination.into(),
            reserved_8: U16::ZERO,
            blocks: self.blocks.into(),
            source_lba: self.source_lba.into(),
            destination_lba: self.destination_lba.into(),
        }
    }
}

/// Bytes of all descriptors, as MAXIMUM DESCRIPTOR LIST LENGTH counts them.
pub fn descriptors_bytes(cscds: usize, segments: usize) -> usize {
    cscds * CSCD_BYTES + segments * SEGMENT_BYTES
}

/// The parameter list of EXTENDED COPY(LID1). Of the identifier the last eight
/// bits count.
pub fn list_lid1(list_id: ListId, cscds: &[Cscd<'_>], segments: &[Segment]) -> Vec<u8> {
    let header = HeaderLid1 {
        list_id: list_id.id() as u8,
        flags: list_id.usage(),
        cscds_bytes: U16::new((cscds.len() * CSCD_BYTES) as u16),
        reserved_4: [0; 4],
        segments_bytes: U32::new((segments.len() * SEGMENT_BYTES) as u32),
        inline_bytes: U32::ZERO,
    };
    with_descriptors(header.as_bytes(), cscds, segments)
}

/// The parameter list of EXTENDED COPY(LID4), without IMMED and G_SENSE.
pub fn list_lid4(list_id: ListId, cscds: &[Cscd<'_>], segments: &[Segment]) -> Vec<u8> {
    let header = HeaderLid4 {
        format: 0x01,
        flags: list_id.usage(),
        header_cscds_bytes: U16::new(0x0020),
        header_cscd_type: 0xff,
        list_id: list_id.id().into(),
        cscds_bytes: U16::new((cscds.len() * CSCD_BYTES) as u16),
        segments_bytes: U16::new((segments.len() * SEGMENT_BYTES) as u16),
        ..HeaderLid4::new_zeroed()
    };
    with_descriptors(header.as_bytes(), cscds, segments)
}

fn with_descriptors(header: &[u8], cscds: &[Cscd<'_>], segments: &[Segment]) -> Vec<u8> {
    let mut list =
        Vec::with_capacity(header.len() + descriptors_bytes(cscds.len(), segments.len()));
    list.extend_from_slice(header);
    for cscd in cscds {
        list.extend_from_slice(cscd.descriptor().as_bytes());
    }
    for segment in segments {
        list.extend_from_slice(segment.descriptor().as_bytes());
    }
    list
}
