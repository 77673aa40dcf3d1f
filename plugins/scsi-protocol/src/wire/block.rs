//! What a block device says of itself: capacity and limits.

use super::bytes::padded;
use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// READ CAPACITY(16) parameter data (SBC-3 5.16.2).
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct CapacityData {
    last_lba: U64,
    block_bytes: U32,
    protection: u8,
    exponents: u8,
    alignment: U16,
    reserved: [u8; 16],
}

/// Size of a logical unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Blocks.
    pub blocks: u64,
    /// Bytes of a logical block: a power of two.
    pub block_size: u32,
    /// Bytes of a physical block.
    pub physical_block_size: u64,
    /// Formatted with protection information (PROT_EN).
    pub protected: bool,
    /// Unmapped blocks read as zeroes (LBPRZ).
    pub unmapped_is_zero: bool,
}

/// Bytes of READ CAPACITY(16) parameter data.
pub const CAPACITY_BYTES: usize = size_of::<CapacityData>();

impl Capacity {
    /// From READ CAPACITY(16) parameter data; None if it is too short or states
    /// a block that no disk has.
    pub fn parse(bytes: &[u8]) -> Option<Capacity> {
        if bytes.len() < 12 {
            return None;
        }
        let data: CapacityData = padded(bytes);
        let block_size = data.block_bytes.get();
        if !block_size.is_power_of_two() || !(512..=1 << 20).contains(&block_size) {
            return None;
        }
        let blocks = data.last_lba.get().checked_add(1)?;
        // All of it in bytes has to be a number, too.
        blocks.checked_mul(u64::from(block_size))?;
        Some(Capacity {
            blocks,
            block_size,
            physical_block_size: u64::from(block_size) << (data.exponents & 0xf),
            protected: data.protection & 1 != 0,
            unmapped_is_zero: data.alignment.get() & 0x4000 != 0,
        })
    }

    /// Bytes.
    pub fn bytes(&self) -> u64 {
        self.blocks * u64::from(self.block_size)
    }
}

/// VPD page B0h, Block Limits (SBC-3 6.6.4).
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct LimitsPage {
    peripheral: u8,
    page: u8,
    length: U16,
    flags: u8,
    compare_and_write: u8,
    granularity: U16,
    transfer: U32,
    optimal: U32,
    prefetch: U32,
    unmap_blocks: U32,
    unmap_descriptors: U32,
    unmap_granularity: U32,
    unmap_alignment: U32,
    write_same: U64,
}

/// Limits of ordinary commands, in blocks; 0 is "not stated".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockLimits {
    /// A READ or WRITE should be a multiple of this.
    pub granularity: u16,
    /// Blocks of a READ or WRITE at most.
    pub max_transfer: u32,
    /// Blocks of a READ or WRITE that work best.
    pub optimal_transfer: u32,
    /// Blocks of a WRITE SAME at most.
    pub max_write_same: u64,
    /// A WRITE SAME of 0 blocks, "to the end", is refused (WSNZ).
    pub write_same_non_zero: bool,
}

impl BlockLimits {
    /// From VPD page B0h; None if it is another page or too short.
    pub fn parse(bytes: &[u8]) -> Option<BlockLimits> {
        if bytes.len() < 12 || bytes[1] != 0xb0 {
            return None;
        }
        let page: LimitsPage = padded(bytes);
        Some(BlockLimits {
            granularity: page.granularity.get(),
            max_transfer: page.transfer.get(),
            optimal_transfer: page.optimal.get(),
            max_write_same: page.write_same.get(),
            write_same_non_zero: page.flags & 1 != 0,
        })
    }
}
