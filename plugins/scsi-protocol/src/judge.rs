//! What a failed command means and what to do about it: the table of SCSI
//! errors as data, and the words for it.

mod table;

use crate::transport::{self, Outcome};
use crate::wire::sense::{self, Sense, Side};
use std::io;
use xcopy_plugin_sdk::abi::*;
use xcopy_plugin_sdk::{Failure, errno};

pub use table::{Rule, TABLE};

/// Host status of Linux: no way to the unit.
pub const DID_NO_CONNECT: u32 = 0x01;
/// Host status: the command timed out and was aborted.
pub const DID_TIME_OUT: u32 = 0x03;
/// Host status: the unit is not there.
pub const DID_BAD_TARGET: u32 = 0x04;
/// Host status: some error of the adapter.
pub const DID_ERROR: u32 = 0x07;

/// What a command was for: the same sense asks for different things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A third-party copy that may write: what it left is not known.
    Copy,
    /// A question about a copy under way: 24h/00h is a lost status.
    CopyStatus,
    /// READ, WRITE, WRITE SAME, SYNCHRONIZE CACHE: no other way is left.
    Io,
    /// INQUIRY, READ CAPACITY and the like: nothing is at stake.
    Query,
}

/// What to do about a failed command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Transient: the same command again, after a pause.
    Retry,
    /// A unit attention: verify who the units are, then the same command again.
    Reidentify,
    /// Out of resources: a pause and smaller commands, then another method.
    BackOff,
    /// Fewer segments in one command.
    Split,
    /// Name the units by their next designators.
    OtherDesignator,
    /// Take another list identifier, a bounded number of times.
    OtherListId,
    /// Make the token again from the first byte that is not written.
    RecreateToken,
    /// The status is lost: not a success. The range is copied again.
    Recopy,
    /// This method cannot: the rest goes by another one.
    NextMethod,
    /// This method cannot, and will not on this pair.
    NextMethodForGood,
    /// Nobody can: the request fails.
    Fatal,
}

impl Action {
    /// XCOPY_ACTION_ for what the plugin does not do by itself.
    pub fn code(self) -> u16 {
        match self {
            Action::Retry | Action::Reidentify | Action::BackOff | Action::OtherListId => {
                XCOPY_ACTION_RETRY
            }
            Action::Split => XCOPY_ACTION_SPLIT,
            Action::OtherDesignator
            | Action::RecreateToken
            | Action::Recopy
            | Action::NextMethod
            | Action::NextMethodForGood => XCOPY_ACTION_NEXT_METHOD,
            Action::Fatal => XCOPY_ACTION_FATAL,
        }
    }
}

/// A failed command, judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// What to do.
    pub action: Action,
    /// XCOPY_REASON_.
    pub reason: u16,
    /// errno, positive.
    pub errno: i32,
    /// The destination was certainly not touched.
    pub untouched: bool,
    /// What it means, and what helps.
    pub text: &'static str,
    /// The device's words, packed as xcopy_completion.detail, without method.
    pub detail: u64,
    /// The end of the copy that failed, if it is known.
    pub side: Side,
    /// Key, ASC and ASCQ, if there was sense data.
    pub code: Option<(u8, u8, u8)>,
    sense: Vec<u8>,
}

impl Judgement {
    /// For the core.
    pub fn failure(&self) -> Failure {
        let failure = Failure::new(self.errno)
            .because(self.words())
            .reason(self.reason)
            .detail(self.detail)
            .sense(&self.sense);
        let failure = match self.action.code() {
            XCOPY_ACTION_RETRY => failure.retry(),
            XCOPY_ACTION_SPLIT => failure.split(),
            XCOPY_ACTION_FATAL => failure.fatal(),
            _ => failure.next_method(),
        };
        let failure = match self.side {
            Side::Source => failure.on_read(),
            Side::Destination => failure.on_write(),
            Side::Unknown => failure,
        };
        match self.untouched {
            true => failure.untouched(),
            false => failure,
        }
    }

    /// A refusal of the library's own: nothing was sent.
    pub fn own(reason: u16, text: &'static str) -> Judgement {
        Judgement {
            action: Action::NextMethodForGood,
            reason,
            errno: errno::ENOTSUP,
            untouched: true,
            text,
            detail: 0,
            side: Side::Unknown,
            code: None,
            sense: Vec::new(),
        }
    }

    /// What it means, with the codes.
    pub fn words(&self) -> String {
        match self.code {
            Some((key, asc, ascq)) => {
                format!("{} (sense {key:X}h {asc:02X}h/{ascq:02X}h)", self.text)
            }
            None => self.text.to_owned(),
        }
    }

    /// The same with another action.
    pub fn but(mut self, action: Action) -> Judgement {
        self.action = action;
        self
    }
}

/// Packs the device's words as xcopy_completion.detail has them, without method.
pub fn detail(outcome: &Outcome, sense: Option<&Sense>) -> u64 {
    let mut detail = XCOPY_DETAIL_SCSI << XCOPY_DETAIL_DOMAIN_SHIFT
        | u64::from(outcome.status)
        | u64::from(outcome.host_status.min(0xff)) << 8;
    if let Some(sense) = sense {
        detail |= u64::from(sense.key & 0xf) << 16
            | u64::from(sense.asc) << 20
            | u64::from(sense.ascq) << 28
            | u64::from(sense.segment.unwrap_or(0)) << 36;
    }
    detail
}

/// Judges how a command ended; None if it is good.
pub fn judge(outcome: &Outcome, purpose: Purpose) -> Option<Judgement> {
    if outcome.is_good() {
        return None;
    }
    let sense = outcome.sense();
    let verdict = match (&sense, outcome.status & 0x7e) {
        _ if outcome.host_status != 0 => by_host(outcome.host_status, purpose),
        (Some(sense), transport::CHECK_CONDITION) => by_sense(sense, purpose),
        (_, status) => by_status(status),
    };
    let side = match &sense {
        Some(sense) if purpose == Purpose::Copy => side_of(sense),
        _ => Side::Unknown,
    };
    Some(Judgement {
        action: verdict.action,
        reason: verdict.reason,
        errno: verdict.errno,
        untouched: verdict.untouched,
        text: verdict.text,
        detail: detail(outcome, sense.as_ref()),
        side,
        code: sense.as_ref().map(Sense::code),
        sense: outcome.sense.clone(),
    })
}

/// Judges an error of the way to the unit.
pub fn judge_error(error: &io::Error, purpose: Purpose) -> Judgement {
    let number = error.raw_os_error().unwrap_or(errno::EIO);
    let (action, reason, text) = match number {
        errno::EPERM | errno::EACCES => (
            next(purpose),
            XCOPY_REASON_PERMISSION,
            "the kernel lets only CAP_SYS_RAWIO send this SCSI command",
        ),
        errno::EAGAIN | errno::EINTR | errno::EBUSY | errno::ENOMEM => {
            (Action::Retry, XCOPY_REASON_FAILED, "interrupted or busy")
        }
        // 6 is ENXIO.
        errno::ENODEV | 6 => (
            Action::Fatal,
            XCOPY_REASON_REMOVED,
            "the logical unit is gone",
        ),
        _ => (
            next(purpose),
            XCOPY_REASON_FAILED,
            "the command could not be sent",
        ),
    };
    Judgement {
        action,
        reason,
        errno: number,
        // An interrupted call leaves the command to itself; EIO says nothing.
        untouched: !matches!(number, errno::EINTR | errno::EIO),
        text,
        detail: XCOPY_DETAIL_ERRNO << XCOPY_DETAIL_DOMAIN_SHIFT | number as u32 as u64,
        side: Side::Unknown,
        code: None,
        sense: Vec::new(),
    }
}

/// What the table says, or what holds where it says nothing.
struct Verdict {
    action: Action,
    reason: u16,
    errno: i32,
    untouched: bool,
    text: &'static str,
}

fn next(purpose: Purpose) -> Action {
    match purpose {
        Purpose::Io => Action::Fatal,
        _ => Action::NextMethod,
    }
}

fn by_sense(sense: &Sense, purpose: Purpose) -> Verdict {
    if sense.deferred {
        // About a command before; this one was not carried out (SPC-4 4.5.7).
        return Verdict {
            action: Action::Retry,
            reason: XCOPY_REASON_FAILED,
            errno: errno::EIO,
            untouched: true,
            text: "a deferred error of an earlier command",
        };
    }
    if purpose == Purpose::Copy
        && let Some(verdict) = forwarded(sense)
    {
        return verdict;
    }
    let (key, asc, ascq) = sense.code();
    let rule = TABLE
        .iter()
        .find(|rule| rule.is_for(purpose) && rule.matches(key, asc, ascq));
    match rule {
        Some(rule) => Verdict {
            action: rule.action,
            reason: rule.reason,
            errno: rule.errno,
            untouched: rule.untouched,
            text: rule.text,
        },
        None => Verdict {
            action: next(purpose),
            reason: XCOPY_REASON_FAILED,
            errno: errno::EREMOTEIO,
            untouched: false,
            text: "the device reported an error",
        },
    }
}

/// What source or destination said to the copy manager counts where it decides
/// more than COPY ABORTED itself: a reservation, a full or protected
/// destination, a unit attention.
fn forwarded(sense: &Sense) -> Option<Verdict> {
    sense.forwarded.iter().find_map(|forwarded| {
        if forwarded.status & 0x7e == transport::RESERVATION_CONFLICT {
            return Some(touched(by_status(transport::RESERVATION_CONFLICT)));
        }
        let (key, asc, ascq) = forwarded.code?;
        let decisive = matches!(key, sense::UNIT_ATTENTION | sense::DATA_PROTECT)
            || (key, asc) == (sense::ILLEGAL_REQUEST, 0x21);
        let rule = TABLE
            .iter()
            .find(|rule| rule.is_for(Purpose::Copy) && rule.matches(key, asc, ascq))?;
        decisive.then_some(Verdict {
            action: rule.action,
            reason: rule.reason,
            errno: rule.errno,
            untouched: false,
            text: rule.text,
        })
    })
}

fn touched(verdict: Verdict) -> Verdict {
    Verdict {
        untouched: false,
        ..verdict
    }
}

fn side_of(sense: &Sense) -> Side {
    match sense.forwarded.as_slice() {
        [one] => one.side,
        _ => Side::Unknown,
    }
}

fn by_status(status: u8) -> Verdict {
    let (action, reason, errno, untouched, text) = match status {
        transport::BUSY | transport::TASK_SET_FULL => (
            Action::Retry,
            XCOPY_REASON_RESOURCES,
            errno::EBUSY,
            true,
            "the logical unit is busy or its queue is full",
        ),
        transport::RESERVATION_CONFLICT => (
            Action::Fatal,
            XCOPY_REASON_RESERVED,
            errno::EBADE,
            true,
            "a persistent reservation of another host forbids it; ask who holds it \
             (sg_persist -r)",
        ),
        transport::TASK_ABORTED => (
            Action::Recopy,
            XCOPY_REASON_FAILED,
            errno::EIO,
            false,
            "another initiator aborted the command",
        ),
        transport::ACA_ACTIVE => (
            Action::Retry,
            XCOPY_REASON_RESOURCES,
            errno::EBUSY,
            true,
            "the logical unit waits for another initiator to clear an error (ACA)",
        ),
        _ => (
            Action::NextMethod,
            XCOPY_REASON_FAILED,
            errno::EREMOTEIO,
            false,
            "the logical unit failed the command and did not say why",
        ),
    };
    Verdict {
        action,
        reason,
        errno,
        untouched,
        text,
    }
}

/// <scsi/scsi_status.h>, host byte.
fn by_host(host_status: u32, purpose: Purpose) -> Verdict {
    let lost = |action, errno, text| Verdict {
        action,
        reason: XCOPY_REASON_FAILED,
        errno,
        untouched: false,
        text,
    };
    match host_status {
        DID_NO_CONNECT | DID_BAD_TARGET => Verdict {
            action: next(purpose),
            reason: XCOPY_REASON_REMOVED,
            errno: errno::ENODEV,
            untouched: false,
            text: "there is no way to the logical unit any more",
        },
        // BUS_BUSY, RESET, SOFT_ERROR, IMM_RETRY, REQUEUE, TRANSPORT_DISRUPTED:
        // a copy may be given again, whatever the first one wrote.
        0x02 | 0x08 | 0x0b | 0x0c | 0x0d | 0x0e => lost(
            Action::Reidentify,
            errno::EIO,
            "the way to the logical unit was disturbed",
        ),
        DID_TIME_OUT | 0x05 => lost(
            match purpose {
                Purpose::Io => Action::Fatal,
                _ => Action::Recopy,
            },
            errno::ETIMEDOUT,
            "the command timed out and was aborted",
        ),
        // NEXUS_FAILURE is how Linux reports a reservation conflict of its own.
        0x11 => Verdict {
            untouched: false,
            ..by_status(transport::RESERVATION_CONFLICT)
        },
        0x12 => lost(next(purpose), errno::ENOSPC, "out of space"),
        0x13 => lost(next(purpose), errno::ENODATA, "a medium error"),
        _ => lost(
            next(purpose),
            errno::EIO,
            "the host adapter failed the command",
        ),
    }
}

#[cfg(test)]
mod tests;
