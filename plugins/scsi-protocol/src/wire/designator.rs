//! Names of logical units: VPD page 83h, and the preference among them.

use super::bytes::{ascii, be16};
use super::inquiry::page_content;
use std::fmt;

/// Bytes of a designator in a CSCD descriptor at most (SPC-4 6.4.5.2).
pub const CSCD_DESIGNATOR_MAX: usize = 20;

/// Kind of a designator (SPC-4 7.8.6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DesignatorType {
    /// Type 0.
    VendorSpecific,
    /// Type 1.
    T10VendorId,
    /// Type 2.
    Eui64,
    /// Type 3.
    Naa,
    /// Type 8.
    ScsiName,
    /// Type 0Ah.
    Uuid,
    /// Any other.
    Other(u8),
}

impl DesignatorType {
    /// Of DESIGNATOR TYPE.
    pub fn of(code: u8) -> DesignatorType {
        match code & 0xf {
            0x0 => DesignatorType::VendorSpecific,
            0x1 => DesignatorType::T10VendorId,
            0x2 => DesignatorType::Eui64,
            0x3 => DesignatorType::Naa,
            0x8 => DesignatorType::ScsiName,
            0xa => DesignatorType::Uuid,
            other => DesignatorType::Other(other),
        }
    }

    /// DESIGNATOR TYPE.
    pub fn code(self) -> u8 {
        match self {
            DesignatorType::VendorSpecific => 0x0,
            DesignatorType::T10VendorId => 0x1,
            DesignatorType::Eui64 => 0x2,
            DesignatorType::Naa => 0x3,
            DesignatorType::ScsiName => 0x8,
            DesignatorType::Uuid => 0xa,
            DesignatorType::Other(code) => code & 0xf,
        }
    }

    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            DesignatorType::VendorSpecific => "vendor-specific",
            DesignatorType::T10VendorId => "T10",
            DesignatorType::Eui64 => "EUI-64",
            DesignatorType::Naa => "NAA",
            DesignatorType::ScsiName => "SCSI name",
            DesignatorType::Uuid => "UUID",
            DesignatorType::Other(_) => "other",
        }
    }

    /// Place in the order in which designators are tried as CSCD; None for what
    /// names no logical unit for all the world, and is never used.
    fn preference(self) -> Option<u8> {
        match self {
            DesignatorType::Naa => Some(0),
            DesignatorType::Eui64 => Some(1),
            DesignatorType::Uuid => Some(2),
            DesignatorType::T10VendorId => Some(3),
            _ => None,
        }
    }
}

/// A designator of a logical unit, as the unit itself gave it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Designator {
    /// Its kind.
    pub kind: DesignatorType,
    /// CODE SET: 1 binary, 2 ASCII, 3 UTF-8.
    pub code_set: u8,
    /// The designator, at most 255 bytes.
    pub bytes: Vec<u8>,
}

impl Designator {
    /// Fits into a CSCD descriptor, and is of a kind that names one unit.
    pub fn is_usable(&self) -> bool {
        self.kind.preference().is_some()
            && (1..=CSCD_DESIGNATOR_MAX).contains(&self.bytes.len())
            && self.bytes.iter().any(|byte| *byte != 0)
    }

    /// NAA field of an NAA designator: 6 is IEEE Registered Extended.
    pub fn naa(&self) -> Option<u8> {
        match self.kind {
            DesignatorType::Naa => self.bytes.first().map(|byte| byte >> 4),
            _ => None,
        }
    }

    /// Smaller is tried first; 16 bytes of NAA 6h before other NAA forms,
    /// because some copy managers know no other.
    fn rank(&self) -> (u8, u8) {
        let fine = self.naa().map_or(0, |naa| u8::from(naa != 6));
        (self.kind.preference().unwrap_or(u8::MAX), fine)
    }
}

impl fmt::Display for Designator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.kind.name())?;
        if self.code_set == 1 {
            return self
                .bytes
                .iter()
                .try_for_each(|byte| write!(f, "{byte:02x}"));
        }
        f.write_str(&ascii(&self.bytes))
    }
}

/// All designators of the logical unit in VPD page 83h (SPC-4 7.8.6), in the
/// page's order; those of ports and of the target device are left out. None if
/// it is another page.
pub fn designators(page: &[u8]) -> Option<Vec<Designator>> {
    let mut rest = page_content(page, 0x83)?;
    let mut found = Vec::new();
    while let [code_set, kind, _, len, ..] = *rest {
        let Some(bytes) = rest.get(4..4 + usize::from(len)) else {
            // Cut off: a part of a name is no name.
            break;
        };
        if kind >> 4 & 3 == 0 {
            found.push(Designator {
                kind: DesignatorType::of(kind),
                code_set: code_set & 0xf,
                bytes: bytes.to_vec(),
            });
        }
        rest = &rest[4 + usize::from(len)..];
    }
    Some(found)
}

/// Those that can name the unit in a CSCD descriptor, best first.
pub fn by_preference(all: &[Designator]) -> Vec<Designator> {
    let mut usable: Vec<_> = all.iter().filter(|d| d.is_usable()).cloned().collect();
    usable.sort_by_key(Designator::rank);
    usable
}

/// Whether VPD page 83h was sent whole.
pub fn is_whole(page: &[u8]) -> bool {
    be16(page, 2).is_some_and(|len| page.len() >= 4 + usize::from(len))
}
