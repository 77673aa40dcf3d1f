//! REQUEST SENSE and MODE SENSE, as far as a kernel's disk driver asks.

use super::inquiry::cut;
use crate::bytes::{put, u16_at};
use crate::sense::{Sense, SenseFormat, key};
use crate::state::{Call, Outcome, State};

impl State {
    /// SPC-4 6.39: a unit attention that waits, else NO SENSE.
    pub(crate) fn request_sense(&mut self, call: &Call<'_>) -> Outcome {
        let sense = match self.take_attention(call.nexus, call.unit) {
            Some((asc, ascq)) => Sense::new(key::UNIT_ATTENTION, asc, ascq),
            None => Sense::new(key::NO_SENSE, 0, 0),
        };
        let wants_descriptors = call.cdb[1] & 1 != 0;
        let format = if wants_descriptors {
            SenseFormat::Descriptor
        } else {
            SenseFormat::Fixed
        };
        Ok(cut(sense.encode(format), usize::from(call.cdb[4])))
    }

    /// SPC-4 6.13 and 6.14: Caching (08h) and Control (0Ah).
    pub(crate) fn mode_sense(&mut self, call: &Call<'_>) -> Outcome {
        let unit = &self.units[call.unit];
        let long = call.cdb[0] == 0x5A;
        let code = call.cdb[2] & 0x3F;
        let descriptor_sense = self.personality.sense == SenseFormat::Descriptor;
        let mut caching = [0; 20];
        put(&mut caching, 0, &[0x08, 0x12, 0x04]); // WCE
        let mut control = [0; 12];
        put(
            &mut control,
            0,
            &[0x0A, 0x0A, if descriptor_sense { 0x04 } else { 0 }],
        ); // D_SENSE
        let mut pages = Vec::new();
        match code {
            0x08 => pages.extend(caching),
            0x0A => pages.extend(control),
            0x3F => {
                pages.extend(caching);
                pages.extend(control);
            }
            _ => return Err(Sense::field_in_cdb(2).into()),
        }
        // Changeable values: none.
        if call.cdb[2] >> 6 == 1 {
            let mut at = 0;
            while at < pages.len() {
                let n = usize::from(pages[at + 1]);
                pages[at + 2..at + 2 + n].fill(0);
                at += 2 + n;
            }
        }
        let mut block = Vec::new();
        if call.cdb[1] & 0x08 == 0 {
            block.extend(u32::try_from(unit.blocks).unwrap_or(u32::MAX).to_be_bytes());
            block.extend(unit.block_size.to_be_bytes());
        }
        // WP, DPOFUA.
        let specific = if unit.write_protected { 0x90 } else { 0x10 };
        let rest = block.len() + pages.len();
        let mut out = if long {
            let [high, low] = (rest as u16 + 6).to_be_bytes();
            vec![high, low, 0, specific, 0, 0, 0, block.len() as u8]
        } else {
            vec![(rest + 3) as u8, 0, specific, block.len() as u8]
        };
        out.extend(block);
        out.extend(pages);
        let allocated = if long {
            u16_at(&call.cdb, 7)
        } else {
            u16::from(call.cdb[4])
        };
        Ok(cut(out, usize::from(allocated)))
    }
}
