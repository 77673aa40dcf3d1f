//! The end of a command: what its completion means, and what is done about a
//! failure before the core is told. Carries commands out where there is no ring.

use crate::behavior::Switched;
use crate::namespace::{Namespace, Presence};
use crate::pair::{self, Hindrance, Sent};
use crate::status::{self, Care, Judged};
use crate::system::{Answer, Completion, Port};
use crate::wire::{Command, Format};
use std::time::Duration;
use xcopy_plugin_sdk::abi::*;
use xcopy_plugin_sdk::errno::*;
use xcopy_plugin_sdk::{Done, Failure, Job, Level, Operation, Outcome};

/// Milliseconds until the kernel gives a command up and resets the controller:
/// far beyond what the largest commands take together.
pub const TIMEOUT_MS: u32 = 120_000;
/// What is waited for at most behind a lost path, if the controller states more.
const QUIESCE_MAX_MS: u64 = 30_000;
/// The same if it states nothing.
const QUIESCE_UNSTATED_MS: u64 = 1_000;

/// The end of a command, as far as it is known without asking the device.
pub enum Ended {
    /// To be told to the core.
    Known(Outcome),
    /// The device has to be looked at first.
    Unsure(Judged),
    /// The kernel does not take commands this way.
    UnknownWay,
    /// The kernel refused the command as it came, unsent.
    Refused(Judged),
}

/// What a completion means.
pub fn ended(answer: Answer, ranges: &[xcopy_range]) -> Ended {
    let judged = match answer {
        Ok(Completion { status: 0, .. }) => return Ended::Known(Ok(Done::new())),
        Ok(Completion { status, result }) => status::judge(status, result, ranges),
        Err(errno) if status::is_unknown_way(errno) => return Ended::UnknownWay,
        Err(EINVAL) => return Ended::Refused(status::judge_errno(EINVAL)),
        Err(errno) => status::judge_errno(errno),
    };
    match judged.care {
        Care::None => Ended::Known(Err(judged.failure)),
        _ => Ended::Unsure(judged),
    }
}

/// Gives a job the time that a command has.
pub fn with_timeout(mut command: Command) -> Command {
    command.timeout_ms = TIMEOUT_MS;
    command
}

/// Carries a job out by a call that blocks.
pub fn carry_out<P: Port>(mut job: Job<Namespace<P>>) {
    let outcome = {
        let mut command = job.command();
        let flags = command.flags();
        match command.operation() {
            Operation::Copy { src, dst, ranges } => copy(src, dst, ranges, flags),
            Operation::Flush { dst } => flush(dst),
            _ => Err(command.unknown()),
        }
    };
    job.end(outcome);
}

fn flush<P: Port>(dst: &Namespace<P>) -> Outcome {
    let command = with_timeout(Command::flush(dst.nsid));
    let answer = dst.port.io(command, &[]);
    settle(answer, dst, dst, &[], (0, Sent::default()))
}

fn copy<P: Port>(
    src: &Namespace<P>,
    dst: &Namespace<P>,
    ranges: &[xcopy_range],
    flags: u32,
) -> Outcome {
    let mut buffer = Vec::new();
    let built = match pair::build(src, dst, ranges, flags, &mut buffer) {
        Err(Hindrance::Feature(format)) => {
            switch_on(dst, format, dst.switches.epoch(), flags).map_err(Failure::unsent)?;
            pair::build(src, dst, ranges, flags, &mut buffer)
        }
        built => built,
    };
    let built = match built {
        Ok(built) => built,
        Err(Hindrance::Failure(failure)) => return Err(failure),
        // It was on a moment ago: a reset.
        Err(Hindrance::Feature(_)) => return Err(Failure::new(EBUSY).retry().unsent()),
    };
    let answer = dst.port.io(with_timeout(built.command), &buffer);
    settle(answer, src, dst, ranges, (flags, built.sent))
}

/// The outcome of a command that ended, after a look at the device if that is
/// needed. Blocks.
fn settle<P: Port>(
    answer: Answer,
    src: &Namespace<P>,
    dst: &Namespace<P>,
    ranges: &[xcopy_range],
    how: (u32, Sent),
) -> Outcome {
    match ended(answer, ranges) {
        Ended::Known(outcome) => outcome,
        Ended::Unsure(judged) => Err(look(judged, src, dst, how)),
        Ended::Refused(judged) => Err(judged.failure),
        Ended::UnknownWay => Err(Failure::new(ENOTSUP)
            .reason(XCOPY_REASON_KERNEL)
            .next_method()
            .unsent()),
    }
}

/// Ends a job whose command failed, after a look at the device. Blocks.
pub fn attend<P: Port>(mut job: Job<Namespace<P>>, judged: Judged, sent: Sent) {
    let failure = {
        let mut command = job.command();
        let flags = command.flags();
        match command.operation() {
            Operation::Copy { src, dst, .. } => look(judged, src, dst, (flags, sent)),
            Operation::Flush { dst } => look(judged, dst, dst, (0, sent)),
            _ => judged.failure,
        }
    };
    job.end(Err(failure));
}

/// What a failure is, after a look at the device. Blocks.
fn look<P: Port>(
    judged: Judged,
    src: &Namespace<P>,
    dst: &Namespace<P>,
    how: (u32, Sent),
) -> Failure {
    let failure = judged.failure;
    match judged.care {
        Care::None => failure,
        Care::Limits => {
            dst.look_again();
            src.look_again();
            failure
        }
        Care::Presence | Care::Absence => presence(failure, src, dst),
        Care::Feature => feature(failure, src, dst, how),
        Care::Quiesce => {
            if !dst.local {
                let stated = u64::from(dst.facts().controller.quiesce_ms);
                let wait = match stated {
                    0 => QUIESCE_UNSTATED_MS,
                    stated => stated.min(QUIESCE_MAX_MS),
                };
                std::thread::sleep(Duration::from_millis(wait));
            }
            failure
        }
    }
}

fn presence<P: Port>(failure: Failure, src: &Namespace<P>, dst: &Namespace<P>) -> Failure {
    match (dst.look_again(), src.look_again()) {
        (Presence::Gone, _) | (_, Presence::Gone) => Failure::new(ENODEV)
            .reason(XCOPY_REASON_REMOVED)
            .because("the namespace is gone")
            .fatal(),
        // What was refused was made for the namespace as it was before.
        (Presence::Changed, _) | (_, Presence::Changed) => {
            let (facts, other) = (dst.facts(), src.facts());
            match facts.data.format == other.data.format {
                true => failure,
                false => failure.next_method(),
            }
        }
        _ => failure,
    }
}

/// Invalid Field: the format that names its source may have been switched off by a
/// reset.
fn feature<P: Port>(
    failure: Failure,
    src: &Namespace<P>,
    dst: &Namespace<P>,
    (flags, sent): (u32, Sent),
) -> Failure {
    let Some(format) = sent.naming else {
        return presence(failure, src, dst);
    };
    match switch_on(dst, format, sent.epoch, flags) {
        Ok(Switched::WasOn) => presence(failure, src, dst),
        Ok(_) => Failure::new(EBUSY)
            .reason(XCOPY_REASON_RESOURCES)
            .retry()
            .untouched(),
        Err(failure) => failure,
    }
}

/// Switches a format on if it is off and the request allows it.
fn switch_on<P: Port>(
    dst: &Namespace<P>,
    format: Format,
    epoch: u32,
    flags: u32,
) -> Result<Switched, Failure> {
    let leave = |errno: i32, reason: u16, text: String| {
        // The core judges the pair again, and says why.
        dst.events().limits_changed();
        Err(Failure::new(errno)
            .reason(reason)
            .because(text)
            .next_method()
            .untouched())
    };
    let allowed = flags & XCOPY_CMD_SET_HOST_BEHAVIOR != 0;
    let switched = dst.switches.switch_on(&dst.port, format, epoch, allowed);
    match switched {
        Ok(Switched::NotAllowed) => {
            let text = "the controller's copies between namespaces are switched off";
            leave(ENOTSUP, XCOPY_REASON_FEATURE_OFF, text.to_owned())
        }
        Ok(Switched::NotKept) => {
            let text = "the controller does not keep the format switched on";
            leave(ENOTSUP, XCOPY_REASON_FEATURE_OFF, text.to_owned())
        }
        Ok(switched) => {
            if switched == Switched::On {
                dst.events().limits_changed();
            }
            Ok(switched)
        }
        Err(errno) => {
            let text = pair::refusal_text(errno);
            if dst.switches.is_news() {
                dst.host()
                    .log(Level::Warning, &format!("nvme_copy: {text}"));
            }
            leave(errno, XCOPY_REASON_KERNEL, text)
        }
    }
}
