//! What goes wrong.

use xcopy_scsi_protocol::Outcome;
use xcopy_scsi_protocol::transport::{BUSY, RESERVATION_CONFLICT, TASK_SET_FULL};
use xcopy_scsi_protocol::wire::sense::{self, ILLEGAL_REQUEST, UNIT_ATTENTION};

/// A command, or an operation, that did not end well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(pub Outcome);

impl Refusal {
    /// Sense key, ASC, ASCQ.
    pub fn code(&self) -> Option<(u8, u8, u8)> {
        sense::code(&self.0.sense)
    }

    /// The status never came.
    pub fn is_lost(&self) -> bool {
        self.0.host_status != 0
    }

    /// A unit attention: the command was not carried out, and what was held for
    /// the nexus may be gone.
    pub fn is_unit_attention(&self) -> bool {
        self.code().is_some_and(|(key, ..)| key == UNIT_ATTENTION)
    }

    /// Not now (SAM-5 5.3.1: BUSY, TASK SET FULL): the command was not carried out.
    pub fn is_busy(&self) -> bool {
        matches!(self.0.status, BUSY | TASK_SET_FULL)
    }

    /// The token is no more: unknown, revoked, expired, cancelled or deleted.
    pub fn is_token_gone(&self) -> bool {
        matches!(
            self.code(),
            Some((ILLEGAL_REQUEST, 0x23, 0x04 | 0x06..=0x09))
        )
    }

    /// The token cannot be used so, for no reason that is told.
    fn is_token_refused(&self) -> bool {
        self.code() == Some((ILLEGAL_REQUEST, 0x23, 0x00))
    }

    /// The device does not know the list identifier (SPC-4 6.5.7).
    pub fn is_unknown_list(&self) -> bool {
        self.code() == Some((ILLEGAL_REQUEST, 0x24, 0x00))
    }

    /// The list identifier is in use: OPERATION IN PROGRESS, or, as FreeBSD's CTL
    /// has it, INVALID FIELD IN PARAMETER LIST at byte 0, where only the length is.
    pub fn is_list_busy(&self) -> bool {
        match self.code() {
            Some((ILLEGAL_REQUEST, 0x00, 0x16)) => true,
            Some((ILLEGAL_REQUEST, 0x26, 0x00)) => {
                let field = self.0.sense().and_then(|sense| sense.field);
                field.is_some_and(|field| !field.in_cdb && field.byte == 0)
            }
            _ => false,
        }
    }

    /// It may be for IMMED, which the device need not have.
    pub fn may_mean_immediate(&self) -> bool {
        matches!(self.code(), Some((ILLEGAL_REQUEST, 0x24 | 0x26, 0x00)))
    }

    /// The device did not begin with it. Other refusals prove nothing: WRITE USING
    /// TOKEN beyond the token's end may write first and say INVALID FIELD IN
    /// PARAMETER LIST then.
    pub fn is_unstarted(&self) -> bool {
        if self.is_lost() {
            return false;
        }
        self.0.status == RESERVATION_CONFLICT
            || self.is_busy()
            || self.is_unit_attention()
            || self.is_list_busy()
            || matches!(
                self.code(),
                Some((ILLEGAL_REQUEST, 0x20 | 0x24 | 0x25, 0x00))
            )
    }
}

/// Why an operation failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// The device refused it, it ended with an error, or no status came.
    Refused(Refusal),
    /// The command could not be sent, for this errno.
    Unsent(i32),
    /// It may have been done: its status is not known any more.
    StatusLost,
    /// What the device said of it cannot be.
    Malformed(&'static str),
    /// The caller's time is up.
    TimedOut,
    /// The device says that it goes on, and nothing moves.
    Stuck,
    /// Ten list identifiers in a row were in use.
    IdentifiersBusy,
    /// It ended well, and did less than was asked.
    Short,
    /// An offset into the token cannot be said in blocks that both ends know.
    Offset,
    /// Not a multiple of the blocks, or more than a command can say.
    Misaligned,
}

/// The failure of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Why.
    pub why: Why,
    /// Nothing of it can write any more.
    pub settled: bool,
    /// It wrote nothing.
    pub untouched: bool,
}

impl Fault {
    /// One that is over.
    pub fn new(why: Why) -> Fault {
        Fault {
            why,
            settled: true,
            untouched: false,
        }
    }

    /// One that wrote nothing.
    pub fn untouched(why: Why) -> Fault {
        Fault {
            untouched: true,
            ..Fault::new(why)
        }
    }

    /// The refusal, if that is why.
    pub fn refusal(&self) -> Option<&Refusal> {
        match &self.why {
            Why::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// Doing it again from the first byte that is not written may help: the
    /// device forgot the token, or how the operation ended.
    pub fn asks_for_another(&self) -> bool {
        self.settled
            && match &self.why {
                Why::StatusLost => true,
                Why::Refused(refusal) => refusal.is_token_gone() || refusal.is_token_refused(),
                _ => false,
            }
    }
}
