//! A logical unit: its blocks, its names, what it refuses.

use std::collections::BTreeSet;

use crate::disk::Chunks;
use crate::reservation::Reservations;

/// A designation descriptor of VPD page 83h (SPC-4 7.8.6), of the logical unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Designator {
    /// CODE SET: 1 binary, 2 ASCII, 3 UTF-8.
    pub code_set: u8,
    /// DESIGNATOR TYPE: 1 T10 vendor, 2 EUI-64, 3 NAA, Ah UUID.
    pub kind: u8,
    /// DESIGNATOR.
    pub bytes: Vec<u8>,
}

impl Designator {
    /// NAA IEEE Registered Extended (6h), 16 bytes, made of a number.
    pub fn naa6(number: u64) -> Designator {
        let mut bytes = vec![0x60, 0x01, 0x40, 0x5F, 0, 0, 0, 0];
        bytes.extend(number.to_be_bytes());
        Designator {
            code_set: 1,
            kind: 3,
            bytes,
        }
    }

    /// EUI-64, 8 bytes.
    pub fn eui64(number: u64) -> Designator {
        Designator {
            code_set: 1,
            kind: 2,
            bytes: number.to_be_bytes().to_vec(),
        }
    }

    /// T10 vendor identification: eight characters of vendor, then a serial number.
    pub fn t10(vendor: &str, serial: &str) -> Designator {
        let mut bytes = format!("{vendor:<8.8}").into_bytes();
        bytes.extend(serial.as_bytes());
        Designator {
            code_set: 2,
            kind: 1,
            bytes,
        }
    }
}

/// What a disk is made with.
#[derive(Clone, Debug)]
pub struct DiskOptions {
    /// Logical block length, in bytes: 512 or 4096.
    pub block_size: u32,
    /// Number of logical blocks.
    pub blocks: u64,
    /// Log2 of the logical blocks in a physical one.
    pub physical_exponent: u8,
    /// Its names; empty for an NAA, an EUI-64 and a T10 one made of its number.
    pub designators: Vec<Designator>,
}

impl DiskOptions {
    /// A disk of so many bytes.
    pub fn new(block_size: u32, bytes: u64) -> DiskOptions {
        DiskOptions {
            block_size,
            blocks: bytes / u64::from(block_size.max(1)),
            physical_exponent: 0,
            designators: Vec::new(),
        }
    }
}

pub(crate) struct Unit {
    pub(crate) block_size: u32,
    pub(crate) blocks: u64,
    pub(crate) physical_exponent: u8,
    pub(crate) designators: Vec<Designator>,
    pub(crate) serial: String,
    pub(crate) chunks: Chunks,
    pub(crate) write_protected: bool,
    /// Blocks that cannot be read.
    pub(crate) bad_blocks: BTreeSet<u64>,
    pub(crate) reservations: Reservations,
    pub(crate) removed: bool,
}

impl Unit {
    pub(crate) fn new(number: usize, vendor: &str, options: DiskOptions) -> Unit {
        let serial = format!("XCOPY-{number:08}");
        let mut designators = options.designators;
        if designators.is_empty() {
            let number = 0x0C0F_FEE0_0000 + number as u64;
            designators = vec![
                Designator::t10(vendor, &serial),
                Designator::eui64(0x0200_0000_0000_0000 | number),
                Designator::naa6(number),
            ];
        }
        Unit {
            block_size: options.block_size,
            blocks: options.blocks,
            physical_exponent: options.physical_exponent,
            designators,
            serial,
            chunks: Chunks::default(),
            write_protected: false,
            bad_blocks: BTreeSet::new(),
            reservations: Reservations::default(),
            removed: false,
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.blocks.saturating_mul(u64::from(self.block_size))
    }

    /// The first unreadable block of a range, in blocks.
    pub(crate) fn bad_in(&self, lba: u64, count: u64) -> Option<u64> {
        self.bad_blocks
            .range(lba..lba.saturating_add(count))
            .next()
            .copied()
    }

    /// Whether the blocks are all there; else the first that is not.
    pub(crate) fn holds(&self, lba: u64, count: u64) -> Result<(), u64> {
        match lba.checked_add(count) {
            Some(end) if end <= self.blocks => Ok(()),
            _ => Err(lba.max(self.blocks)),
        }
    }
}
