//! POPULATE TOKEN (SBC-4 5.12).

use std::time::Duration;

use super::ranges;
use crate::bytes::{u8_at, u32_at};
use crate::fault::Effect;
use crate::operation::{Operation, Step};
use crate::personality::TokenMoment;
use crate::sense::{Sense, key};
use crate::state::{Call, Outcome, State};
use crate::token::NewToken;

impl State {
    pub(crate) fn populate_token(&mut self, call: &Call<'_>) -> Outcome {
        let Some(rules) = self.personality.tokens.clone() else {
            return Err(Sense::illegal(0x20, 0x00).into());
        };
        let style = self.personality.style;
        let list = call.list();
        let parsed = ranges::parse(list, u32_at(&call.cdb, 10) as usize, 14, style, &rules)?;
        let (immed, rod_type_valid) = (u8_at(list, 2) & 1 != 0, u8_at(list, 2) & 2 != 0);
        let timeout = match u32_at(list, 4) {
            0 => rules.default_timeout_s,
            seconds if seconds > rules.max_timeout_s => return Err(Sense::field_in_list(4).into()),
            seconds => seconds,
        };
        let asked = u32_at(list, 8);
        if rod_type_valid && !rules.rod_types.contains(&asked) {
            return Err(Sense::field_in_list(8).into());
        }
        let unit = &self.units[call.unit];
        let bytes = ranges::check(&parsed, unit, style, &rules)?;
        if rules.moment == TokenMoment::OnCreation {
            // Bytes that are taken now must be readable now.
            let bad = parsed
                .iter()
                .find_map(|(lba, count)| unit.bad_in(*lba, *count));
            if let Some(bad) = bad {
                let sense = Sense::new(key::MEDIUM_ERROR, 0x11, 0x00);
                return Err(Sense {
                    information: Some(bad),
                    ..sense
                }
                .into());
            }
        }
        let mut kept = parsed;
        if let Some(Effect::Short(most)) = &call.effect {
            shorten(&mut kept, *most, unit.block_size);
        }
        let mut operation = Operation::new(0x10, style, self.personality.sense, unit.block_size);
        operation.steps.push_back(Step::Represent { bytes });
        let id = u32_at(&call.cdb, 6);
        let new = NewToken {
            unit: call.unit,
            nexus: call.nexus,
            ranges: &kept,
            rod_type: if rod_type_valid {
                asked
            } else {
                rules.rod_type
            },
            frozen: rules.moment == TokenMoment::OnCreation,
            timeout: Duration::from_secs(timeout.into()),
            now: self.now,
        };
        // Only an operation that starts leaves a token behind.
        let token = self.tokens.create(unit, new);
        operation.makes = Some(token.clone());
        let outcome = self.start(call, Some(id), immed, operation);
        if outcome.is_err()
            && let Ok(number) = self.tokens.find(&token[..])
        {
            self.tokens.kill(number, crate::fault::TokenFate::Unknown);
        }
        outcome
    }
}

/// Keeps the first `most` bytes, in whole blocks: what a token that represents
/// less than was asked for still does.
fn shorten(ranges: &mut [(u64, u64)], most: u64, block: u32) {
    let mut left = most / u64::from(block);
    for (_, count) in ranges {
        *count = (*count).min(left);
        left -= *count;
    }
}
