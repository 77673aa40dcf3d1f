//! Faults as the core hears of them.

use crate::machine::{Fault, Why};
use std::io;
use xcopy_plugin_sdk::abi::*;
use xcopy_plugin_sdk::{Failure, errno};
use xcopy_scsi_protocol::judge::{judge, judge_error};
use xcopy_scsi_protocol::{Action, Judgement, Purpose};

/// What a command was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// A copy: the host can do it too.
    Copy,
    /// A token: nobody else can.
    Token,
}

/// A failure for the core. `done` bytes are certainly written; `on_source` says
/// which end failed.
pub fn failure(fault: &Fault, about: About, done: u64, on_source: bool) -> Failure {
    let failure = match &fault.why {
        Why::Refused(refusal) => match judge(&refusal.0, Purpose::Copy) {
            Some(judgement) if about == About::Token => of_token(judgement),
            Some(judgement) => judgement.failure(),
            None => own(
                errno::EREMOTEIO,
                XCOPY_REASON_FAILED,
                "the operation failed, and the device says no more of it",
            )
            .next_method(),
        },
        Why::Unsent(number) => {
            judge_error(&io::Error::from_raw_os_error(*number), Purpose::Copy).failure()
        }
        Why::StatusLost => own(
            errno::EREMOTEIO,
            XCOPY_REASON_FAILED,
            "the device forgot how the operation ended, again and again",
        )
        .next_method(),
        Why::Malformed(what) => own(errno::EREMOTEIO, XCOPY_REASON_FAILED, what).next_method(),
        Why::TimedOut => own(
            errno::ETIMEDOUT,
            XCOPY_REASON_TIMED_OUT,
            "the deadline passed",
        )
        .fatal(),
        Why::Stuck => own(
            errno::ETIMEDOUT,
            XCOPY_REASON_FAILED,
            "the operation did not move any more and was aborted",
        )
        .next_method(),
        Why::IdentifiersBusy => own(
            errno::EBUSY,
            XCOPY_REASON_RESOURCES,
            "every list identifier that was tried is in use",
        )
        .next_method(),
        Why::Short if about == About::Token && done == 0 => own(
            errno::E2BIG,
            XCOPY_REASON_LIMITS,
            "the device does less with one token than was asked",
        )
        .split(),
        Why::Short => own(
            errno::EREMOTEIO,
            XCOPY_REASON_FAILED,
            "the operation ended well and did less than was asked, again and again",
        )
        .next_method(),
        Why::Offset => own(
            errno::ENOTSUP,
            XCOPY_REASON_BLOCK_SIZE,
            "the token was made on a device of another block size: write it from its first byte",
        )
        .fatal(),
        Why::Misaligned => own(
            errno::EINVAL,
            XCOPY_REASON_MISALIGNED,
            "no multiple of the blocks",
        )
        .next_method(),
    };
    let failure = failure.known(done);
    let failure = match (fault.settled, fault.untouched && done == 0) {
        (false, _) => failure.unsettled(),
        (true, true) => failure.untouched(),
        (true, false) => failure,
    };
    match on_source {
        true => failure.on_read(),
        false => failure.on_write(),
    }
}

/// No other method knows the token. That the device lacks the command says something
/// of the next token too; all else is about this one and what was asked of it.
fn of_token(judgement: Judgement) -> Failure {
    let lacks_command = matches!(judgement.code, Some((_, 0x20, _)));
    let reason = match judgement.reason {
        XCOPY_REASON_NOT_SUPPORTED if !lacks_command => XCOPY_REASON_FAILED,
        reason => reason,
    };
    let judgement = match judgement.action {
        Action::RecreateToken => judgement.but(Action::Fatal),
        _ => judgement,
    };
    judgement.failure().reason(reason)
}

fn own(errno: i32, reason: u16, text: &str) -> Failure {
    Failure::new(errno).reason(reason).because(text)
}
