//! What a pair can do by tokens.

use crate::device::Device;
use crate::execute::terms;
use crate::machine::{self, SystemClock};
use crate::wire::RANGES_MAX;
use xcopy_plugin_sdk::Verdict;
use xcopy_plugin_sdk::abi::*;
use xcopy_scsi_protocol::judge::{judge, judge_error};
use xcopy_scsi_protocol::wire::third_party::RodLimits;
use xcopy_scsi_protocol::{Action, Judgement, Purpose};

/// Bytes of a token where the device names no best size: what Windows takes.
const PREFERRED_BYTES: u64 = 64 << 20;
/// Bytes of a token at most, whatever the device allows: more in one command
/// would make every deadline and cancel slow.
const MAX_BYTES: u64 = 256 << 20;
/// Tokens in flight where the device does not say: as many as there are threads
/// by default.
const CONCURRENT: u32 = 8;
/// Seconds for which a refusal by a device holds.
const REFUSED_S: u16 = 180;

/// Judges a pair; one end is None for the making or the writing of tokens.
pub fn verdict(src: Option<&Device>, dst: Option<&Device>) -> Verdict {
    let mut limits = xcopy_limits {
        max_bytes: MAX_BYTES,
        preferred_bytes: PREFERRED_BYTES,
        max_ranges: RANGES_MAX as u32,
        length_granularity: 1,
        max_concurrent: CONCURRENT,
        ..xcopy_limits::default()
    };
    for (device, makes) in [(src, true), (dst, false)] {
        let Some(device) = device else { continue };
        let stated = match device.tokens(makes) {
            Ok(stated) => stated,
            Err(refusal) => return refusal.verdict().for_seconds(REFUSED_S),
        };
        let block = match device.lun() {
            Ok(lun) => lun.block_size(),
            Err(failure) => return Verdict::failed(&failure).for_seconds(REFUSED_S),
        };
        narrow(&mut limits, block, stated);
        match makes {
            true => limits.src_granularity = block,
            false => limits.dst_granularity = block,
        }
        let (one, other) = (
            limits.length_granularity.max(block),
            limits.length_granularity.min(block),
        );
        if !one.is_multiple_of(other.max(1)) {
            return Verdict::refused(
                XCOPY_REASON_BLOCK_SIZE,
                &format!("blocks of {other} and {one} bytes: none is a multiple of the other"),
            );
        }
        limits.length_granularity = one;
    }
    let grain = u64::from(limits.length_granularity.max(1));
    limits.max_bytes -= limits.max_bytes % grain;
    if limits.max_bytes == 0 {
        return Verdict::refused(
            XCOPY_REASON_LIMITS,
            "the largest token is smaller than a block (VPD page 8Fh)",
        )
        .for_seconds(REFUSED_S);
    }
    limits.preferred_bytes = limits.preferred_bytes.min(limits.max_bytes);
    limits.preferred_bytes -= limits.preferred_bytes % grain;
    if let (Some(src), Some(dst)) = (src, dst)
        && let Some(refused) = trial(src, dst)
    {
        return refused;
    }
    Verdict::usable(limits)
}

fn narrow(limits: &mut xcopy_limits, block: u32, stated: RodLimits) {
    let block = u64::from(block);
    // A number of blocks in a range descriptor has 32 bits.
    let blocks = match stated.max_blocks {
        0 => u32::MAX.into(),
        stated => stated.min(u32::MAX.into()),
    };
    limits.max_bytes = limits.max_bytes.min(blocks.saturating_mul(block));
    let best = stated.optimal_blocks.saturating_mul(block);
    if best != 0 && best != u64::MAX {
        limits.preferred_bytes = match limits.preferred_bytes {
            PREFERRED_BYTES => best,
            other => other.min(best),
        };
    }
    if stated.max_ranges != 0 {
        limits.max_ranges = limits.max_ranges.min(stated.max_ranges.into());
    }
}

/// Shows by a token of one block, from which nothing is written, whether the
/// destination knows the source's tokens.
fn trial(src: &Device, dst: &Device) -> Option<Verdict> {
    let clock = SystemClock::new();
    let judged = |judgement: Judgement, name: &str| {
        let passes = matches!(
            judgement.action,
            Action::Retry | Action::Reidentify | Action::BackOff | Action::Fatal
        );
        // What passes, or would stop the copy, is the copy's to meet.
        (!passes).then(|| {
            Verdict::refused(judgement.reason, &format!("{name}: {}", judgement.words()))
                .for_seconds(REFUSED_S)
        })
    };
    let (from, to) = match (src.site(), dst.site()) {
        (Ok(from), Ok(to)) => (from, to),
        (Err(failure), _) | (_, Err(failure)) => {
            return Some(Verdict::failed(&failure).for_seconds(REFUSED_S));
        }
    };
    match machine::foreign(&from, &to, terms(&clock, None, 0)) {
        Ok(None) => None,
        Ok(Some(refusal)) => {
            let code = refusal.code();
            judge(&refusal.0, Purpose::Copy).map(|judgement| {
                let reason = match code {
                    Some((_, 0x23, _)) => XCOPY_REASON_CROSS_DEVICE,
                    _ => judgement.reason,
                };
                let text = format!(
                    "{} does not take a token of {}: {}",
                    dst.name(),
                    src.name(),
                    judgement.words()
                );
                Verdict::refused(reason, &text).for_seconds(REFUSED_S)
            })
        }
        Err(fault) => match fault.why {
            machine::Why::Refused(refusal) => judged(judge(&refusal.0, Purpose::Copy)?, src.name()),
            machine::Why::Unsent(errno) => {
                let error = std::io::Error::from_raw_os_error(errno);
                judged(judge_error(&error, Purpose::Copy), src.name())
            }
            machine::Why::Malformed(what) => Some(
                Verdict::refused(
                    XCOPY_REASON_NOT_SUPPORTED,
                    &format!("{} makes no token: {what}", src.name()),
                )
                .for_seconds(REFUSED_S),
            ),
            _ => None,
        },
    }
}
