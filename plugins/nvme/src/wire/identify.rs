//! Identify data: what a controller and a namespace say of themselves.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// Bytes of every Identify data structure.
pub const IDENTIFY_BYTES: usize = 4096;

/// ONCS bits (NVMe Base 2.0 figure 275): Copy is supported; every copy is a fast
/// one (NVMe Base 2.1).
const ONCS_COPY: u16 = 1 << 8;
const ONCS_ALL_FAST: u16 = 1 << 10;
/// CTRATT bit 15: extended LBA formats, so that CNS 05h says more of them.
const CTRATT_ELBAS: u32 = 1 << 15;

#[repr(C)]
#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
struct ControllerLayout {
    before: [u8; 96],
    ctratt: U32,
    reserved100: [u8; 286],
    cqt: U16,
    reserved388: [u8; 132],
    oncs: U16,
    reserved522: [u8; 12],
    ocfs: U16,
}

#[repr(C)]
#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
struct NamespaceLayout {
    nsze: U64,
    before: [u8; 18],
    flbas: u8,
    mc: u8,
    dpc: u8,
    dps: u8,
    reserved30: [u8; 44],
    mssrl: U16,
    mcl: U32,
    msrc: u8,
    reserved81: [u8; 47],
    formats: [FormatLayout; 64],
}

#[repr(C)]
#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
struct FormatLayout {
    ms: U16,
    lbads: u8,
    rp: u8,
}

#[repr(C)]
#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
struct NvmLayout {
    before: [u8; 12],
    elbaf: [U32; 64],
}

/// Identify Controller, CNS 01h.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Controller {
    /// Copy is supported (ONCS).
    pub copies: bool,
    /// All copies are fast ones (ONCS).
    pub all_fast: bool,
    /// Descriptor formats that it takes, as bits (OCFS).
    pub formats: u16,
    /// Milliseconds for which a command may go on after its path was lost (CQT).
    pub quiesce_ms: u16,
    /// CNS 05h says how large guards and storage tags are.
    pub extended_formats: bool,
}

impl Controller {
    /// None if the data is too short.
    pub fn parse(data: &[u8]) -> Option<Controller> {
        let (raw, _) = ControllerLayout::ref_from_prefix(data).ok()?;
        let oncs = raw.oncs.get();
        Some(Controller {
            copies: oncs & ONCS_COPY != 0,
            all_fast: oncs & ONCS_ALL_FAST != 0,
            formats: raw.ocfs.get(),
            quiesce_ms: raw.cqt.get(),
            extended_formats: raw.ctratt.get() & CTRATT_ELBAS != 0,
        })
    }
}

/// Type of protection information (DPS bits 2:0).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PiType {
    /// None.
    #[default]
    Off,
    /// Type 1: reference tags are logical block addresses.
    One,
    /// Type 2: reference tags are the host's; Linux uses addresses.
    Two,
    /// Type 3: no reference tag is checked.
    Three,
    /// A value that no version defines.
    Unknown(u8),
}

/// How large the tags of a format are (CNS 05h, ELBAF).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tags {
    /// Protection Information Format: 0 is a 16-bit guard, 1 32, 2 64 bits.
    pub pif: u8,
    /// Bits of the storage tag.
    pub storage_bits: u8,
}

/// The LBA format that a namespace has now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LbaFormat {
    /// Bytes of a logical block, without metadata; 0 if it is not known.
    pub block: u32,
    /// Bytes of metadata of each.
    pub metadata: u16,
    /// Protection information.
    pub pi: PiType,
    /// Its tags.
    pub tags: Tags,
}

/// Identify Namespace, CNS 00h.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NamespaceData {
    /// Blocks (NSZE); 0 for a namespace that is not there.
    pub blocks: u64,
    /// Its format, without tags.
    pub format: LbaFormat,
    /// Which of the formats that is.
    pub format_index: usize,
    /// Maximum Single Source Range Length, in blocks; 0 is not supported.
    pub mssrl: u16,
    /// Maximum Copy Length, in blocks; 0 is not supported.
    pub mcl: u32,
    /// Maximum Source Range Count, 0's based.
    pub msrc: u8,
}

impl NamespaceData {
    /// None if the data is too short.
    pub fn parse(data: &[u8]) -> Option<NamespaceData> {
        let (raw, _) = NamespaceLayout::ref_from_prefix(data).ok()?;
        // FLBAS: bits 3:0 are the low part of the index, 6:5 the high one.
        let index = usize::from(raw.flbas & 0xf) | usize::from(raw.flbas >> 5 & 3) << 4;
        let format = raw.formats.get(index)?;
        Some(NamespaceData {
            blocks: raw.nsze.get(),
            format: LbaFormat {
                // LBADS below 9 is reserved; blocks of 2 GiB and more are none.
                block: match format.lbads {
                    shift @ 9..=30 => 1 << shift,
                    _ => 0,
                },
                metadata: format.ms.get(),
                pi: match raw.dps & 7 {
                    0 => PiType::Off,
                    1 => PiType::One,
                    2 => PiType::Two,
                    3 => PiType::Three,
                    other => PiType::Unknown(other),
                },
                tags: Tags::default(),
            },
            format_index: index,
            mssrl: raw.mssrl.get(),
            mcl: raw.mcl.get(),
            msrc: raw.msrc,
        })
    }
}

impl Tags {
    /// Those of a format, from CNS 05h. None if the data is too short.
    pub fn parse(data: &[u8], format_index: usize) -> Option<Tags> {
        let (raw, _) = NvmLayout::ref_from_prefix(data).ok()?;
        let elbaf = raw.elbaf.get(format_index)?.get();
        Some(Tags {
            pif: (elbaf >> 7 & 3) as u8,
            storage_bits: (elbaf & 0x7f) as u8,
        })
    }
}
