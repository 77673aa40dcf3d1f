//! Every row of the table of SCSI errors, answered by a target in the middle of a
//! copy, and what the library made of it: by its result, the bytes by method and
//! the reasons of its fallbacks.
#![allow(missing_docs)]

use copy_manager::{Effect, Kind, Personality, Refusal, TransportError, When};
use xcopy::abi::*;
use xcopy_ctests::units::{Plugin, Units};

const SIZE: u64 = 256 << 10;

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    /// It is tried again, otherwise or later, and all is offloaded.
    Again,
    /// The rest goes through the host, for this reason.
    Host(u16),
    /// Nobody can.
    Fails(i32),
}

use Then::{Again, Fails, Host};

const FAILED: u16 = XCOPY_REASON_FAILED;
const UNSUPPORTED: u16 = XCOPY_REASON_NOT_SUPPORTED;

fn check(key: u8, asc: u8, ascq: u8) -> Refusal {
    Refusal::check(key, asc, ascq)
}

/// One failure of one command of a copy of the whole unit.
fn provoke(plugin: Plugin, kind: Kind, effect: Effect) -> (Then, String) {
    let mut units = Units::new(plugin, Personality::array(), SIZE as usize, (512, 512));
    assert_eq!(units.prepare().res, 0);
    units.manager.clear_trace();
    units.manager.set_fault(kind, When::Nth(1), effect);
    let whole = xcopy_range {
        src_offset: 0,
        dst_offset: 0,
        length: SIZE,
    };
    let ended = units.copy(&[whole], |_| {});
    assert_eq!(units.manager.fault_hits(), 1);
    let (done, method) = (ended.done, plugin.method());
    let (offloaded, by_host) = (
        ended.bytes_by(method),
        ended.bytes_by(XCOPY_METHOD_READ_WRITE),
    );
    let text = format!("{done:?}, offloaded {offloaded}, by the host {by_host}");
    let then = match done.res {
        0 if offloaded == SIZE => {
            assert_eq!(done.flags & XCOPY_CPL_FELL_BACK, 0, "{text}");
            Again
        }
        0 => {
            let fallback = ended
                .fallback(method)
                .unwrap_or_else(|| panic!("no reason: {text}"));
            assert_ne!(done.flags & XCOPY_CPL_FELL_BACK, 0, "{text}");
            assert_eq!(offloaded + by_host, SIZE, "{text}");
            Host(fallback.reason)
        }
        error => {
            assert_eq!(by_host, 0, "{text}");
            Fails(-error)
        }
    };
    // The target's own words are kept.
    if let (Fails(_) | Host(_), Some(sense)) = (then, units.sense_sent()) {
        assert_eq!(ended.sense(), sense, "{text}");
    }
    (then, text)
}

fn all(plugin: Plugin, rows: &[(Kind, Effect, Then)]) {
    let mut wrong = Vec::new();
    for (kind, effect, wanted) in rows {
        let (then, text) = provoke(plugin, *kind, effect.clone());
        if then != *wanted {
            wrong.push(format!(
                "{kind:?} {effect:?}: {then:?}, not {wanted:?}: {text}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn extended_copy() {
    let answer = |refusal, then| (Kind::ExtendedCopyLid1, Effect::Answer(refusal), then);
    let after = |refusal, then| (Kind::ExtendedCopyLid1, Effect::AnswerAfter(refusal), then);
    let within = |refusal, then| {
        (
            Kind::ExtendedCopyLid1,
            Effect::AnswerWithin(70_000, refusal),
            then,
        )
    };
    all(
        Plugin::Scsi,
        &[
            answer(check(5, 0x20, 0x00), Host(UNSUPPORTED)),
            // A field: perhaps that there is no list identifier. Given one, it works.
            answer(check(5, 0x24, 0x00), Again),
            answer(check(5, 0x26, 0x00), Again),
            answer(check(5, 0x00, 0x16), Again),
            answer(check(0xA, 0x0D, 0x00), Host(FAILED)),
            answer(check(0xA, 0x0D, 0x01), Host(FAILED)),
            within(check(0xA, 0x0D, 0x01), Host(FAILED)),
            // The names were proven by the trial: others would not help.
            // Of a pair that copied before: given again once, it may tell more.
            answer(check(0xA, 0x0D, 0x02), Again),
            within(check(0xA, 0x0D, 0x02), Again),
            answer(check(5, 0x0D, 0x02), Again),
            answer(check(0xA, 0x08, 0x04), Host(XCOPY_REASON_CROSS_DEVICE)),
            answer(check(5, 0x26, 0x07), Host(UNSUPPORTED)),
            answer(check(0xA, 0x0D, 0x03), Host(XCOPY_REASON_BLOCK_SIZE)),
            answer(check(0xA, 0x0D, 0x04), Fails(libc::EREMOTEIO)),
            answer(check(0xA, 0x0D, 0x05), Fails(libc::EREMOTEIO)),
            answer(check(5, 0x1A, 0x00), Host(XCOPY_REASON_LIMITS)),
            answer(check(5, 0x26, 0x06), Again),
            answer(check(5, 0x26, 0x08), Again),
            answer(check(5, 0x26, 0x09), Host(UNSUPPORTED)),
            answer(check(0xA, 0x26, 0x0A), Host(XCOPY_REASON_BLOCK_SIZE)),
            answer(check(5, 0x26, 0x0B), Fails(libc::EREMOTEIO)),
            answer(check(0xA, 0x26, 0x0C), Host(UNSUPPORTED)),
            answer(check(0xA, 0x26, 0x0D), Host(XCOPY_REASON_MISALIGNED)),
            answer(check(5, 0x26, 0x15), Host(XCOPY_REASON_PERMISSION)),
            answer(check(5, 0x55, 0x03), Again),
            answer(check(5, 0x55, 0x0C), Again),
            answer(check(5, 0x55, 0x0D), Again),
            answer(check(7, 0x27, 0x07), Fails(libc::ENOSPC)),
            answer(check(7, 0x27, 0x00), Fails(libc::EROFS)),
            answer(check(5, 0x21, 0x00), Fails(libc::EREMOTEIO)),
            answer(check(6, 0x29, 0x00), Again),
            answer(check(6, 0x2A, 0x09), Again),
            answer(check(6, 0x3F, 0x0E), Again),
            answer(check(2, 0x04, 0x01), Again),
            answer(check(2, 0x08, 0x00), Again),
            answer(check(3, 0x11, 0x00), Host(FAILED)),
            answer(check(4, 0x44, 0x00), Host(FAILED)),
            answer(check(0xB, 0x00, 0x00), Again),
            answer(Refusal::Status(0x08), Again),
            answer(Refusal::Status(0x28), Again),
            answer(Refusal::Status(0x18), Fails(libc::EBADE)),
            answer(Refusal::Status(0x40), Host(FAILED)),
            answer(Refusal::Transport(TransportError::TimedOut), Host(FAILED)),
            // All was copied, and nobody said so: not a success.
            after(Refusal::Transport(TransportError::TimedOut), Host(FAILED)),
            after(Refusal::Status(0x40), Host(FAILED)),
            (Kind::ExtendedCopyLid1, Effect::NexusLoss, Again),
            (
                Kind::ExtendedCopyLid1,
                Effect::Short(4096),
                Fails(libc::EREMOTEIO),
            ),
        ],
    );
}

#[test]
fn tokens() {
    let populate = |refusal, then| (Kind::PopulateToken, Effect::Answer(refusal), then);
    let write = |refusal, then| (Kind::WriteUsingToken, Effect::Answer(refusal), then);
    let within = |refusal, then| {
        (
            Kind::WriteUsingToken,
            Effect::AnswerWithin(70_000, refusal),
            then,
        )
    };
    let information = |refusal, then| (Kind::RodTokenInformation, Effect::Answer(refusal), then);
    all(
        Plugin::Odx,
        &[
            populate(check(5, 0x20, 0x00), Host(UNSUPPORTED)),
            populate(check(5, 0x00, 0x16), Again),
            populate(check(5, 0x55, 0x0D), Again),
            populate(check(5, 0x21, 0x00), Fails(libc::EREMOTEIO)),
            populate(check(6, 0x29, 0x00), Again),
            populate(Refusal::Status(0x18), Fails(libc::EBADE)),
            populate(Refusal::Status(0x28), Again),
            (Kind::PopulateToken, Effect::LoseStatus, Again),
            (Kind::PopulateToken, Effect::Short(4096), Again),
            (Kind::PopulateToken, Effect::NexusLoss, Again),
            write(check(5, 0x23, 0x00), Again),
            write(check(5, 0x23, 0x01), Host(XCOPY_REASON_TOKEN)),
            write(check(5, 0x23, 0x02), Host(XCOPY_REASON_CROSS_DEVICE)),
            write(check(5, 0x23, 0x03), Host(XCOPY_REASON_CROSS_DEVICE)),
            write(check(5, 0x23, 0x04), Again),
            write(check(5, 0x23, 0x05), Fails(libc::ESTALE)),
            write(check(5, 0x23, 0x06), Again),
            write(check(5, 0x23, 0x07), Again),
            write(check(5, 0x23, 0x08), Again),
            write(check(5, 0x23, 0x09), Again),
            write(check(5, 0x23, 0x0A), Fails(libc::ESTALE)),
            write(check(5, 0x55, 0x0C), Again),
            write(check(5, 0x00, 0x16), Again),
            write(check(7, 0x27, 0x07), Fails(libc::ENOSPC)),
            write(check(7, 0x27, 0x00), Fails(libc::EROFS)),
            write(check(6, 0x29, 0x07), Again),
            write(check(2, 0x04, 0x01), Again),
            write(check(3, 0x11, 0x00), Host(FAILED)),
            write(Refusal::Status(0x08), Again),
            write(Refusal::Status(0x18), Fails(libc::EBADE)),
            write(Refusal::Status(0x28), Again),
            within(check(3, 0x11, 0x00), Host(FAILED)),
            (Kind::WriteUsingToken, Effect::LoseStatus, Again),
            (Kind::WriteUsingToken, Effect::Short(8192), Again),
            (Kind::WriteUsingToken, Effect::NexusLoss, Again),
            information(check(5, 0x24, 0x00), Again),
            (Kind::RodTokenInformation, Effect::LoseStatus, Again),
            (Kind::RodTokenInformation, Effect::OtherUnits, Again),
        ],
    );
}

/// Names that a copy manager does not know are found out by the trial.
#[test]
fn other_names() {
    for (key, asc, ascq) in [(5, 0x26, 0x07), (0xA, 0x0D, 0x02), (0xA, 0x08, 0x04)] {
        let mut units = Units::new(Plugin::Scsi, Personality::ctl(), SIZE as usize, (512, 512));
        let refusal = Effect::Answer(check(key, asc, ascq));
        units
            .manager
            .set_fault(Kind::ExtendedCopyLid1, When::Nth(1), refusal);
        let whole = xcopy_range {
            src_offset: 0,
            dst_offset: 0,
            length: SIZE,
        };
        let ended = units.copy(&[whole], |request| request.flags = XCOPY_REQ_NO_FALLBACK);
        assert_eq!(
            (ended.done.res, ended.bytes_by(XCOPY_METHOD_SCSI_XCOPY)),
            (0, SIZE)
        );
        let trace = units.manager.trace();
        let mut lists = trace
            .iter()
            .filter(|entry| entry.kind == Kind::ExtendedCopyLid1);
        // DESIGNATOR TYPE of the first CSCD descriptor: NAA, and then EUI-64.
        let kinds = |entry: &copy_manager::Entry| entry.parameters[16 + 5] & 0x0F;
        assert_eq!(lists.next().map(kinds), Some(3));
        assert_eq!(lists.next_back().map(kinds), Some(2));
    }
}

/// A unit whose names cannot be asked for at a bad moment is the same unit still.
#[test]
fn a_verification_that_fails_removes_nothing() {
    for plugin in [Plugin::Scsi, Plugin::Odx] {
        for nth in 1..=8 {
            let mut units = Units::new(plugin, Personality::array(), SIZE as usize, (512, 512));
            assert_eq!(units.prepare().res, 0);
            units.manager.raise_attention(units.nexus, 1, 0x29, 0x00);
            let timeout = Refusal::Transport(TransportError::TimedOut);
            units
                .manager
                .set_fault(Kind::Inquiry, When::Nth(nth), Effect::Answer(timeout));
            let whole = xcopy_range {
                src_offset: 0,
                dst_offset: 0,
                length: SIZE,
            };
            units.copy(&[whole], |_| {});
            let events = [units.src, units.dst].map(|device| units.rig.remote.events(device));
            for event in events {
                assert_eq!(
                    event.map(|bits| bits & XCOPY_EVENT_REMOVED),
                    Ok(0),
                    "{plugin:?} {nth}"
                );
            }
            units.manager.clear_faults();
            assert_eq!(units.prepare().res, 0);
            let ended = units.copy(&[whole], |_| {});
            assert_eq!(ended.done.res, 0, "{plugin:?} {nth}: {:?}", ended.done);
        }
    }
}
