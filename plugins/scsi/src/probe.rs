//! The verdict on a pair: what both units say, and then a trial that touches
//! nothing: a copy of no blocks.

use crate::copy::{NO_NAME, Stopped, send};
use crate::limits::{Stated, limits};
use crate::pair::{Form, Manager, Pair};
use std::time::Duration;
use xcopy_plugin_sdk::abi::*;
use xcopy_plugin_sdk::{Failure, Verdict, errno};
use xcopy_scsi_protocol::wire::cdb;
use xcopy_scsi_protocol::wire::copy::Segment;
use xcopy_scsi_protocol::{Action, Judgement, Lun};

/// Seconds for which a refusal holds.
const REFUSED_S: u16 = 180;
/// Seconds for which a refusal holds that is about the moment.
const BUSY_S: u16 = 10;
/// Times that a busy target is tried.
const BUSY_TRIES: u32 = 6;

/// Why a pair cannot be copied.
#[derive(Debug)]
pub struct Refusal {
    reason: u16,
    text: String,
    seconds: u16,
    /// Better than the refusal of the other unit's copy manager.
    weight: u8,
}

impl Refusal {
    fn new(reason: u16, weight: u8, text: impl Into<String>) -> Refusal {
        Refusal {
            reason,
            text: text.into(),
            seconds: REFUSED_S,
            weight,
        }
    }

    /// Its XCOPY_REASON_.
    #[cfg(test)]
    pub fn why(&self) -> u16 {
        self.reason
    }

    /// For the core's probe.
    pub fn verdict(&self) -> Verdict {
        Verdict::refused(self.reason, &self.text).for_seconds(self.seconds)
    }

    /// For a command.
    pub fn failure(&self) -> Failure {
        Failure::new(errno::ENOTSUP)
            .reason(self.reason)
            .next_method()
            .untouched()
            .because(self.text.clone())
    }
}

/// Judges a pair by the destination's copy manager, then by the source's.
pub fn judge(src: &Lun, dst: &Lun) -> Result<Pair, Refusal> {
    for lun in [src, dst] {
        lun.verify().map_err(|_| {
            Refusal::new(
                XCOPY_REASON_REMOVED,
                9,
                format!(
                    "{} is another unit than the one that was opened",
                    lun.name()
                ),
            )
        })?;
    }
    let first = match by(Manager::Destination, src, dst) {
        Ok(pair) => return Ok(pair),
        Err(refusal) => refusal,
    };
    if src.is_same_unit(dst) {
        return Err(first);
    }
    match by(Manager::Source, src, dst) {
        Ok(pair) => Ok(pair),
        Err(second) if second.weight > first.weight => Err(second),
        Err(_) => Err(first),
    }
}

fn by(manager: Manager, src: &Lun, dst: &Lun) -> Result<Pair, Refusal> {
    let unit = match manager {
        Manager::Destination => dst,
        Manager::Source => src,
    };
    let (facts, src_facts, dst_facts) = (unit.facts(), src.facts(), dst.facts());
    if !facts.inquiry.third_party_copy {
        return Err(Refusal::new(
            XCOPY_REASON_NOT_SUPPORTED,
            0,
            format!("{} has no copy manager (INQUIRY: 3PC is 0)", unit.name()),
        ));
    }
    if let Err(why) = &facts.operating
        && why.reason == XCOPY_REASON_PERMISSION
    {
        return Err(permission(unit));
    }
    let Some(stated) = Stated::of(unit) else {
        let why = facts.operating.as_ref().err().map(Judgement::words);
        return Err(Refusal::new(
            XCOPY_REASON_NOT_SUPPORTED,
            1,
            format!(
                "{} does not say what it can copy: {}",
                unit.name(),
                why.unwrap_or_default()
            ),
        ));
    };
    for (lun, facts) in [(src, &src_facts), (dst, &dst_facts)] {
        if facts.names.is_empty() {
            return Err(Refusal::new(
                XCOPY_REASON_NOT_SUPPORTED,
                8,
                format!("{}: {NO_NAME}", lun.name()),
            ));
        }
        if facts.capacity.protected {
            return Err(Refusal::new(
                XCOPY_REASON_NOT_SUPPORTED,
                8,
                format!(
                    "{} is formatted with protection information, which a copy does not check",
                    lun.name()
                ),
            ));
        }
    }
    let limits = limits(
        &stated,
        src_facts.capacity.block_size,
        dst_facts.capacity.block_size,
        src.is_same_unit(dst),
    )
    .map_err(|text| Refusal::new(XCOPY_REASON_LIMITS, 2, format!("{}: {text}", unit.name())))?;
    let has = |action| {
        unit.third_party()
            .is_some_and(|page| page.has_command(cdb::THIRD_PARTY_COPY_OUT, action))
    };
    let only_lid4 = has(cdb::EXTENDED_COPY_LID4) && !has(cdb::EXTENDED_COPY_LID1);
    let form = if only_lid4 { Form::Lid4 } else { Form::Lid1 };
    let new = |form| {
        let (src, dst) = (&src_facts.names, &dst_facts.names);
        Pair::new(manager, form, limits, stated.without_list_id, src, dst)
    };
    match attempt(new(form), src, dst) {
        Err(refusal)
            if form == Form::Lid1
                && refusal.reason == XCOPY_REASON_NOT_SUPPORTED
                && has(cdb::EXTENDED_COPY_LID4) =>
        {
            attempt(new(Form::Lid4), src, dst)
        }
        other => other,
    }
}

/// Copies no blocks, which a target carries out or refuses as it would a copy.
fn attempt(pair: Pair, src: &Lun, dst: &Lun) -> Result<Pair, Refusal> {
    let nothing = Segment {
        source: 0,
        destination: u16::from(!pair.limits.one_cscd),
        in_destination_blocks: pair.limits.dst_block > pair.limits.src_block,
        blocks: 0,
        source_lba: src.offset() / u64::from(pair.limits.src_block),
        destination_lba: dst.offset() / u64::from(pair.limits.dst_block),
    };
    let unit = pair.unit(src, dst);
    let mut tries = 0;
    loop {
        let why = match send(&pair, src, dst, &[nothing]) {
            Ok(()) => return Ok(pair),
            Err(Stopped::Failed(_)) => {
                return Err(Refusal::new(
                    XCOPY_REASON_REMOVED,
                    9,
                    "a logical unit changed while it was asked: open it again",
                ));
            }
            // What may still run copies nothing.
            Err(Stopped::Judged(why) | Stopped::Lost(why)) => why,
        };
        tries += 1;
        match (why.action, why.reason) {
            (_, XCOPY_REASON_PERMISSION) if why.code.is_none() => return Err(permission(unit)),
            // The copy itself has to meet it: it is never a reason to fall back.
            (_, XCOPY_REASON_RESERVED) => return Ok(pair),
            (Action::Retry | Action::BackOff | Action::Reidentify | Action::OtherListId, _)
                if tries < BUSY_TRIES =>
            {
                std::thread::sleep(Duration::from_millis(10 << tries));
            }
            (Action::Retry | Action::BackOff | Action::Reidentify | Action::OtherListId, _) => {
                return Err(Refusal {
                    seconds: BUSY_S,
                    ..Refusal::new(why.reason, 5, words(unit, &why))
                });
            }
            // A field that it does not like in a copy of nothing may be that
            // nothing: then a copy of something tells.
            _ if matches!(why.code, Some((0x5, 0x26, 0x00)))
                && !copies_nothing_within(unit, &pair, nothing) =>
            {
                return Ok(pair);
            }
            _ => return Err(Refusal::new(why.reason, 4, words(unit, &why))),
        }
    }
}

/// Whether the copy manager of `unit` takes a copy of no blocks from the unit to
/// itself. Where it does and refuses the same between a pair, it is a name of the
/// pair that it does not know.
fn copies_nothing_within(unit: &Lun, pair: &Pair, nothing: Segment) -> bool {
    let names = &unit.facts().names;
    let within = Pair::new(
        pair.manager,
        pair.form,
        pair.limits,
        !pair.is_identified(),
        names,
        names,
    );
    let lba = unit.offset() / u64::from(unit.block_size());
    let nothing = Segment {
        in_destination_blocks: false,
        source_lba: lba,
        destination_lba: lba,
        ..nothing
    };
    send(&within, unit, unit, &[nothing]).is_ok()
}

fn permission(unit: &Lun) -> Refusal {
    Refusal::new(
        XCOPY_REASON_PERMISSION,
        7,
        format!(
            "{}: sending EXTENDED COPY needs CAP_SYS_RAWIO: run as root, or setcap \
             cap_sys_rawio+ep on the program",
            unit.name()
        ),
    )
}

fn words(unit: &Lun, why: &Judgement) -> String {
    format!("{}: {}", unit.name(), why.words())
}
