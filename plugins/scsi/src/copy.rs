//! One EXTENDED COPY, and what follows its failure.

use crate::pair::{Form, Pair};
use crate::segments::segments;
use std::time::{Duration, Instant};
use xcopy_plugin_sdk::abi::*;
use xcopy_plugin_sdk::{Failure, errno};
use xcopy_scsi_protocol::judge::{DID_ERROR, DID_TIME_OUT};
use xcopy_scsi_protocol::wire::cdb;
use xcopy_scsi_protocol::wire::copy::{Cscd, ListId, Segment, list_lid1, list_lid4};
use xcopy_scsi_protocol::wire::sense::{ILLEGAL_REQUEST, NOT_READY, Side};
use xcopy_scsi_protocol::wire::status::{CopyState, StatusLid4};
use xcopy_scsi_protocol::{Action, Data, Judgement, ListIdLease, ListIdUser, Lun, Purpose};

/// What a copy may take. Commands are small enough for any target to be far
/// within it: what runs into it is aborted by the kernel, and after that the
/// logical unit is reset, with all that others have on it.
const TIMEOUT: Duration = Duration::from_secs(300);
/// Times that a command is given again at once: after a unit attention, with
/// other names, with another list identifier.
const TRIES: u32 = 16;
/// Time that a copy that got lost may take to be ended.
const SETTLE: Duration = Duration::from_secs(30);

/// Carries out a copy command of the core's.
pub fn execute(
    log: &dyn Fn(&str),
    pair: &Pair,
    src: &Lun,
    dst: &Lun,
    ranges: &[xcopy_range],
) -> Result<(), Failure> {
    verify(src, dst)?;
    let Some(segments) = segments(&pair.limits, src, dst, ranges) else {
        return Err(Failure::new(errno::EINVAL)
            .reason(XCOPY_REASON_LIMITS)
            .next_method()
            .untouched()
            .because("the ranges do not fit the limits of the pair any more"));
    };
    send(pair, src, dst, &segments).map_err(|why| match why {
        Stopped::Judged(why) => {
            log(&format!("EXTENDED COPY: {}", why.words()));
            why.failure()
        }
        Stopped::Lost(why) => {
            let words = format!("{}; {NO_END}", why.words());
            log(&format!("EXTENDED COPY: {words}"));
            why.failure().because(words).unsettled()
        }
        Stopped::Failed(failure) => failure,
    })
}

const NO_END: &str = "the copy manager does not say that the copy ended, so it may still write";

/// Why a copy was not carried out.
pub enum Stopped {
    /// The target said so.
    Judged(Judgement),
    /// Its end got lost, and the target does not say that there was one.
    Lost(Judgement),
    /// A unit is not the one that was opened, or the library's own fault.
    Failed(Failure),
}

impl From<Judgement> for Stopped {
    fn from(judgement: Judgement) -> Stopped {
        Stopped::Judged(judgement)
    }
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Stopped {
        Stopped::Failed(failure)
    }
}

/// Verifies who the units are where a unit attention was seen. Commands sent
/// beside it cannot go astray: they name both units.
fn verify(src: &Lun, dst: &Lun) -> Result<(), Failure> {
    src.verify()?;
    dst.verify()
}

/// Sends a copy, again where that may help at once.
pub fn send(pair: &Pair, src: &Lun, dst: &Lun, segments: &[Segment]) -> Result<(), Stopped> {
    let (mut tries, mut repeated) = (0, false);
    loop {
        let Some((number, _)) = pair.names() else {
            return Err(Judgement::own(XCOPY_REASON_NOT_SUPPORTED, NO_NAME).into());
        };
        let identified = pair.is_identified();
        let why = match once(pair, src, dst, segments) {
            Ok(()) => {
                pair.prove();
                return Ok(());
            }
            Err(Stopped::Judged(why)) => why,
            Err(stopped) => return Err(stopped),
        };
        tries += 1;
        if tries > TRIES {
            return Err(why.into());
        }
        match why.action {
            Action::Reidentify => {
                // The unit that was asked has seen it; a copy manager sends on
                // that of the other one.
                attention(&why, src, dst);
                verify(src, dst)?;
            }
            Action::OtherListId => {}
            Action::OtherDesignator if pair.take_next_names(number) => {}
            _ if wants_identifier(&why) && !identified => {
                pair.identify();
            }
            _ if hides_reason(&why) && pair.is_proven() && !repeated => repeated = true,
            _ => return Err(classed(why, src, dst).into()),
        }
    }
}

/// LIO calls whatever ends a copy half-way an unreachable target: a reservation that
/// was made meanwhile too, after which no other method may write. To the same command,
/// given again, it says what is the matter.
fn hides_reason(why: &Judgement) -> bool {
    matches!(why.code, Some((_, 0x0d, 0x02)))
}

/// What is said of a pair without names.
pub const NO_NAME: &str = "one of the units has no name that a copy manager knows (VPD page 83h)";

fn attention(why: &Judgement, src: &Lun, dst: &Lun) {
    if why.side != Side::Destination {
        src.raise_attention();
    }
    if why.side != Side::Source {
        dst.raise_attention();
    }
}

/// Some targets want a list identifier: they refuse usage 11b as a field.
fn wants_identifier(why: &Judgement) -> bool {
    matches!(why.code, Some((0x5, 0x26, 0x00) | (0x5, 0x24, 0x00)))
}

/// What the table cannot know.
fn classed(mut why: Judgement, src: &Lun, dst: &Lun) -> Judgement {
    if src.block_size() != dst.block_size() && matches!(why.code, Some((NOT_READY, 0x08, _))) {
        // LIO's way of refusing unequal blocks: it would never be ready.
        why.action = Action::NextMethodForGood;
        why.reason = XCOPY_REASON_BLOCK_SIZE;
        why.text = "the copy manager does not copy between devices of different block sizes";
    }
    if let Some((_, 0x21, _)) = why.code {
        src.distrust();
        dst.distrust();
    }
    why
}

/// One command.
fn once(pair: &Pair, src: &Lun, dst: &Lun, segments: &[Segment]) -> Result<(), Stopped> {
    let Some((_, (src_name, dst_name))) = pair.names() else {
        return Err(Judgement::own(XCOPY_REASON_NOT_SUPPORTED, NO_NAME).into());
    };
    let lease = match (pair.is_identified(), pair.form) {
        (false, _) => None,
        (true, Form::Lid1) => Some(ListIdLease::short()),
        (true, Form::Lid4) => Some(ListIdLease::long(ListIdUser::Copies)),
    };
    let lease = lease
        .transpose()
        .map_err(|error| xcopy_scsi_protocol::judge::judge_error(&error, Purpose::Copy))?;
    let list_id = match &lease {
        Some(lease) => ListId::Discard(lease.id()),
        None => ListId::None,
    };
    let cscd = |lun: &Lun, designator| {
        let facts = lun.facts();
        Cscd {
            designator,
            device_type: facts.inquiry.device_type,
            block_size: facts.capacity.block_size,
        }
    };
    let cscds = [cscd(src, src_name), cscd(dst, dst_name)];
    let cscds = match pair.limits.one_cscd {
        true => &cscds[..1],
        false => &cscds[..],
    };
    let (cdb, list) = match pair.form {
        Form::Lid1 => {
            let list = list_lid1(list_id, cscds, segments);
            (cdb::extended_copy_lid1(list.len() as u32), list)
        }
        Form::Lid4 => {
            let list = list_lid4(list_id, cscds, segments);
            (cdb::extended_copy_lid4(list.len() as u32), list)
        }
    };
    let unit = pair.unit(src, dst);
    let Err(why) = unit.carry_out(&cdb, Data::Out(&list), TIMEOUT, Purpose::Copy) else {
        return Ok(());
    };
    if pair.form == Form::Lid4
        && is_lost(&why)
        && let Some(lease) = lease
        && !has_ended(unit, lease.id())
    {
        // Whoever asked under this identifier would be told of that copy.
        std::mem::forget(lease);
        return Err(Stopped::Lost(why));
    }
    Err(why.into())
}

/// The command's status never came: it may still be carried out.
fn is_lost(why: &Judgement) -> bool {
    let host_status = (why.detail >> 8 & 0xff) as u32;
    why.code.is_none() && matches!(host_status, DID_TIME_OUT | DID_ERROR)
}

/// Ends a LID4 copy whose status got lost: abort, and ask until it has ended or
/// nobody knows it any more. False if neither was said in time.
fn has_ended(unit: &Lun, list_id: u32) -> bool {
    let abort = cdb::copy_operation_abort(list_id);
    // It may have ended by itself: the status tells.
    let _ = unit.carry_out(&abort, Data::None, SETTLE, Purpose::CopyStatus);
    let question = cdb::receive_copy_status_lid4(list_id, STATUS_BYTES as u32);
    let until = Instant::now() + SETTLE;
    while Instant::now() < until {
        let mut pause = None;
        match unit.ask(&question, STATUS_BYTES, Purpose::CopyStatus) {
            Ok(status) => match StatusLid4::parse(&status) {
                Some(status) if status.state == CopyState::InProgress => pause = status.delay_ms,
                Some(_) => return true,
                None => {}
            },
            Err(why) if is_unknown(&why) => return true,
            Err(_) => {}
        }
        let pause = pause.unwrap_or(100).clamp(10, 1000);
        std::thread::sleep(Duration::from_millis(pause.into()));
    }
    false
}

/// No copy has this list identifier (SPC-4 6.17): 24h/00h, or 26h/00h of some.
fn is_unknown(why: &Judgement) -> bool {
    matches!(why.code, Some((ILLEGAL_REQUEST, 0x24 | 0x26, _)))
}

/// Room for a status with all its sense data.
const STATUS_BYTES: usize = 32 + 252;
