//! RECEIVE COPY OPERATING PARAMETERS and what tells of an operation: RECEIVE
//! COPY STATUS (LID1) and (LID4), RECEIVE COPY FAILURE DETAILS, RECEIVE ROD
//! TOKEN INFORMATION, REPORT ALL ROD TOKENS (SPC-4 6.17 to 6.30).

use super::inquiry::cut;
use crate::bytes::{put, u32_at};
use crate::fault::{Effect, Refusal};
use crate::operation::{Key, Operation, copy_status};
use crate::personality::Style;
use crate::sense::Sense;
use crate::state::{Call, Outcome, State};

/// TRANSFER COUNT UNITS.
const BYTES: u8 = 0x00;
const MEBIBYTES: u8 = 0x02;
const BLOCKS: u8 = 0xF1;

impl State {
    pub(crate) fn operating_parameters(&mut self, call: &Call<'_>) -> Outcome {
        let allocated = u32_at(&call.cdb, 10) as usize;
        if self.personality.style == Style::Lio && (call.cdb[2] != 0 || allocated < 54) {
            return Err(Sense::field_in_cdb(2).into());
        }
        let limits = &self.personality.copy;
        let mut out = vec![0; 44];
        put(&mut out, 0, &(40 + limits.types.len() as u32).to_be_bytes());
        out[4] = u8::from(limits.snlid);
        put(&mut out, 8, &limits.cscds.to_be_bytes());
        put(&mut out, 10, &limits.segments.to_be_bytes());
        put(&mut out, 12, &limits.descriptor_bytes.to_be_bytes());
        put(&mut out, 16, &limits.segment_bytes.to_be_bytes());
        put(&mut out, 20, &limits.inline_bytes.to_be_bytes());
        put(&mut out, 24, &limits.held_bytes.to_be_bytes());
        put(&mut out, 34, &limits.total_concurrent.to_be_bytes());
        out[36] = limits.concurrent;
        out[37] = limits.granularity_log2;
        out[43] = limits.types.len() as u8;
        out.extend(&limits.types);
        Ok(cut(out, allocated))
    }

    /// The operation that the command asks about, after what befalls it.
    fn asked(&mut self, call: &Call<'_>, id: u32) -> Result<Key, Refusal> {
        let key = self.key(call, id);
        if call.effect == Some(Effect::LoseStatus) {
            self.operations.remove(&key);
        }
        match self.operations.get_mut(&key) {
            None => Err(Sense::field_in_cdb(2).into()),
            Some(operation) => {
                operation.forever |= call.effect == Some(Effect::NeverEnds);
                Ok(key)
            }
        }
    }

    /// The status of an operation that has ended is told once.
    fn told(&mut self, key: &Key) {
        let over = |o: &Operation| o.ended.is_some() && !o.forever;
        if self.operations.get(key).is_some_and(over) {
            self.operations.remove(key);
        }
    }

    /// SPC-4 6.26.
    pub(crate) fn copy_status_lid1(&mut self, call: &Call<'_>) -> Outcome {
        let key = self.asked(call, u32::from(call.cdb[2]))?;
        let Some(operation) = self.operations.get(&key) else {
            return Err(vanished());
        };
        let mut out = vec![0; 12];
        put(&mut out, 0, &8u32.to_be_bytes());
        out[4] = match operation.status_now() {
            copy_status::COMPLETED => 1,
            copy_status::IN_PROGRESS_FOREGROUND | copy_status::IN_PROGRESS_BACKGROUND => 0,
            _ => 2,
        };
        put(&mut out, 5, &operation.segments.to_be_bytes());
        let (units, count) = match u32::try_from(operation.bytes) {
            Ok(bytes) => (BYTES, bytes),
            Err(_) => (MEBIBYTES, (operation.bytes >> 20) as u32),
        };
        out[7] = units;
        put(&mut out, 8, &count.to_be_bytes());
        self.told(&key);
        Ok(cut(out, u32_at(&call.cdb, 10) as usize))
    }

    /// SPC-4 6.20.
    pub(crate) fn failure_details(&mut self, call: &Call<'_>) -> Outcome {
        let key = self.asked(call, u32::from(call.cdb[2]))?;
        let Some(operation) = self.operations.get(&key) else {
            return Err(vanished());
        };
        if operation.ended.is_none() {
            return Err(Sense::field_in_cdb(2).into());
        }
        let mut out = vec![0; 60];
        if operation.refusal.is_some() {
            let sense = operation.sense();
            put(&mut out, 0, &(56 + sense.len() as u32).to_be_bytes());
            out[56] = 2;
            put(&mut out, 58, &(sense.len() as u16).to_be_bytes());
            out.extend(sense);
        }
        self.told(&key);
        Ok(cut(out, u32_at(&call.cdb, 10) as usize))
    }

    /// What the two LID4 forms have in common (SPC-4 table 270).
    fn progress(&self, call: &Call<'_>, operation: &Operation, blocks: bool) -> Vec<u8> {
        let sense = operation.sense();
        let mut out = vec![0; 32];
        out[4] = operation.service_action;
        out[5] = operation.status_now();
        put(&mut out, 6, &operation.operations.to_be_bytes());
        let delay = if operation.ended.is_some() && !operation.forever {
            // SPC-4: FFFFFFFEh once it has ended; CTL says FFFFFFFFh always.
            if self.personality.style == Style::Ctl {
                u32::MAX
            } else {
                u32::MAX - 1
            }
        } else {
            self.personality.delay_advice_ms
        };
        put(&mut out, 8, &delay.to_be_bytes());
        out[12] = operation.refusal.as_ref().map_or(0, Refusal::status);
        out[13] = sense.len() as u8;
        out[14] = sense.len() as u8;
        let mut bytes = operation.bytes;
        if let Some(Effect::Short(most)) = &call.effect {
            bytes = bytes.min(*most);
        }
        let blocks = blocks ^ (call.effect == Some(Effect::OtherUnits));
        let (units, count) = if blocks {
            (BLOCKS, bytes / u64::from(operation.block.max(1)))
        } else {
            (BYTES, bytes)
        };
        out[15] = units;
        put(&mut out, 16, &count.to_be_bytes());
        put(&mut out, 24, &operation.segments.to_be_bytes());
        out.extend(sense);
        out
    }

    /// SPC-4 6.27.
    pub(crate) fn copy_status_lid4(&mut self, call: &Call<'_>) -> Outcome {
        let key = self.asked(call, u32_at(&call.cdb, 2))?;
        let Some(operation) = self.operations.get(&key) else {
            return Err(vanished());
        };
        let mut out = self.progress(call, operation, false);
        let available = out.len() as u32 - 4;
        put(&mut out, 0, &available.to_be_bytes());
        self.told(&key);
        Ok(cut(out, u32_at(&call.cdb, 10) as usize))
    }

    /// SPC-4 6.28. The first answer after the end is the only one.
    pub(crate) fn rod_token_information(&mut self, call: &Call<'_>) -> Outcome {
        let key = self.asked(call, u32_at(&call.cdb, 2))?;
        let blocks = self
            .personality
            .tokens
            .as_ref()
            .is_some_and(|rules| rules.counts_blocks);
        let Some(operation) = self.operations.get(&key) else {
            return Err(vanished());
        };
        let mut out = self.progress(call, operation, blocks);
        let done = operation.ended.is_some() && !operation.forever;
        match operation.makes.as_ref().filter(|_| done) {
            Some(token) => {
                out.extend((2 + token.len() as u32).to_be_bytes());
                out.extend([0, 0]);
                out.extend(&token[..]);
            }
            None => out.extend([0; 4]),
        }
        let available = out.len() as u32 - 4;
        put(&mut out, 0, &available.to_be_bytes());
        self.told(&key);
        Ok(cut(out, u32_at(&call.cdb, 10) as usize))
    }

    /// SPC-4 6.30: the management part of each token, 96 bytes.
    pub(crate) fn report_all_rod_tokens(&mut self, call: &Call<'_>) -> Outcome {
        let mut out = vec![0; 8];
        for token in self.tokens.management().take(512) {
            out.extend(token);
        }
        let available = out.len() as u32 - 4;
        put(&mut out, 0, &available.to_be_bytes());
        Ok(cut(out, u32_at(&call.cdb, 10) as usize))
    }
}

fn vanished() -> Refusal {
    Sense::field_in_cdb(2).into()
}
