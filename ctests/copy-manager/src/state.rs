//! Everything that a copy manager holds, and the way of one command through it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use crate::bytes::u32_at;
use crate::fault::{Effect, Faults, Refusal, TokenFate};
use crate::kind::Kind;
use crate::operation::{Key, Operation, Operations, Stop, copy_status};
use crate::personality::{Personality, Style};
use crate::sense::{Sense, key, status};
use crate::token::Tokens;
use crate::trace::Trace;
use crate::unit::Unit;

/// One command, as a handler sees it.
pub(crate) struct Call<'a> {
    pub(crate) nexus: usize,
    pub(crate) unit: usize,
    pub(crate) kind: Kind,
    /// Padded with zeroes to sixteen bytes.
    pub(crate) cdb: [u8; 16],
    pub(crate) out: &'a [u8],
    /// What befalls it, of what a handler has to know.
    pub(crate) effect: Option<Effect>,
}

impl Call<'_> {
    /// The parameter list: what came, of what the CDB promised (bytes 10 to 13).
    pub(crate) fn list(&self) -> &[u8] {
        let promised = u32_at(&self.cdb, 10) as usize;
        &self.out[..promised.min(self.out.len())]
    }
}

/// How a handler leaves off.
pub(crate) enum Done {
    /// GOOD, with these bytes.
    Data(Vec<u8>),
    /// GOOD, though so many of the bytes sent were not taken.
    Untaken(u64),
    /// An operation runs in the foreground; its end is the command's.
    Started(Key),
}

pub(crate) type Outcome = Result<Done, Refusal>;

pub(crate) struct State {
    pub(crate) personality: Personality,
    pub(crate) units: Vec<Unit>,
    pub(crate) nexuses: Vec<String>,
    /// Units that a nexus does not see.
    pub(crate) hidden: HashSet<(usize, usize)>,
    attentions: HashMap<(usize, usize), VecDeque<(u8, u8)>>,
    pub(crate) operations: Operations,
    pub(crate) tokens: Tokens,
    pub(crate) faults: Faults,
    pub(crate) trace: Trace,
    pub(crate) now: Duration,
}

impl State {
    pub(crate) fn new(personality: Personality, instance: u64) -> State {
        State {
            personality,
            units: Vec::new(),
            nexuses: Vec::new(),
            hidden: HashSet::new(),
            attentions: HashMap::new(),
            operations: Operations::default(),
            tokens: Tokens::new(instance),
            faults: Faults::default(),
            trace: Trace::default(),
            now: Duration::ZERO,
        }
    }

    pub(crate) fn attention(&mut self, nexus: usize, unit: usize, asc: u8, ascq: u8) {
        let queue = self.attentions.entry((nexus, unit)).or_default();
        if !queue.contains(&(asc, ascq)) {
            queue.push_back((asc, ascq));
        }
    }

    /// A unit attention of a unit for every nexus.
    pub(crate) fn attention_all(&mut self, unit: usize, asc: u8, ascq: u8) {
        (0..self.nexuses.len()).for_each(|nexus| self.attention(nexus, unit, asc, ascq));
    }

    pub(crate) fn take_attention(&mut self, nexus: usize, unit: usize) -> Option<(u8, u8)> {
        self.attentions.get_mut(&(nexus, unit))?.pop_front()
    }

    pub(crate) fn sees(&self, nexus: usize, unit: usize) -> bool {
        self.units.get(unit).is_some_and(|unit| !unit.removed)
            && !self.hidden.contains(&(nexus, unit))
    }

    /// Lets time pass: copies in the background go on, tokens and status expire.
    pub(crate) fn advance(&mut self, now: Duration) {
        self.now = now;
        for key in self.operations.in_background() {
            let Some(mut operation) = self.operations.remove(&key) else {
                continue;
            };
            let since = operation.background.unwrap_or(now);
            let elapsed = now.saturating_sub(since).as_micros() as u64;
            let rate = self.personality.background_bytes_per_ms;
            let due = (elapsed.saturating_mul(rate) / 1000).saturating_sub(operation.bytes);
            if !operation.forever {
                operation.run(&mut self.units, if rate == 0 { u64::MAX } else { due }, now);
            }
            self.settle(&mut operation);
            self.operations.insert(key, operation);
        }
        self.tokens.expire(now);
        let kept = Duration::from_secs(self.personality.keeps_status_s.into());
        self.operations.forget(now, kept);
    }

    /// The token that an ended operation wrote is free again.
    fn settle(&mut self, operation: &mut Operation) {
        if operation.ended.is_some()
            && let Some(token) = operation.uses.take()
        {
            self.tokens.release(token, self.now);
        }
    }

    /// A command's way up to where it ends, or its operation starts.
    pub(crate) fn begin(&mut self, call: &mut Call<'_>) -> Outcome {
        if !self.sees(call.nexus, call.unit) {
            return self.absent(call);
        }
        let quiet = matches!(
            call.kind,
            Kind::Inquiry | Kind::ReportLuns | Kind::RequestSense
        );
        if !quiet && let Some((asc, ascq)) = self.take_attention(call.nexus, call.unit) {
            return Err(Refusal::check(key::UNIT_ATTENTION, asc, ascq));
        }
        let effect = self.faults.strike(call.kind);
        call.effect = effect.clone();
        match effect {
            Some(Effect::Answer(refusal)) => return Err(refusal),
            Some(Effect::NexusLoss) => {
                self.lose_nexus(call.nexus);
                let refusal = self.take_attention(call.nexus, call.unit);
                let (asc, ascq) = refusal.unwrap_or((0x29, 0x07));
                return Err(Refusal::check(key::UNIT_ATTENTION, asc, ascq));
            }
            Some(Effect::Granularity) => return Err(Sense::copy_aborted(0x26, 0x0D).into()),
            Some(Effect::NoResources) => {
                let token = call.kind == Kind::PopulateToken;
                return Err(Sense::illegal(0x55, if token { 0x0D } else { 0x0C }).into());
            }
            Some(Effect::ListIdBusy) => return Err(self.list_id_busy()),
            _ => {}
        }
        if !self.personality.implements(call.kind) {
            return Err(Sense::illegal(0x20, 0x00).into());
        }
        let unit = &self.units[call.unit];
        let conflict = (call.kind.writes() && unit.reservations.forbid_write(call.nexus))
            || (call.kind.reads() && unit.reservations.forbid_read(call.nexus));
        if conflict {
            return Err(Refusal::Status(status::RESERVATION_CONFLICT));
        }
        let done = self.dispatch(call)?;
        match (&call.effect, done) {
            (Some(Effect::AnswerAfter(refusal)), Done::Data(_)) => Err(refusal.clone()),
            (_, done) => Ok(done),
        }
    }

    /// A logical unit that is not there (SPC-4 5.9).
    fn absent(&mut self, call: &Call<'_>) -> Outcome {
        match call.kind {
            Kind::Inquiry => Ok(Done::Data(self.inquiry_of_nothing(&call.cdb))),
            Kind::ReportLuns => self.report_luns(call),
            _ => Err(Sense::illegal(0x25, 0x00).into()),
        }
    }

    fn dispatch(&mut self, call: &Call<'_>) -> Outcome {
        match call.kind {
            Kind::TestUnitReady | Kind::StartStopUnit => Ok(Done::Data(Vec::new())),
            Kind::RequestSense => self.request_sense(call),
            Kind::Inquiry => self.inquiry(call),
            Kind::ModeSense => self.mode_sense(call),
            Kind::ReadCapacity => self.read_capacity(call),
            Kind::Read => self.read(call),
            Kind::Write => self.write(call),
            Kind::WriteSame => self.write_same(call),
            Kind::SynchronizeCache => self.synchronize_cache(call),
            Kind::ReportLuns => self.report_luns(call),
            Kind::ReportOperationCodes => self.report_operation_codes(call),
            Kind::PersistentReserveIn => self.reserve_in(call),
            Kind::PersistentReserveOut => self.reserve_out(call),
            Kind::ExtendedCopyLid1 | Kind::ExtendedCopyLid4 => self.extended_copy(call),
            Kind::PopulateToken => self.populate_token(call),
            Kind::WriteUsingToken => self.write_using_token(call),
            Kind::CopyOperationAbort => self.copy_operation_abort(call),
            Kind::CopyStatusLid1 => self.copy_status_lid1(call),
            Kind::OperatingParameters => self.operating_parameters(call),
            Kind::FailureDetails => self.failure_details(call),
            Kind::CopyStatusLid4 => self.copy_status_lid4(call),
            Kind::RodTokenInformation => self.rod_token_information(call),
            Kind::ReportAllRodTokens => self.report_all_rod_tokens(call),
            Kind::CopyDataLid1 | Kind::CopyDataLid4 | Kind::Other => {
                Err(Sense::illegal(0x20, 0x00).into())
            }
        }
    }

    pub(crate) fn list_id_busy(&self) -> Refusal {
        match self.personality.style {
            Style::Ctl => Sense::field_in_list(0).into(),
            // OPERATION IN PROGRESS
            _ => Sense::illegal(0x00, 0x16).into(),
        }
    }

    /// What an operation with this identifier is called.
    pub(crate) fn key(&self, call: &Call<'_>, id: u32) -> Key {
        let unit = self.personality.lists_by_unit.then_some(call.unit);
        Key {
            nexus: call.nexus,
            unit,
            id,
            anonymous: 0,
        }
    }

    /// An operation begins: in the foreground, or behind its command's answer.
    pub(crate) fn start(
        &mut self,
        call: &Call<'_>,
        id: Option<u32>,
        immed: bool,
        mut operation: Operation,
    ) -> Outcome {
        if let Some(id) = id {
            let key = self.key(call, id);
            let busy = |o: &Operation| o.ended.is_none() || o.forever;
            if self.operations.get(&key).is_some_and(busy) {
                return Err(self.list_id_busy());
            }
        }
        let limit = usize::from(self.personality.copy.total_concurrent);
        if self.personality.style == Style::Array && self.operations.running() >= limit {
            return Err(Refusal::Status(status::TASK_SET_FULL));
        }
        match &call.effect {
            Some(Effect::AnswerWithin(bytes, refusal)) => {
                operation.stop = Some((*bytes, Stop::Refuse(refusal.clone())));
            }
            Some(Effect::Short(bytes)) => operation.stop = Some((*bytes, Stop::Short)),
            Some(Effect::NeverEnds) => operation.forever = true,
            _ => {}
        }
        operation.lies = self.personality.lies || matches!(call.effect, Some(Effect::Lie));
        let nameless = matches!(call.effect, Some(Effect::LoseStatus));
        let key = match id {
            Some(id) if !nameless => self.key(call, id),
            _ => self.operations.anonymous(call.nexus),
        };
        if let Some(number) = operation.uses
            && let Some(token) = self.tokens.get_mut(number)
        {
            token.active += 1;
        }
        let behind = immed && self.personality.honours_immed;
        if behind {
            operation.background = Some(self.now);
        }
        self.operations.insert(key, operation);
        Ok(if behind {
            Done::Data(Vec::new())
        } else {
            Done::Started(key)
        })
    }

    /// The end of a command whose operation ran in the foreground.
    pub(crate) fn finish(&mut self, call: &Call<'_>, key: Key) -> Result<Vec<u8>, Refusal> {
        let Some(mut operation) = self.operations.remove(&key) else {
            // Its nexus was lost meanwhile.
            return Err(Refusal::Status(status::TASK_ABORTED));
        };
        operation.run(&mut self.units, u64::MAX, self.now);
        self.settle(&mut operation);
        let refusal = operation.refusal.clone();
        if key.anonymous == 0 {
            self.operations.insert(key, operation);
        }
        match (refusal, &call.effect) {
            (Some(refusal), _) => Err(refusal),
            (None, Some(Effect::AnswerAfter(refusal))) => Err(refusal.clone()),
            (None, _) => Ok(Vec::new()),
        }
    }

    /// I_T nexus loss (SAM-5 6.3.4): its operations end, its held status and the
    /// tokens that it made are gone.
    pub(crate) fn lose_nexus(&mut self, nexus: usize) {
        for key in self.operations.of_nexus(nexus) {
            if let Some(operation) = self.operations.remove(&key)
                && let Some(token) = operation.uses
            {
                self.tokens.release(token, self.now);
            }
        }
        self.tokens
            .kill_all(TokenFate::Cancelled, |token| token.nexus == nexus);
        (0..self.units.len()).for_each(|unit| self.attention(nexus, unit, 0x29, 0x07));
    }

    /// LOGICAL UNIT RESET: what belongs to the unit, of every nexus.
    pub(crate) fn reset_unit(&mut self, unit: usize) {
        for nexus in 0..self.nexuses.len() {
            for key in self.operations.of_nexus(nexus) {
                if key.unit.is_none_or(|of| of == unit)
                    && let Some(token) = self.operations.remove(&key).and_then(|o| o.uses)
                {
                    self.tokens.release(token, self.now);
                }
            }
        }
        self.tokens
            .kill_all(TokenFate::Cancelled, |token| token.unit == unit);
        self.attention_all(unit, 0x29, 0x03);
    }

    /// COPY OPERATION ABORT (SPC-4 6.3).
    fn copy_operation_abort(&mut self, call: &Call<'_>) -> Outcome {
        let key = self.key(call, u32_at(&call.cdb, 2));
        let now = self.now;
        let Some(operation) = self.operations.get_mut(&key) else {
            return Err(Sense::field_in_cdb(2).into());
        };
        operation.abort(now);
        let token = operation.uses.take();
        debug_assert_ne!(operation.status_now(), copy_status::IN_PROGRESS_BACKGROUND);
        if let Some(token) = token {
            self.tokens.release(token, now);
        }
        Ok(Done::Data(Vec::new()))
    }
}
