//! Commands of the core.

use crate::device::Device;
use crate::failure::{About, failure};
use crate::machine::{self, Clock, Piece, SystemClock, Terms, Transferred, Wanted};
use crate::wire::{TOKEN_BYTES, Token};
use std::sync::atomic::Ordering;
use std::time::Duration;
use xcopy_plugin_sdk::abi::*;
use xcopy_plugin_sdk::{Command, Done, Failure, Host, Level, Operation, Outcome, errno};
use xcopy_scsi_protocol::Lun;

/// Commands above this go with IMMED: none may take longer than the ways to
/// devices are patient.
const IMMEDIATE_BYTES: u64 = 64 << 20;

/// What is granted to the operations of a command of `bytes`: with a deadline,
/// and for large ones, IMMED, because only what is not waited for can be aborted.
pub fn terms(clock: &SystemClock, left: Option<Duration>, bytes: u64) -> Terms<'_> {
    Terms {
        clock,
        deadline: left.map(|left| clock.now() + left),
        immediate: left.is_some() || bytes > IMMEDIATE_BYTES,
    }
}

/// Carries a command out.
pub fn execute(host: &Host, command: &mut Command<'_, Device>) -> Outcome {
    let clock = SystemClock::new();
    let terms = terms(&clock, command.time_left(), command.bytes());
    match command.operation() {
        Operation::Copy { src, dst, ranges } => copy(src, dst, ranges, terms),
        Operation::Zero { dst, ranges } => zero(dst, ranges, terms),
        Operation::Flush { dst } => dst.lun()?.flush().map(|()| Done::new()),
        Operation::Read {
            src,
            offset,
            buffer,
        } => src.lun()?.read(offset, buffer).map(|()| Done::new()),
        Operation::Write { dst, offset, data } => {
            dst.lun()?.write(offset, data).map(|()| Done::new())
        }
        Operation::TokenCreate {
            src,
            offset,
            length,
            token,
            token_type,
            lifetime_s,
        } => {
            let wanted = Wanted {
                rod_type: (token_type != 0).then_some(token_type),
                inactivity_s: lifetime_s,
            };
            has_type(host, src, wanted)?;
            lives_long_enough(host, src, wanted)?;
            create(src, offset, length, token, wanted, terms)
        }
        Operation::TokenWrite {
            dst,
            offset,
            length,
            token,
            token_offset,
        } => write(dst, offset, length, token, token_offset, terms),
        Operation::TokenRelease { dst, token } => release(dst, token, terms),
        _ => Err(command.unknown()),
    }
}

/// First byte on the unit; the range has to lie on the device.
fn place(device: &Device, offset: u64, length: u64) -> Result<u64, Failure> {
    match device.lun()?.blocks(offset, length) {
        Some(_) => Ok(offset + device.lun()?.offset()),
        None => Err(Failure::new(errno::EINVAL)
            .reason(XCOPY_REASON_BOUNDS)
            .fatal()
            .untouched()),
    }
}

fn ended(transferred: &Transferred, about: About) -> Outcome {
    match &transferred.fault {
        None => Ok(Done::new()),
        Some((fault, on_source)) => Err(failure(fault, about, transferred.done, *on_source)),
    }
}

fn copy(src: &Device, dst: &Device, ranges: &[xcopy_range], terms: Terms<'_>) -> Outcome {
    let _in_use = Lun::begin_copy(src.lun()?, dst.lun()?)?;
    let pieces = ranges.iter().map(|range| {
        Ok(Piece {
            src: place(src, range.src_offset, range.length)?,
            dst: place(dst, range.dst_offset, range.length)?,
            length: range.length,
        })
    });
    let pieces = pieces.collect::<Result<Vec<_>, Failure>>()?;
    let transferred = machine::copy(&src.site()?, &dst.site()?, terms, &pieces);
    ended(&transferred, About::Copy)
}

/// By the token for zeroes, by WRITE SAME, by writing zeroes: what the unit takes.
fn zero(dst: &Device, ranges: &[xcopy_range], terms: Terms<'_>) -> Outcome {
    let mut before = 0;
    for range in ranges {
        let at = place(dst, range.dst_offset, range.length)?;
        let mut done = 0;
        if !dst.no_zero_token.load(Ordering::Relaxed) && !dst.lacks_zero_token() {
            let _in_use = dst.lun()?.begin()?;
            let transferred = machine::zero(&dst.site()?, terms, at, range.length);
            done = transferred.done;
            if let Some((fault, _)) = &transferred.fault {
                let whole = failure(fault, About::Copy, before + done, false);
                // Another way would meet the same, or race with this one.
                if !fault.settled || is_final(fault) {
                    return Err(whole);
                }
                dst.no_zero_token.store(true, Ordering::Relaxed);
            }
        }
        dst.lun()?
            .zero(range.dst_offset + done, range.length - done)
            .map_err(|failure| failure.known(before + done))?;
        before += range.length;
    }
    Ok(Done::new())
}

/// Zeroing by other commands would fail too, or must not be tried now.
fn is_final(fault: &machine::Fault) -> bool {
    use xcopy_scsi_protocol::judge::{Action, Purpose, judge};
    match &fault.why {
        machine::Why::TimedOut | machine::Why::Unsent(_) => true,
        machine::Why::Refused(refusal) => {
            judge(&refusal.0, Purpose::Copy).is_some_and(|judgement| {
                matches!(
                    judgement.action,
                    Action::Retry | Action::Reidentify | Action::Fatal
                )
            })
        }
        _ => false,
    }
}

/// A type that the device states not to make is refused; one that states none is
/// asked.
fn has_type(host: &Host, src: &Device, wanted: Wanted) -> Result<(), Failure> {
    let Some(rod_type) = wanted.rod_type else {
        return Ok(());
    };
    let page = src.lun()?.third_party();
    let types = page.map(|page| page.rod_types).unwrap_or_default();
    let made = |code: u32| types.iter().any(|t| t.code == code && t.token_out);
    if types.is_empty() || made(rod_type) {
        return Ok(());
    }
    let known: Vec<_> = types.iter().filter(|t| t.token_out).collect();
    let known: Vec<_> = known.iter().map(|t| format!("{:08X}h", t.code)).collect();
    let text = format!(
        "{} makes no tokens of type {rod_type:08X}h (VPD page 8Fh: {})",
        src.name(),
        known.join(", ")
    );
    host.log(Level::Warning, &text);
    Err(Failure::new(errno::EINVAL)
        .reason(XCOPY_REASON_NOT_SUPPORTED)
        .because(text)
        .fatal()
        .untouched())
}

/// A life that the device does not give is refused, not cut.
fn lives_long_enough(host: &Host, src: &Device, wanted: Wanted) -> Result<(), Failure> {
    let most = src.tokens(true).map_or(0, |limits| limits.max_inactivity_s);
    if most == 0 || wanted.inactivity_s <= most {
        return Ok(());
    }
    // A command's failure has no place for words.
    let text = format!("a token of {} lives {most} s at most", src.name());
    host.log(Level::Warning, &text);
    Err(Failure::new(errno::EINVAL)
        .reason(XCOPY_REASON_LIMITS)
        .because(text)
        .fatal()
        .untouched())
}

fn create(
    src: &Device,
    offset: u64,
    length: u64,
    room: &mut [u8],
    wanted: Wanted,
    terms: Terms<'_>,
) -> Outcome {
    let _in_use = src.lun()?.begin()?;
    let at = place(src, offset, length)?;
    let Some(room) = room.get_mut(..TOKEN_BYTES) else {
        return Err(Failure::new(errno::ENOBUFS).fatal().untouched());
    };
    let stated = src.tokens(true).ok();
    let token = machine::create(&src.site()?, terms, at, length, wanted)
        .map_err(|fault| failure(&fault, About::Token, 0, true))?;
    room.copy_from_slice(token.bytes());
    let lives = match wanted.inactivity_s {
        0 => stated.map_or(0, |limits| limits.default_inactivity_s),
        wanted => wanted,
    };
    Ok(Done::new()
        .with_token(TOKEN_BYTES as u32, token.rod_type())
        .token_lives(lives))
}

fn parse(token: &[u8]) -> Result<Token, Failure> {
    Token::new(token).ok_or_else(|| {
        Failure::new(errno::ESTALE)
            .reason(XCOPY_REASON_TOKEN)
            .because("no token of a SCSI device: its length is wrong")
            .fatal()
            .untouched()
    })
}

fn write(
    dst: &Device,
    offset: u64,
    length: u64,
    token: &[u8],
    token_offset: u64,
    terms: Terms<'_>,
) -> Outcome {
    let _in_use = dst.lun()?.begin()?;
    let at = place(dst, offset, length)?;
    let token = parse(token)?;
    let transferred = machine::write(&dst.site()?, terms, &token, token_offset, at, length);
    ended(&transferred, About::Token)
}

fn release(dst: &Device, token: &[u8], terms: Terms<'_>) -> Outcome {
    let _in_use = dst.lun()?.begin()?;
    let token = parse(token)?;
    machine::release(&dst.site()?, terms, &token)
        .map(|()| Done::new())
        .map_err(|fault| failure(&fault, About::Token, 0, false))
}
