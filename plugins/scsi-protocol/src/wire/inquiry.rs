//! Standard INQUIRY data and the VPD pages that are lists or texts.

use super::bytes::{ascii, be16, padded};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Standard INQUIRY data (SPC-4 6.6.2).
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct Standard {
    peripheral: u8,
    removable: u8,
    version: u8,
    format: u8,
    additional: u8,
    flags_5: u8,
    flags_6: u8,
    flags_7: u8,
    vendor: [u8; 8],
    product: [u8; 16],
    revision: [u8; 4],
}

/// Bytes of standard INQUIRY data that every target can send.
pub const STANDARD_BYTES: u16 = 36;

/// What a logical unit is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inquiry {
    /// PERIPHERAL QUALIFIER: 0 is a logical unit that is there.
    pub qualifier: u8,
    /// PERIPHERAL DEVICE TYPE: 0 and 14h are disks.
    pub device_type: u8,
    /// VERSION: 5 is SPC-3, 6 is SPC-4.
    pub version: u8,
    /// Contains a copy manager (3PC).
    pub third_party_copy: bool,
    /// Supports protection information (PROTECT).
    pub protect: bool,
    /// T10 VENDOR IDENTIFICATION.
    pub vendor: String,
    /// PRODUCT IDENTIFICATION.
    pub product: String,
    /// PRODUCT REVISION LEVEL.
    pub revision: String,
}

impl Inquiry {
    /// From standard INQUIRY data; None if it is too short to say what it is.
    pub fn parse(bytes: &[u8]) -> Option<Inquiry> {
        if bytes.len() < 5 {
            return None;
        }
        // Beyond ADDITIONAL LENGTH there is nothing.
        let sent = bytes.len().min(5 + usize::from(bytes[4]));
        let data: Standard = padded(&bytes[..sent]);
        Some(Inquiry {
            qualifier: data.peripheral >> 5,
            device_type: data.peripheral & 0x1f,
            version: data.version,
            third_party_copy: data.flags_5 & 0x08 != 0,
            protect: data.flags_5 & 0x01 != 0,
            vendor: ascii(&data.vendor),
            product: ascii(&data.product),
            revision: ascii(&data.revision),
        })
    }

    /// A disk, as EXTENDED COPY's block segments want (SBC-3, RBC, ZBC).
    pub fn is_disk(&self) -> bool {
        matches!(self.device_type, 0x00 | 0x0e | 0x14)
    }
}

/// Bytes of a VPD page before its content.
pub const PAGE_HEAD: usize = 4;

/// The content of VPD page `page`: at most what the head states and what was
/// sent. None if it is another page.
pub fn page_content(bytes: &[u8], page: u8) -> Option<&[u8]> {
    if *bytes.get(1)? != page {
        return None;
    }
    let stated = PAGE_HEAD + usize::from(be16(bytes, 2)?);
    bytes.get(PAGE_HEAD..stated.min(bytes.len()))
}

/// Bytes of the whole page, as its head states.
pub fn page_bytes(bytes: &[u8]) -> Option<usize> {
    Some(PAGE_HEAD + usize::from(be16(bytes, 2)?))
}

/// VPD page 00h: the pages that there are (SPC-4 7.8.14).
pub fn supported_pages(bytes: &[u8]) -> Option<&[u8]> {
    page_content(bytes, 0x00)
}

/// VPD page 80h: the unit's serial number (SPC-4 7.8.15).
pub fn serial_number(bytes: &[u8]) -> Option<String> {
    page_content(bytes, 0x80).map(ascii)
}
