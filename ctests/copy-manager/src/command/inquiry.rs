//! INQUIRY, its pages, REPORT LUNS and REPORT SUPPORTED OPERATION CODES.

use crate::bytes::{put, u8_at, u16_at, u32_at};
use crate::fault::Refusal;
use crate::kind::Kind;
use crate::personality::Personality;
use crate::sense::Sense;
use crate::state::{Call, Done, Outcome, State};
use crate::unit::Unit;

/// Cut to the allocation length.
pub(super) fn cut(mut bytes: Vec<u8>, allocated: usize) -> Done {
    bytes.truncate(allocated);
    Done::Data(bytes)
}

fn padded(text: &str, width: usize) -> Vec<u8> {
    format!("{text:<width$.width$}").into_bytes()
}

/// SPC-4 table 173.
fn standard(personality: &Personality) -> Vec<u8> {
    let mut out = vec![0; 96];
    out[2] = 0x06; // SPC-4
    out[3] = 0x12; // HISUP, RESPONSE DATA FORMAT 2
    out[4] = (out.len() - 5) as u8;
    out[5] = if personality.third_party { 0x08 } else { 0 };
    out[7] = 0x02; // CMDQUE
    put(&mut out, 8, &padded(personality.vendor, 8));
    put(&mut out, 16, &padded(personality.product, 16));
    put(&mut out, 32, b"0001");
    // SAM-5, SPC-4, SBC-3.
    put(&mut out, 58, &[0x00, 0xA0, 0x04, 0x60, 0x04, 0xC0]);
    out
}

fn page(code: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![0, code];
    out.extend((body.len() as u16).to_be_bytes());
    out.extend(body);
    out
}

/// Device Identification (SPC-4 7.8.6): the unit's names, and one of the target
/// port, which is none of the unit.
fn identification(unit: &Unit) -> Vec<u8> {
    let mut body = Vec::new();
    // Relative target port 1, association 1h.
    body.extend([0x01, 0x14, 0x00, 0x04, 0x00, 0x00, 0x00, 0x01]);
    for name in &unit.designators {
        body.extend([name.code_set, name.kind, 0, name.bytes.len() as u8]);
        body.extend(&name.bytes);
    }
    page(0x83, &body)
}

/// Block Limits (SBC-3 6.6.4).
fn block_limits(unit: &Unit) -> Vec<u8> {
    let mut body = vec![0; 0x3C];
    // MAXIMUM TRANSFER LENGTH and OPTIMAL TRANSFER LENGTH, in blocks: 8 and 1 MiB.
    put(&mut body, 4, &((8 << 20) / unit.block_size).to_be_bytes());
    put(&mut body, 8, &((1 << 20) / unit.block_size).to_be_bytes());
    // MAXIMUM WRITE SAME LENGTH: 32 MiB.
    put(
        &mut body,
        32,
        &u64::from((32 << 20) / unit.block_size).to_be_bytes(),
    );
    page(0xB0, &body)
}

impl State {
    pub(crate) fn inquiry_of_nothing(&self, cdb: &[u8]) -> Vec<u8> {
        let mut out = vec![0x7F, 0, 0x06, 0x12, 31];
        out.resize(36, 0);
        out.truncate(usize::from(u16_at(cdb, 3)));
        out
    }

    pub(crate) fn inquiry(&mut self, call: &Call<'_>) -> Outcome {
        let allocated = usize::from(u16_at(&call.cdb, 3));
        let (evpd, code) = (call.cdb[1] & 1 != 0, call.cdb[2]);
        if !evpd {
            if code != 0 {
                return Err(Sense::field_in_cdb(2).into());
            }
            return Ok(cut(standard(&self.personality), allocated));
        }
        Ok(cut(self.vital_page(call.unit, code)?, allocated))
    }

    fn vital_page(&self, unit: usize, code: u8) -> Result<Vec<u8>, Refusal> {
        let unit = &self.units[unit];
        Ok(match code {
            0x00 if self.personality.third_party_page => {
                page(0x00, &[0x00, 0x80, 0x83, 0x8F, 0xB0, 0xB1, 0xB2])
            }
            0x00 => page(0x00, &[0x00, 0x80, 0x83, 0xB0, 0xB1, 0xB2]),
            0x80 => page(0x80, unit.serial.as_bytes()),
            0x83 => identification(unit),
            0x8F if self.personality.third_party_page => page(
                0x8F,
                &self.personality.third_party_descriptors(unit.block_size),
            ),
            0xB0 => block_limits(unit),
            // Block Device Characteristics: solid state.
            0xB1 => {
                let mut body = vec![0; 0x3C];
                body[1] = 1;
                page(0xB1, &body)
            }
            // Logical Block Provisioning: none of UNMAP and WRITE SAME with it.
            0xB2 => page(0xB2, &[0; 4]),
            _ => return Err(Sense::field_in_cdb(2).into()),
        })
    }

    /// SPC-4 6.33.
    pub(crate) fn report_luns(&mut self, call: &Call<'_>) -> Outcome {
        let mut luns = Vec::new();
        for unit in 0..self.units.len().min(256) {
            if self.sees(call.nexus, unit) {
                luns.extend([0, unit as u8, 0, 0, 0, 0, 0, 0]);
            }
        }
        let mut out = (luns.len() as u32).to_be_bytes().to_vec();
        out.extend([0; 4]);
        out.extend(luns);
        Ok(cut(out, u32_at(&call.cdb, 6) as usize))
    }

    /// SPC-4 6.35, the one-command formats.
    pub(crate) fn report_operation_codes(&mut self, call: &Call<'_>) -> Outcome {
        let option = call.cdb[2] & 0x07;
        if !matches!(option, 1..=3) {
            return Err(Sense::field_in_cdb(2).into());
        }
        let opcode = call.cdb[3];
        let action = if option == 1 {
            0
        } else {
            u8_at(&call.cdb, 5) & 0x1F
        };
        let supported = self.personality.implements(Kind::of(&[opcode, action]));
        let size: u16 = match opcode >> 5 {
            0 => 6,
            1 | 2 => 10,
            5 => 12,
            _ => 16,
        };
        let mut out = vec![0, if supported { 3 } else { 1 }];
        if supported {
            out.extend(size.to_be_bytes());
            out.push(opcode);
            out.resize(4 + usize::from(size), 0xFF);
        } else {
            out.extend([0, 0]);
        }
        Ok(cut(out, u32_at(&call.cdb, 6) as usize))
    }
}
