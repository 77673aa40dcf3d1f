//! The commands of a disk (SBC-3 clause 5).

use super::inquiry::cut;
use crate::bytes::{put, u16_at, u32_at, u64_at};
use crate::fault::{Effect, Refusal};
use crate::sense::{Sense, key};
use crate::state::{Call, Done, Outcome, State};

/// LBA and number of blocks of a command with them, by the length of its CDB.
fn place(cdb: &[u8; 16]) -> (u64, u64) {
    match cdb[0] >> 5 {
        0 => {
            let lba = u64::from(u32_at(cdb, 0) & 0x1F_FFFF);
            (lba, if cdb[4] == 0 { 256 } else { u64::from(cdb[4]) })
        }
        1 | 2 => (u64::from(u32_at(cdb, 2)), u64::from(u16_at(cdb, 7))),
        5 => (u64::from(u32_at(cdb, 2)), u64::from(u32_at(cdb, 6))),
        _ => (u64_at(cdb, 2), u64::from(u32_at(cdb, 10))),
    }
}

impl State {
    pub(crate) fn read_capacity(&mut self, call: &Call<'_>) -> Outcome {
        let unit = &self.units[call.unit];
        let last = unit.blocks.saturating_sub(1);
        if call.cdb[0] == 0x25 {
            let mut out = u32::try_from(last)
                .unwrap_or(u32::MAX)
                .to_be_bytes()
                .to_vec();
            out.extend(unit.block_size.to_be_bytes());
            return Ok(Done::Data(out));
        }
        let mut out = vec![0; 32];
        put(&mut out, 0, &last.to_be_bytes());
        put(&mut out, 8, &unit.block_size.to_be_bytes());
        out[13] = unit.physical_exponent & 0x0F;
        Ok(cut(out, u32_at(&call.cdb, 10) as usize))
    }

    /// The bytes of the medium that the command names.
    fn span(&self, call: &Call<'_>) -> Result<(u64, u64), Refusal> {
        let unit = &self.units[call.unit];
        let (lba, count) = place(&call.cdb);
        unit.holds(lba, count).map_err(Sense::out_of_range)?;
        let block = u64::from(unit.block_size);
        Ok((lba * block, count * block))
    }

    pub(crate) fn read(&mut self, call: &Call<'_>) -> Outcome {
        let (at, bytes) = self.span(call)?;
        let unit = &self.units[call.unit];
        let block = u64::from(unit.block_size);
        if let Some(bad) = unit.bad_in(at / block, bytes / block) {
            let sense = Sense::new(key::MEDIUM_ERROR, 0x11, 0x00);
            return Err(Sense {
                information: Some(bad),
                ..sense
            }
            .into());
        }
        let mut out = vec![0; bytes as usize];
        unit.chunks.read(at, &mut out);
        if let Some(Effect::Short(n)) = call.effect {
            out.truncate((n - n % block) as usize);
        }
        Ok(Done::Data(out))
    }

    pub(crate) fn write(&mut self, call: &Call<'_>) -> Outcome {
        let (at, bytes) = self.span(call)?;
        let unit = &mut self.units[call.unit];
        if unit.write_protected {
            return Err(Sense::new(key::DATA_PROTECT, 0x27, 0x00).into());
        }
        if (call.out.len() as u64) < bytes {
            return Err(Sense::new(key::ABORTED_COMMAND, 0x4B, 0x05).into());
        }
        let block = u64::from(unit.block_size);
        let n = match &call.effect {
            Some(Effect::Lie) => 0,
            Some(Effect::AnswerWithin(n, _) | Effect::Short(n)) => (n - n % block).min(bytes),
            _ => bytes,
        };
        unit.chunks.write(at, &call.out[..n as usize]);
        unit.bad_blocks
            .retain(|lba| *lba < at / block || *lba >= (at + n) / block);
        match &call.effect {
            Some(Effect::AnswerWithin(_, refusal)) => Err(refusal.clone()),
            Some(Effect::Short(_)) => Ok(Done::Untaken(bytes - n)),
            _ => Ok(Done::Data(Vec::new())),
        }
    }

    /// SBC-3 5.45: NDOB (b0 of byte 1) is zeroes without a block sent.
    pub(crate) fn write_same(&mut self, call: &Call<'_>) -> Outcome {
        let (lba, count) = place(&call.cdb);
        let unit = &mut self.units[call.unit];
        if unit.write_protected {
            return Err(Sense::new(key::DATA_PROTECT, 0x27, 0x00).into());
        }
        // No blocks: to the end of the medium.
        let count = if count == 0 {
            unit.blocks.saturating_sub(lba)
        } else {
            count
        };
        unit.holds(lba, count).map_err(Sense::out_of_range)?;
        let block = u64::from(unit.block_size);
        // UNMAP and ANCHOR need provisioning, which there is none of.
        if call.cdb[1] & 0x18 != 0 {
            return Err(Sense::field_in_cdb(1).into());
        }
        if count * block > 32 << 20 {
            return Err(Sense::field_in_cdb(10).into());
        }
        let nothing_sent = call.cdb[0] == 0x93 && call.cdb[1] & 1 != 0;
        if !nothing_sent && (call.out.len() as u64) < block {
            return Err(Sense::new(key::ABORTED_COMMAND, 0x4B, 0x05).into());
        }
        let pattern = if nothing_sent {
            &[][..]
        } else {
            &call.out[..block as usize]
        };
        if matches!(call.effect, Some(Effect::Lie)) {
            return Ok(Done::Data(Vec::new()));
        }
        if pattern.iter().all(|byte| *byte == 0) {
            unit.chunks.zero(lba * block, count * block);
        } else {
            (lba..lba + count).for_each(|lba| unit.chunks.write(lba * block, pattern));
        }
        Ok(Done::Data(Vec::new()))
    }

    /// SBC-3 5.21: memory is durable enough; the range is checked.
    pub(crate) fn synchronize_cache(&mut self, call: &Call<'_>) -> Outcome {
        self.span(call)?;
        Ok(Done::Data(Vec::new()))
    }
}
