//! WRITE USING TOKEN (SBC-4 5.59).

use super::ranges;
use crate::bytes::{u8_at, u32_at, u64_at};
use crate::fault::{Effect, Refusal, TokenFate};
use crate::operation::{Operation, Source, Step};
use crate::personality::{Style, TokenRules};
use crate::sense::{Sense, key};
use crate::state::{Call, Outcome, State};
use crate::token::{NoToken, TOKEN_BYTES, block_zero};

const TOKEN_AT: usize = 16;
const RANGES_LENGTH_AT: usize = 534;

impl State {
    pub(crate) fn write_using_token(&mut self, call: &Call<'_>) -> Outcome {
        let Some(rules) = self.personality.tokens.clone() else {
            return Err(Sense::illegal(0x20, 0x00).into());
        };
        let style = self.personality.style;
        let list = call.list();
        let promised = u32_at(&call.cdb, 10) as usize;
        let ranges = ranges::parse(list, promised, RANGES_LENGTH_AT, style, &rules)?;
        let unit = &self.units[call.unit];
        let bytes = ranges::check(&ranges, unit, style, &rules)?;
        if unit.write_protected {
            return Err(Sense::new(key::DATA_PROTECT, 0x27, 0x00).into());
        }
        let token = &list[TOKEN_AT..TOKEN_AT + TOKEN_BYTES];
        let (immed, delete) = (u8_at(list, 2) & 1 != 0, u8_at(list, 2) & 2 != 0);
        let block = unit.block_size;
        let mut operation = Operation::new(0x11, style, self.personality.sense, block);
        match block_zero(token) {
            Some(exact) => {
                if !rules.zero_token {
                    return Err(Sense::illegal(0x23, 0x01).into());
                }
                if !exact && style != Style::Ctl {
                    return Err(Sense::illegal(0x23, 0x0A).into());
                }
                for (lba, count) in &ranges {
                    operation.steps.push_back(Step::Copy {
                        source: Source::Zero,
                        unit: call.unit,
                        at: lba * u64::from(block),
                        bytes: count * u64::from(block),
                    });
                }
            }
            None => {
                let number = self.usable(call, token)?;
                let offset = u64_at(list, 8);
                self.token_steps(call, &rules, number, offset, bytes, &ranges, &mut operation)?;
                operation.uses = Some(number);
                if let Some(found) = self.tokens.get_mut(number).filter(|_| delete) {
                    found.delete = true;
                }
            }
        }
        self.start(call, Some(u32_at(&call.cdb, 6)), immed, operation)
    }

    /// The token's number, or why it is none.
    fn usable(&mut self, call: &Call<'_>, token: &[u8]) -> Result<u64, Refusal> {
        let found = self.tokens.find(token);
        if let (Ok(number), Some(Effect::Token(fate))) = (&found, &call.effect) {
            self.tokens.kill(*number, *fate);
            return Err(Sense::illegal(0x23, fate.ascq()).into());
        }
        let tells = self
            .personality
            .tokens
            .as_ref()
            .is_some_and(|rules| rules.tells_why_dead);
        found.map_err(|why| {
            let ascq = match why {
                _ if !tells => TokenFate::Unknown.ascq(),
                NoToken::Dead(fate) => fate.ascq(),
                NoToken::Length => 0x0A,
                NoToken::Foreign => 0x02,
                NoToken::Corrupt => 0x05,
            };
            Sense::illegal(0x23, ascq).into()
        })
    }

    /// The bytes of the token from the offset on, laid over the ranges.
    #[allow(clippy::too_many_arguments, reason = "one call, one meaning each")]
    fn token_steps(
        &mut self,
        call: &Call<'_>,
        rules: &TokenRules,
        number: u64,
        offset: u64,
        bytes: u64,
        ranges: &[(u64, u64)],
        operation: &mut Operation,
    ) -> Result<(), Refusal> {
        let style = self.personality.style;
        let block = u64::from(operation.block);
        let invalid = || Refusal::from(Sense::illegal(0x26, 0x00));
        let Some(token) = self.tokens.get_mut(number) else {
            return Err(invalid());
        };
        let unit = if rules.offset_in_source_blocks {
            u64::from(token.block_size)
        } else {
            block
        };
        let from = offset.checked_mul(unit).ok_or_else(invalid)?;
        let left = token.represents.saturating_sub(from);
        // SBC-3 lets the target refuse what goes past the ROD; CTL writes what
        // there is and fails then.
        if style != Style::Ctl && bytes > left {
            return Err(Sense::field_in_list(8).into());
        }
        let mut sources = token.sources(from, bytes).into_iter();
        let mut held: Option<(Source, u64)> = None;
        for (lba, count) in ranges {
            let (mut at, mut want) = (lba * block, count * block);
            while want > 0 {
                let Some((source, have)) = held.take().or_else(|| sources.next()) else {
                    operation.steps.push_back(Step::Fail(invalid()));
                    return Ok(());
                };
                let n = have.min(want);
                // CTL cannot split a block of either side.
                if !n.is_multiple_of(block) || !n.is_multiple_of(u64::from(token.block_size)) {
                    operation.steps.push_back(Step::Fail(invalid()));
                    return Ok(());
                }
                if have > n {
                    held = Some((source.after(n), have - n));
                }
                operation.steps.push_back(Step::Copy {
                    source,
                    unit: call.unit,
                    at,
                    bytes: n,
                });
                at += n;
                want -= n;
            }
        }
        Ok(())
    }
}
