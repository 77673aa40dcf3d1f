//! Faults on demand: which command, which time, what happens instead.

use std::collections::HashMap;

use crate::kind::Kind;
use crate::sense::{Sense, status};

/// The command did not reach its end at the target, or its status did not come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportError {
    /// The target cannot be reached (Linux host byte 01h).
    NoConnect,
    /// The bus stayed busy (02h).
    Busy,
    /// No status in time (03h).
    TimedOut,
    /// Aborted (05h).
    Aborted,
    /// An error of the link (07h).
    Error,
    /// The bus was reset (08h).
    Reset,
}

impl TransportError {
    /// Linux's host byte (include/scsi/scsi_status.h).
    pub fn host_byte(self) -> u8 {
        match self {
            TransportError::NoConnect => 0x01,
            TransportError::Busy => 0x02,
            TransportError::TimedOut => 0x03,
            TransportError::Aborted => 0x05,
            TransportError::Error => 0x07,
            TransportError::Reset => 0x08,
        }
    }
}

/// An answer that is not GOOD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// CHECK CONDITION.
    Check(Box<Sense>),
    /// Another status, without sense: BUSY, RESERVATION CONFLICT, TASK SET FULL,
    /// TASK ABORTED.
    Status(u8),
    /// No status.
    Transport(TransportError),
}

impl Refusal {
    /// CHECK CONDITION with key and codes.
    pub fn check(key: u8, asc: u8, ascq: u8) -> Refusal {
        Sense::new(key, asc, ascq).into()
    }

    /// The status of the command.
    pub fn status(&self) -> u8 {
        match self {
            Refusal::Check(_) => status::CHECK_CONDITION,
            Refusal::Status(status) => *status,
            Refusal::Transport(_) => 0,
        }
    }
}

impl From<Sense> for Refusal {
    fn from(sense: Sense) -> Refusal {
        Refusal::Check(Box::new(sense))
    }
}

/// What has become of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenFate {
    /// It never was: 23h/04h.
    Unknown,
    /// Revoked: 23h/06h.
    Revoked,
    /// Its time is over: 23h/07h.
    Expired,
    /// Cancelled: 23h/08h.
    Cancelled,
    /// Deleted: 23h/09h.
    Deleted,
}

impl TokenFate {
    /// ADDITIONAL SENSE CODE QUALIFIER of 23h (SPC-4 table 59).
    pub fn ascq(self) -> u8 {
        match self {
            TokenFate::Unknown => 0x04,
            TokenFate::Revoked => 0x06,
            TokenFate::Expired => 0x07,
            TokenFate::Cancelled => 0x08,
            TokenFate::Deleted => 0x09,
        }
    }
}

/// What happens.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// This answer; nothing is done.
    Answer(Refusal),
    /// All is done, and then this is answered.
    AnswerAfter(Refusal),
    /// A copy or a write: so many bytes are done, and then this is answered.
    AnswerWithin(u64, Refusal),
    /// WRITE USING TOKEN: the token is no more, and the target says why.
    Token(TokenFate),
    /// The list identifier is in use.
    ListIdBusy,
    /// The operation's status is forgotten as soon as the command ends.
    LoseStatus,
    /// Background: the operation never ends. A command that cannot go on in the
    /// background is answered, and only then stays in progress.
    NeverEnds,
    /// Only so many bytes are copied, read or written, and the target says so: a
    /// read or a write by its residual.
    Short(u64),
    /// The transfer count is told in the other units: bytes for blocks, blocks
    /// for bytes. The units field tells the truth.
    OtherUnits,
    /// COPY ABORTED, 26h/0Dh: the granularity is not met.
    Granularity,
    /// No room for a ROD (55h/0Ch) or a token (55h/0Dh).
    NoResources,
    /// The nexus is lost: its tokens and list identifiers are gone, the command
    /// is not carried out, and a unit attention waits (29h/07h).
    NexusLoss,
    /// Success, and nothing was written.
    Lie,
}

/// Which times, counted from when the fault was set, from 1 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// That one.
    Nth(u64),
    /// Every n-th.
    Every(u64),
    /// The first n.
    First(u64),
    /// From the n-th on.
    From(u64),
    /// All.
    Always,
}

impl When {
    fn holds(self, count: u64) -> bool {
        match self {
            When::Nth(n) => count == n,
            When::Every(n) => n != 0 && count.is_multiple_of(n),
            When::First(n) => count <= n,
            When::From(n) => count >= n,
            When::Always => true,
        }
    }
}

struct Fault {
    when: When,
    effect: Effect,
    seen: u64,
}

#[derive(Default)]
pub(crate) struct Faults {
    by_kind: HashMap<Kind, Vec<Fault>>,
    pub(crate) hits: u64,
}

impl Faults {
    pub(crate) fn set(&mut self, kind: Kind, when: When, effect: Effect) {
        self.by_kind.entry(kind).or_default().push(Fault {
            when,
            effect,
            seen: 0,
        });
    }

    pub(crate) fn clear(&mut self) {
        self.by_kind.clear();
    }

    /// Counts a command, and says what befalls it: of several, the first set.
    pub(crate) fn strike(&mut self, kind: Kind) -> Option<Effect> {
        let mut struck = None;
        for fault in self.by_kind.get_mut(&kind)? {
            fault.seen += 1;
            if struck.is_none() && fault.when.holds(fault.seen) {
                struck = Some(fault.effect.clone());
            }
        }
        self.hits += u64::from(struck.is_some());
        struck
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strikes_when_told() {
        let struck = |when| {
            let mut faults = Faults::default();
            faults.set(Kind::Read, when, Effect::Lie);
            (1..=6)
                .filter(|_| faults.strike(Kind::Read).is_some())
                .count()
        };
        assert_eq!(struck(When::Nth(4)), 1);
        assert_eq!(struck(When::Nth(7)), 0);
        assert_eq!(struck(When::Every(2)), 3);
        assert_eq!(struck(When::Every(0)), 0);
        assert_eq!(struck(When::First(2)), 2);
        assert_eq!(struck(When::From(5)), 2);
        assert_eq!(struck(When::Always), 6);
        let mut faults = Faults::default();
        faults.set(Kind::Read, When::Always, Effect::Lie);
        assert!(faults.strike(Kind::Write).is_none());
    }
}
