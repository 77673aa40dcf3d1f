//! Sense data (SPC-4 4.5), fixed and descriptor format.

use crate::bytes::put;

/// SENSE KEY values (SPC-4 table 54).
pub mod key {
    #![allow(missing_docs, reason = "the names are SPC-4's")]
    pub const NO_SENSE: u8 = 0x0;
    pub const RECOVERED_ERROR: u8 = 0x1;
    pub const NOT_READY: u8 = 0x2;
    pub const MEDIUM_ERROR: u8 = 0x3;
    pub const HARDWARE_ERROR: u8 = 0x4;
    pub const ILLEGAL_REQUEST: u8 = 0x5;
    pub const UNIT_ATTENTION: u8 = 0x6;
    pub const DATA_PROTECT: u8 = 0x7;
    pub const COPY_ABORTED: u8 = 0xA;
    pub const ABORTED_COMMAND: u8 = 0xB;
}

/// Status of a command (SAM-5 5.3.1).
pub mod status {
    #![allow(missing_docs, reason = "the names are SAM-5's")]
    pub const GOOD: u8 = 0x00;
    pub const CHECK_CONDITION: u8 = 0x02;
    pub const BUSY: u8 = 0x08;
    pub const RESERVATION_CONFLICT: u8 = 0x18;
    pub const TASK_SET_FULL: u8 = 0x28;
    pub const TASK_ABORTED: u8 = 0x40;
}

/// Which of the two formats a target answers in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SenseFormat {
    /// Response code 70h.
    Fixed,
    /// Response code 72h.
    Descriptor,
}

/// Whose sense a copy manager forwards (SPC-4 table 52, SENSE DATA SOURCE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The copy source.
    Source,
    /// The copy destination.
    Destination,
}

/// Status and sense of a copy source or destination, inside a copy manager's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forwarded {
    /// Whose it is.
    pub side: Side,
    /// Its status.
    pub status: u8,
    /// Its sense data, as it gave it.
    pub sense: Vec<u8>,
}

/// What a CHECK CONDITION says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sense {
    /// SENSE KEY.
    pub key: u8,
    /// ADDITIONAL SENSE CODE.
    pub asc: u8,
    /// ADDITIONAL SENSE CODE QUALIFIER.
    pub ascq: u8,
    /// INFORMATION: an LBA, or a residual.
    pub information: Option<u64>,
    /// The segment descriptor that was processed (COMMAND-SPECIFIC INFORMATION).
    pub segment: Option<u16>,
    /// SENSE KEY SPECIFIC, three bytes with SKSV.
    pub specific: Option<[u8; 3]>,
    /// What the copy source or destination said.
    pub forwarded: Option<Forwarded>,
}

impl Sense {
    /// With nothing but key and codes.
    pub fn new(key: u8, asc: u8, ascq: u8) -> Sense {
        Sense {
            key,
            asc,
            ascq,
            information: None,
            segment: None,
            specific: None,
            forwarded: None,
        }
    }

    /// ILLEGAL REQUEST.
    pub fn illegal(asc: u8, ascq: u8) -> Sense {
        Sense::new(key::ILLEGAL_REQUEST, asc, ascq)
    }

    /// COPY ABORTED.
    pub fn copy_aborted(asc: u8, ascq: u8) -> Sense {
        Sense::new(key::COPY_ABORTED, asc, ascq)
    }

    /// INVALID FIELD IN CDB, with the pointer to the byte.
    pub fn field_in_cdb(byte: u16) -> Sense {
        let [high, low] = byte.to_be_bytes();
        Sense {
            specific: Some([0xC0, high, low]),
            ..Sense::illegal(0x24, 0x00)
        }
    }

    /// INVALID FIELD IN PARAMETER LIST, with the pointer to the byte.
    pub fn field_in_list(byte: u16) -> Sense {
        let [high, low] = byte.to_be_bytes();
        Sense {
            specific: Some([0x80, high, low]),
            ..Sense::illegal(0x26, 0x00)
        }
    }

    /// LOGICAL BLOCK ADDRESS OUT OF RANGE.
    pub fn out_of_range(lba: u64) -> Sense {
        Sense {
            information: Some(lba),
            ..Sense::illegal(0x21, 0x00)
        }
    }

    pub(crate) fn at_segment(self, segment: usize) -> Sense {
        Sense {
            segment: Some(u16::try_from(segment).unwrap_or(u16::MAX)),
            ..self
        }
    }

    /// The bytes.
    pub fn encode(&self, format: SenseFormat) -> Vec<u8> {
        match format {
            SenseFormat::Fixed => self.fixed(),
            SenseFormat::Descriptor => self.descriptor(),
        }
    }

    /// SPC-4 4.5.3. Forwarded sense follows byte 17; the first two bytes of
    /// COMMAND-SPECIFIC INFORMATION say where, the last two name the segment.
    fn fixed(&self) -> Vec<u8> {
        let mut out = vec![0; 18];
        out[0] = 0x70;
        if let Some(information) = self.information {
            // VALID only if it fits the four bytes.
            if let Ok(short) = u32::try_from(information) {
                out[0] |= 0x80;
                put(&mut out, 3, &short.to_be_bytes());
            }
        }
        out[2] = self.key;
        if let Some(segment) = self.segment {
            put(&mut out, 10, &segment.to_be_bytes());
        }
        out[12] = self.asc;
        out[13] = self.ascq;
        if let Some(specific) = self.specific {
            put(&mut out, 15, &specific);
        }
        if let Some(forwarded) = &self.forwarded {
            let pointer = match forwarded.side {
                Side::Source => 8,
                Side::Destination => 9,
            };
            out[pointer] = out.len() as u8;
            out.push(forwarded.status);
            out.extend(&forwarded.sense[..forwarded.sense.len().min(200)]);
        }
        out[7] = (out.len() - 8) as u8;
        out
    }

    /// SPC-4 4.5.2.
    fn descriptor(&self) -> Vec<u8> {
        let mut out = vec![0x72, self.key, self.asc, self.ascq, 0, 0, 0, 0];
        if let Some(information) = self.information {
            out.extend([0x00, 0x0A, 0x80, 0x00]);
            out.extend(information.to_be_bytes());
        }
        if let Some(segment) = self.segment {
            out.extend([0x01, 0x0A, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00]);
            out.extend(segment.to_be_bytes());
        }
        if let Some([a, b, c]) = self.specific {
            out.extend([0x02, 0x06, 0x00, 0x00, a, b, c, 0x00]);
        }
        if let Some(forwarded) = &self.forwarded {
            // FSDT: the forwarded sense is cut; CTL cuts at 64 bytes too.
            let cut = forwarded.sense.len() > 64;
            let sense = &forwarded.sense[..forwarded.sense.len().min(64)];
            let source = match forwarded.side {
                Side::Source => 0x01,
                Side::Destination => 0x02,
            };
            let fsdt = if cut { 0x80 } else { 0 };
            out.extend([0x0C, 2 + sense.len() as u8, source | fsdt, forwarded.status]);
            out.extend(sense);
        }
        out[7] = (out.len() - 8) as u8;
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SPC-4 4.5.3: response code 70h, key in byte 2, ASC and ASCQ in 12 and 13.
    #[test]
    fn fixed() {
        assert_eq!(
            Sense::field_in_cdb(2).encode(SenseFormat::Fixed),
            [
                0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24, 0, 0, 0xC0, 0, 2
            ]
        );
        assert_eq!(
            Sense::out_of_range(0x1_2345).encode(SenseFormat::Fixed),
            [
                0xF0, 0, 5, 0, 1, 0x23, 0x45, 10, 0, 0, 0, 0, 0x21, 0, 0, 0, 0, 0
            ]
        );
    }

    /// SPC-4 4.5.2.2 (information), 4.5.2.3 (command-specific), 4.5.2.8 (forwarded).
    #[test]
    fn descriptor() {
        let inner = Sense::new(key::MEDIUM_ERROR, 0x11, 0).encode(SenseFormat::Descriptor);
        assert_eq!(inner, [0x72, 3, 0x11, 0, 0, 0, 0, 0]);
        let sense = Sense {
            information: Some(0x0102_0304_0506_0708),
            forwarded: Some(Forwarded {
                side: Side::Source,
                status: 2,
                sense: inner,
            }),
            ..Sense::copy_aborted(0x0D, 0x01).at_segment(3)
        };
        assert_eq!(
            sense.encode(SenseFormat::Descriptor),
            [
                0x72, 0x0A, 0x0D, 0x01, 0, 0, 0, 36, // header
                0x00, 0x0A, 0x80, 0, 1, 2, 3, 4, 5, 6, 7, 8, // information
                0x01, 0x0A, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, // command specific
                0x0C, 10, 0x01, 0x02, 0x72, 3, 0x11, 0, 0, 0, 0, 0, // forwarded
            ]
        );
    }

    #[test]
    fn fixed_carries_the_destinations_sense_behind_byte_17() {
        let sense = Sense {
            forwarded: Some(Forwarded {
                side: Side::Destination,
                status: 2,
                sense: vec![0x70, 0, 7],
            }),
            ..Sense::copy_aborted(0x0D, 0x01).at_segment(1)
        };
        assert_eq!(
            sense.encode(SenseFormat::Fixed),
            [
                0x70, 0, 0xA, 0, 0, 0, 0, 14, 0, 18, 0, 1, 0x0D, 1, 0, 0, 0, 0, 2, 0x70, 0, 7
            ]
        );
    }
}
