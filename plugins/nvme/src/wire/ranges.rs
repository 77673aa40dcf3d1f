//! Source Range entries of a Copy (NVM Command Set 1.0 3.2.2, figures of
//! descriptor formats 0h to 3h).

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Blocks of one range at most: NLB is 16 bits, 0's based.
pub const MAX_BLOCKS: u32 = 65_536;

/// SOPT bit 15: Fast Copy Only. The copy fails rather than be slow.
const FAST_ONLY: u16 = 1 << 15;

/// A descriptor format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// 0h: source and destination are one namespace; 16-bit guard or none.
    Same,
    /// 1h: the same with a 32- or 64-bit guard.
    SameWide,
    /// 2h: each range names its namespace; 16-bit guard or none.
    Cross,
    /// 3h: the same with a 32- or 64-bit guard.
    CrossWide,
}

impl Format {
    /// The format for ranges that name their namespace, or do not, and a guard
    /// that is wider than 16 bits, or is not.
    pub fn new(names_source: bool, wide_guard: bool) -> Format {
        match (names_source, wide_guard) {
            (false, false) => Format::Same,
            (false, true) => Format::SameWide,
            (true, false) => Format::Cross,
            (true, true) => Format::CrossWide,
        }
    }

    /// By its number.
    pub fn of(number: u8) -> Option<Format> {
        [
            Format::Same,
            Format::SameWide,
            Format::Cross,
            Format::CrossWide,
        ]
        .get(usize::from(number))
        .copied()
    }

    /// Its number, and its bit in OCFS and CDFE.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Its bit in OCFS and CDFE.
    pub fn bit(self) -> u16 {
        1 << self.number()
    }

    /// Ranges name their namespace: the host has to say that it knows the format
    /// (Host Behavior Support).
    pub fn names_source(self) -> bool {
        matches!(self, Format::Cross | Format::CrossWide)
    }

    /// Bytes of one entry.
    pub fn entry_bytes(self) -> usize {
        match self {
            Format::Same | Format::Cross => size_of::<Short>(),
            Format::SameWide | Format::CrossWide => size_of::<Wide>(),
        }
    }
}

/// One source range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Its namespace; 0 in formats 0h and 1h.
    pub nsid: u32,
    /// Its first logical block.
    pub slba: u64,
    /// Its blocks: 1 to [`MAX_BLOCKS`].
    pub blocks: u32,
    /// Fail rather than copy slowly; not in formats 0h and 1h.
    pub fast_only: bool,
}

/// Formats 0h and 2h.
#[repr(C)]
#[derive(Default, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
struct Short {
    head: Head,
    elbt: [u8; 4],
    elbat: U16,
    elbatm: U16,
}

/// Formats 1h and 3h.
#[repr(C)]
#[derive(Default, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
struct Wide {
    head: Head,
    reserved24: [u8; 2],
    elbt: [u8; 10],
    elbat: U16,
    elbatm: U16,
}

/// Bytes 0 to 23 of all formats. SNSID and SOPT are reserved in 0h and 1h.
#[repr(C)]
#[derive(Default, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
struct Head {
    snsid: U32,
    reserved4: [u8; 4],
    slba: U64,
    nlb: U16,
    cetype: u8,
    reserved19: u8,
    cev: U16,
    sopt: U16,
}

impl Head {
    fn new(entry: &Entry, format: Format) -> Head {
        let names = format.names_source();
        Head {
            snsid: U32::new(if names { entry.nsid } else { 0 }),
            slba: U64::new(entry.slba),
            nlb: U16::new((entry.blocks.clamp(1, MAX_BLOCKS) - 1) as u16),
            sopt: U16::new(if names && entry.fast_only {
                FAST_ONLY
            } else {
                0
            }),
            ..Head::default()
        }
    }

    fn entry(&self, format: Format) -> Entry {
        let names = format.names_source();
        Entry {
            nsid: if names { self.snsid.get() } else { 0 },
            slba: self.slba.get(),
            blocks: u32::from(self.nlb.get()) + 1,
            fast_only: names && self.sopt.get() & FAST_ONLY != 0,
        }
    }
}

impl Format {
    /// Appends an entry. Tags are not checked on reading, so they are 0.
    pub fn put(self, entry: &Entry, out: &mut Vec<u8>) {
        let head = Head::new(entry, self);
        match self {
            Format::Same | Format::Cross => out.extend_from_slice(
                Short {
                    head,
                    ..Short::default()
                }
                .as_bytes(),
            ),
            Format::SameWide | Format::CrossWide => out.extend_from_slice(
                Wide {
                    head,
                    ..Wide::default()
                }
                .as_bytes(),
            ),
        }
    }

    /// The entries of a buffer; what is left at its end is no entry.
    pub fn entries(self, bytes: &[u8]) -> impl Iterator<Item = Entry> + '_ {
        bytes
            .chunks_exact(self.entry_bytes())
            .filter_map(move |one| Some(Head::ref_from_prefix(one).ok()?.0.entry(self)))
    }
}
