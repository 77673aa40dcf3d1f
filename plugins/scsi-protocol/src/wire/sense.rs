//! Sense data (SPC-4 4.5): fixed (70h, 71h) and descriptor format (72h, 73h),
//! and what a third-party copy adds to it. Any bytes decode to something or to
//! None; nothing is read beyond what the target sent.

use super::bytes::{be16, be32, be64};

/// Bytes of sense data at most (SPC-4 4.5.1).
pub const SENSE_MAX: usize = 252;

/// Sense key NO SENSE.
pub const NO_SENSE: u8 = 0x0;
/// Sense key RECOVERED ERROR.
pub const RECOVERED_ERROR: u8 = 0x1;
/// Sense key NOT READY.
pub const NOT_READY: u8 = 0x2;
/// Sense key MEDIUM ERROR.
pub const MEDIUM_ERROR: u8 = 0x3;
/// Sense key HARDWARE ERROR.
pub const HARDWARE_ERROR: u8 = 0x4;
/// Sense key ILLEGAL REQUEST.
pub const ILLEGAL_REQUEST: u8 = 0x5;
/// Sense key UNIT ATTENTION.
pub const UNIT_ATTENTION: u8 = 0x6;
/// Sense key DATA PROTECT.
pub const DATA_PROTECT: u8 = 0x7;
/// Sense key BLANK CHECK.
pub const BLANK_CHECK: u8 = 0x8;
/// Sense key COPY ABORTED.
pub const COPY_ABORTED: u8 = 0xa;
/// Sense key ABORTED COMMAND.
pub const ABORTED_COMMAND: u8 = 0xb;
/// Sense key VOLUME OVERFLOW.
pub const VOLUME_OVERFLOW: u8 = 0xd;
/// Sense key MISCOMPARE.
pub const MISCOMPARE: u8 = 0xe;

/// Which end of a copy forwarded sense data comes from (SPC-4 4.5.2.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The copy manager did not say.
    Unknown,
    /// The copy source.
    Source,
    /// The copy destination.
    Destination,
}

/// Status and sense data of the source or the destination, sent on by the copy
/// manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forwarded {
    /// Whose it is.
    pub side: Side,
    /// The SAM status that the copy manager got.
    pub status: u8,
    /// Its sense key, ASC and ASCQ, if they were sent on.
    pub code: Option<(u8, u8, u8)>,
}

/// The field that a target refuses (SPC-4 4.5.2.4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldPointer {
    /// In the CDB; else in the parameter data.
    pub in_cdb: bool,
    /// In the segment descriptor that failed, not from the list's start.
    pub in_segment: bool,
    /// Its byte.
    pub byte: u16,
    /// Its highest bit, if the target says.
    pub bit: Option<u8>,
}

/// Sense data, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sense {
    /// It tells of a command that ended before (71h, 73h).
    pub deferred: bool,
    /// Sense key.
    pub key: u8,
    /// Additional sense code.
    pub asc: u8,
    /// Additional sense code qualifier.
    pub ascq: u8,
    /// INFORMATION, if valid.
    pub information: Option<u64>,
    /// The segment descriptor that a copy failed at.
    pub segment: Option<u16>,
    /// The field that is refused.
    pub field: Option<FieldPointer>,
    /// What the copy manager heard from source and destination.
    pub forwarded: Vec<Forwarded>,
}

impl Sense {
    /// Takes sense data apart; None if it is none.
    pub fn parse(bytes: &[u8]) -> Option<Sense> {
        let bytes = &bytes[..bytes.len().min(SENSE_MAX)];
        match bytes.first()? & 0x7f {
            code @ (0x70 | 0x71) => fixed(bytes, code == 0x71),
            code @ (0x72 | 0x73) => descriptors(bytes, code == 0x73),
            _ => None,
        }
    }

    /// Key, ASC and ASCQ.
    pub fn code(&self) -> (u8, u8, u8) {
        (self.key, self.asc, self.ascq)
    }
}

/// Key, ASC and ASCQ of sense data in either format.
pub fn code(bytes: &[u8]) -> Option<(u8, u8, u8)> {
    let at = |index: usize| bytes.get(index).copied();
    match at(0)? & 0x7f {
        0x70 | 0x71 => {
            // Beyond ADDITIONAL SENSE LENGTH there is nothing.
            let end = at(7).map_or(0, |more| 8 + usize::from(more));
            let sent = |index| if index < end { at(index) } else { None };
            let (asc, ascq) = (sent(12).unwrap_or(0), sent(13).unwrap_or(0));
            Some((at(2)? & 0xf, asc, ascq))
        }
        0x72 | 0x73 => Some((at(1)? & 0xf, at(2)?, at(3)?)),
        _ => None,
    }
}

/// SPC-4 4.5.3.
fn fixed(bytes: &[u8], deferred: bool) -> Option<Sense> {
    let (key, asc, ascq) = code(bytes)?;
    let end = bytes
        .get(7)
        .map_or(bytes.len(), |more| bytes.len().min(8 + usize::from(*more)));
    let sent = &bytes[..end];
    let mut sense = Sense {
        deferred,
        key,
        asc,
        ascq,
        ..Sense::default()
    };
    if bytes[0] & 0x80 != 0 {
        sense.information = be32(bytes, 3).map(u64::from);
    }
    if let Some(specific) = sent.get(15..18) {
        sense.field = field_pointer(specific, key);
    }
    if key == COPY_ABORTED && sent.len() >= 12 {
        sense.segment = be16(sent, 10);
        // SPC-3 6.3.3: where in the sense data the status byte and the sense
        // data of the source and of the destination begin; 0 is nowhere.
        for (at, side) in [(8, Side::Source), (9, Side::Destination)] {
            let start = usize::from(sent[at]);
            if start >= 18
                && let Some((status, sense_data)) = sent.get(start..).and_then(|s| s.split_first())
            {
                sense.forwarded.push(Forwarded {
                    side,
                    status: *status,
                    code: code(sense_data),
                });
            }
        }
    }
    Some(sense)
}

/// SPC-4 4.5.2.
fn descriptors(bytes: &[u8], deferred: bool) -> Option<Sense> {
    let (key, asc, ascq) = code(bytes)?;
    let mut sense = Sense {
        deferred,
        key,
        asc,
        ascq,
        ..Sense::default()
    };
    let more = usize::from(bytes.get(7).copied().unwrap_or(0));
    let mut rest = bytes.get(8..).unwrap_or_default();
    rest = &rest[..rest.len().min(more)];
    while let [kind, len, ..] = rest {
        let whole = rest.len().min(2 + usize::from(*len));
        let (this, next) = rest.split_at(whole);
        rest = next;
        match kind {
            0x00 if this.get(2).is_some_and(|flags| flags & 0x80 != 0) => {
                sense.information = be64(this, 4);
            }
            0x01 if key == COPY_ABORTED => sense.segment = segment_of(this),
            0x02 => {
                if let Some(specific) = this.get(4..7) {
                    sense.field = field_pointer(specific, key);
                }
            }
            0x0c => sense.forwarded.extend(forwarded(this)),
            _ => {}
        }
    }
    Some(sense)
}

/// COMMAND-SPECIFIC INFORMATION holds the segment in its third and fourth byte;
/// some copy managers right-align the four bytes of the fixed format in eight.
fn segment_of(descriptor: &[u8]) -> Option<u16> {
    match (be16(descriptor, 6), be16(descriptor, 10)) {
        (Some(0) | None, Some(segment)) => Some(segment),
        (segment, _) => segment,
    }
}

/// SPC-4 4.5.2.8.
fn forwarded(descriptor: &[u8]) -> Option<Forwarded> {
    let side = match descriptor.get(2)? & 0xf {
        1 => Side::Source,
        2 => Side::Destination,
        _ => Side::Unknown,
    };
    Some(Forwarded {
        side,
        status: *descriptor.get(3)?,
        code: code(descriptor.get(4..).unwrap_or_default()),
    })
}

/// SPC-4 4.5.2.4.2 (ILLEGAL REQUEST) and 4.5.2.4.5 (COPY ABORTED).
fn field_pointer(specific: &[u8], key: u8) -> Option<FieldPointer> {
    let flags = *specific.first()?;
    if flags & 0x80 == 0 || !matches!(key, ILLEGAL_REQUEST | COPY_ABORTED) {
        return None;
    }
    Some(FieldPointer {
        in_cdb: key == ILLEGAL_REQUEST && flags & 0x40 != 0,
        in_segment: key == COPY_ABORTED && flags & 0x20 != 0,
        byte: be16(specific, 1)?,
        bit: (flags & 0x08 != 0).then_some(flags & 0x07),
    })
}
