//! Copies by tokens under faults: the bytes are right or the error is exact, and
//! what is done about each error is what the table says.
#![allow(missing_docs)]

use copy_manager::fault::TokenFate;
use copy_manager::{Effect, Kind, Personality, Refusal, TransportError, When};
use xcopy::abi::*;
use xcopy_ctests::array::{Array, Ended};
use xcopy_ctests::disk::{Random, stamp};
use xcopy_ctests::fixture::range;

const MIB: usize = 1 << 20;
const SIZE: usize = 4 * MIB;

/// What a fault should come to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    /// All by tokens: the fault was dealt with inside.
    Odx,
    /// The rest by the host.
    Host,
    /// The request fails with this errno.
    Fatal(i32),
}
use Then::{Fatal, Host, Odx};

fn judge(then: Then, ended: &Ended, what: &str) {
    let done = ended.done;
    match then {
        Odx => {
            assert_eq!(done.res, 0, "{what} {done:?}");
            assert_eq!(
                ended.bytes_by(XCOPY_METHOD_ODX),
                SIZE as u64,
                "{what} {done:?}"
            );
        }
        Host => {
            assert_eq!(done.res, 0, "{what} {done:?}");
            assert!(
                ended.bytes_by(XCOPY_METHOD_READ_WRITE) > 0,
                "{what} {done:?}"
            );
            assert_ne!(done.reason, 0, "{what} {done:?}");
            let left = ended.report.fallbacks[0];
            assert_eq!(
                (left.method, left.reason),
                (XCOPY_METHOD_ODX, done.reason),
                "{what}"
            );
        }
        Fatal(errno) => assert_eq!(done.res, -errno, "{what} {done:?}"),
    }
    assert_eq!(done.flags & XCOPY_CPL_UNSETTLED, 0, "{what} {done:?}");
}

/// Copies under a fault from the second command of a kind on; the first one was
/// the pair's trial.
fn provoke(personality: &Personality, kind: Kind, when: When, effect: &Effect, then: Then) {
    let what = format!("{} {kind:?} {when:?} {effect:?}", personality.name);
    // In eight commands, several in flight.
    let mut array = Array::with(personality.clone(), SIZE, (512, 512), |queue| {
        queue.chunk = SIZE as u64 / 8;
    });
    assert!(array.verdict(array.src, array.dst).0, "{what}");
    array.manager.set_fault(kind, when, effect.clone());
    let ended = array.copy(&[range(0, 0, SIZE as u64)], |_| {});
    judge(then, &ended, &what);
    assert!(array.manager.fault_hits() > 0, "{what}: never struck");
    assert_eq!(array.manager.running(), 0, "{what}");
    // What was dealt with inside left no tokens behind, and the next copy is well.
    array.manager.clear_faults();
    // A token whose name never came, and one that its device would not delete,
    // live until the device forgets them.
    let told_gone = matches!(effect, Effect::Answer(Refusal::Check(s)) if s.asc == 0x23);
    let unknown = kind != Kind::WriteUsingToken || !matches!(when, When::Nth(_)) || told_gone;
    if then == Odx {
        let left = array.manager.live_tokens();
        assert!(unknown || left == 0, "{what}: {left} tokens are left");
        array.other.poke(array.dst_unit, 0, &stamp(2, 2, SIZE));
        assert_eq!(array.copy_all().done.res, 0, "{what}");
    }
}

fn check(key: u8, asc: u8, ascq: u8) -> Effect {
    Effect::Answer(Refusal::check(key, asc, ascq))
}

/// The rows of the table, on WRITE USING TOKEN: once, and for ever.
#[test]
fn every_row_of_the_table() {
    let rows: &[(u8, u8, u8, Then, Then)] = &[
        (0x5, 0x20, 0x00, Host, Host),
        (0x5, 0x24, 0x00, Host, Host),
        (0x5, 0x00, 0x16, Odx, Host),
        (0xa, 0x0d, 0x00, Host, Host),
        (0xa, 0x0d, 0x01, Host, Host),
        (0xa, 0x0d, 0x02, Host, Host),
        (0xa, 0x08, 0x04, Host, Host),
        (0xa, 0x0d, 0x03, Host, Host),
        (
            0xa,
            0x0d,
            0x04,
            Fatal(libc::EREMOTEIO),
            Fatal(libc::EREMOTEIO),
        ),
        (
            0xa,
            0x0d,
            0x05,
            Fatal(libc::EREMOTEIO),
            Fatal(libc::EREMOTEIO),
        ),
        (0x5, 0x1a, 0x00, Host, Host),
        (0x5, 0x26, 0x00, Host, Host),
        (0x5, 0x26, 0x06, Odx, Host),
        (0x5, 0x26, 0x08, Odx, Host),
        (0x5, 0x26, 0x07, Host, Host),
        (0x5, 0x26, 0x09, Host, Host),
        (0xa, 0x26, 0x0a, Host, Host),
        (
            0x5,
            0x26,
            0x0b,
            Fatal(libc::EREMOTEIO),
            Fatal(libc::EREMOTEIO),
        ),
        (0x5, 0x26, 0x0c, Host, Host),
        (0xa, 0x26, 0x0d, Host, Host),
        (0x5, 0x26, 0x15, Host, Host),
        (0x5, 0x23, 0x00, Odx, Host),
        (0x5, 0x23, 0x01, Host, Host),
        (0x5, 0x23, 0x02, Host, Host),
        (0x5, 0x23, 0x03, Host, Host),
        (0x5, 0x23, 0x04, Odx, Host),
        (0x5, 0x23, 0x05, Fatal(libc::ESTALE), Fatal(libc::ESTALE)),
        (0x5, 0x23, 0x06, Odx, Host),
        (0x5, 0x23, 0x07, Odx, Host),
        (0x5, 0x23, 0x08, Odx, Host),
        (0x5, 0x23, 0x09, Odx, Host),
        (0x5, 0x23, 0x0a, Fatal(libc::ESTALE), Fatal(libc::ESTALE)),
        (0x7, 0x27, 0x07, Fatal(libc::ENOSPC), Fatal(libc::ENOSPC)),
        (0x7, 0x27, 0x00, Fatal(libc::EROFS), Fatal(libc::EROFS)),
        (
            0x5,
            0x21,
            0x00,
            Fatal(libc::EREMOTEIO),
            Fatal(libc::EREMOTEIO),
        ),
        (0x3, 0x11, 0x00, Host, Host),
        (0x4, 0x44, 0x00, Host, Host),
        (0x6, 0x29, 0x00, Odx, Odx),
        (0x6, 0x2a, 0x01, Odx, Odx),
    ];
    for (key, asc, ascq, once, always) in rows {
        let effect = check(*key, *asc, *ascq);
        let personality = Personality::array();
        provoke(
            &personality,
            Kind::WriteUsingToken,
            When::Nth(3),
            &effect,
            *once,
        );
        // Unit attentions for ever are no device.
        if *key != 0x6 {
            provoke(
                &personality,
                Kind::WriteUsingToken,
                When::From(1),
                &effect,
                *always,
            );
        }
    }
}

#[test]
fn statuses_without_sense() {
    let personality = Personality::array();
    for (status, then) in [
        (0x08, Odx),
        (0x28, Odx),
        (0x18, Fatal(libc::EBADE)),
        (0x40, Host),
    ] {
        let effect = Effect::Answer(Refusal::Status(status));
        for kind in [Kind::PopulateToken, Kind::WriteUsingToken] {
            provoke(&personality, kind, When::Nth(3), &effect, then);
        }
    }
}

#[test]
fn no_resources_are_waited_for() {
    let effect = Effect::NoResources;
    for kind in [Kind::PopulateToken, Kind::WriteUsingToken] {
        provoke(&Personality::array(), kind, When::First(5), &effect, Odx);
    }
}

#[test]
fn tokens_that_die_on_the_way() {
    for fate in [
        TokenFate::Unknown,
        TokenFate::Revoked,
        TokenFate::Expired,
        TokenFate::Cancelled,
        TokenFate::Deleted,
    ] {
        for personality in [Personality::ctl(), Personality::array()] {
            let effect = Effect::Token(fate);
            provoke(
                &personality,
                Kind::WriteUsingToken,
                When::Every(3),
                &effect,
                Odx,
            );
            // Written in part, and then it is no more.
            let within = Refusal::check(5, 0x23, fate.ascq());
            let effect = Effect::AnswerWithin(65_536, within);
            provoke(
                &personality,
                Kind::WriteUsingToken,
                When::Nth(2),
                &effect,
                Odx,
            );
        }
    }
}

#[test]
fn states_that_are_lost_or_odd() {
    for personality in [Personality::ctl(), Personality::array()] {
        for kind in [Kind::PopulateToken, Kind::WriteUsingToken] {
            provoke(&personality, kind, When::Every(3), &Effect::LoseStatus, Odx);
            provoke(&personality, kind, When::From(1), &Effect::LoseStatus, Host);
            provoke(&personality, kind, When::Nth(3), &Effect::ListIdBusy, Odx);
        }
        let short = Effect::Short(65_536);
        provoke(
            &personality,
            Kind::WriteUsingToken,
            When::Every(4),
            &short,
            Odx,
        );
        provoke(
            &personality,
            Kind::PopulateToken,
            When::Every(4),
            &short,
            Odx,
        );
        let nothing = Effect::Short(0);
        provoke(
            &personality,
            Kind::WriteUsingToken,
            When::From(1),
            &nothing,
            Host,
        );
        for kind in [Kind::PopulateToken, Kind::WriteUsingToken] {
            provoke(&personality, kind, When::Nth(2), &Effect::OtherUnits, Odx);
        }
        let granularity = Effect::Granularity;
        provoke(
            &personality,
            Kind::WriteUsingToken,
            When::Nth(2),
            &granularity,
            Host,
        );
        provoke(
            &personality,
            Kind::WriteUsingToken,
            When::Nth(2),
            &Effect::NexusLoss,
            Odx,
        );
        provoke(
            &personality,
            Kind::PopulateToken,
            When::Nth(2),
            &Effect::NexusLoss,
            Odx,
        );
        provoke(
            &personality,
            Kind::RodTokenInformation,
            When::Nth(4),
            &Effect::NexusLoss,
            Odx,
        );
    }
}

#[test]
fn commands_that_are_lost_on_the_way() {
    let errors = [
        TransportError::TimedOut,
        TransportError::Aborted,
        TransportError::Error,
        TransportError::Reset,
        TransportError::Busy,
    ];
    for error in errors {
        let then = match error {
            TransportError::Reset | TransportError::Busy => Odx,
            _ => Host,
        };
        for effect in [
            Effect::Answer(Refusal::Transport(error)),
            Effect::AnswerAfter(Refusal::Transport(error)),
            Effect::AnswerWithin(65_536, Refusal::Transport(error)),
        ] {
            provoke(
                &Personality::array(),
                Kind::WriteUsingToken,
                When::Nth(3),
                &effect,
                then,
            );
        }
        // A reading that is lost is a lost status: copied again.
        let effect = Effect::Answer(Refusal::Transport(error));
        provoke(
            &Personality::array(),
            Kind::RodTokenInformation,
            When::Nth(4),
            &effect,
            Odx,
        );
    }
}

/// The host's own reads and writes: a unit that moves less than it was asked to and
/// says so by the residual alone is asked for the rest, and one that moves nothing
/// fails.
#[test]
fn what_a_residual_leaves_over() {
    for kind in [Kind::Read, Kind::Write] {
        for bytes in [512, 4096, 65_536] {
            let mut array = Array::new(Personality::array(), SIZE);
            let effect = Effect::Short(bytes);
            array.manager.set_fault(kind, When::Every(3), effect);
            let whole = [range(0, 0, SIZE as u64)];
            let by_host = |request: &mut xcopy_request| {
                request.methods = 1 << XCOPY_METHOD_READ_WRITE;
            };
            let ended = array.copy(&whole, by_host);
            assert_eq!(ended.done.res, 0, "{kind:?} {bytes} {:?}", ended.done);
            assert!(array.manager.fault_hits() > 0, "{kind:?} {bytes}");
            array.manager.clear_faults();
            array
                .manager
                .set_fault(kind, When::Every(1), Effect::Short(0));
            let ended = array.copy(&whole, by_host);
            assert_eq!(ended.done.res, -libc::EIO, "{kind:?} {:?}", ended.done);
        }
    }
}

#[test]
fn another_unit_behind_the_same_way_is_not_written() {
    let mut array = Array::new(Personality::array(), SIZE);
    assert_eq!(array.copy_all().done.res, 0);
    let before = stamp(9, 1, SIZE);
    array.other.poke(array.dst_unit, 0, &before);
    let name = copy_manager::Designator::naa6(0x7777);
    array.other.rename(array.dst_unit, vec![name]);
    let ended = array.copy(&[range(0, 0, SIZE as u64)], |_| {});
    assert_eq!(ended.done.res, -libc::ENODEV, "{:?}", ended.done);
    assert!(array.target() == before, "another unit was written");
}

/// Random copies under random faults: right bytes, or an error and no byte
/// outside the ranges; and tokens do most of the work.
#[test]
fn at_random() {
    let runs = if cfg!(debug_assertions) { 400 } else { 5_000 };
    let mut random = Random::new(7);
    let (mut by_tokens, mut failed, mut struck) = (0, 0, 0);
    let mut array = None;
    for run in 0..runs {
        let size = 256 * 1024;
        if run % 50 == 0 {
            let personality = match random.below(3) {
                0 => Personality::ctl(),
                1 => Personality::array(),
                _ => Personality::windows(),
            };
            let blocks = random.pick(&[(512, 512), (4096, 4096), (512, 4096), (4096, 512)]);
            let mut made = Array::with(personality, size, blocks, |queue| {
                queue.chunk = 32 * 1024;
            });
            assert_eq!(made.copy_all().done.res, 0);
            array = Some(made);
        }
        let array = array.as_mut().expect("made above");
        let kinds = [
            Kind::PopulateToken,
            Kind::WriteUsingToken,
            Kind::RodTokenInformation,
            Kind::Write,
            Kind::Read,
        ];
        let before = array.manager.fault_hits();
        for _ in 0..random.below(3) {
            let effect = match random.below(12) {
                0 => Effect::Token(TokenFate::Expired),
                1 => Effect::LoseStatus,
                2 => Effect::Short(random.below(16) * 4096),
                3 => Effect::NexusLoss,
                4 => Effect::NoResources,
                5 => Effect::ListIdBusy,
                6 => Effect::Answer(Refusal::Status(0x08)),
                7 => check(0xa, 0x0d, 0x01),
                8 => Effect::AnswerWithin(8192, Refusal::check(0x5, 0x26, 0x00)),
                9 => Effect::AnswerWithin(4096, Refusal::check(0x3, 0x11, 0x00)),
                10 => check(0x6, 0x29, 0x00),
                _ => Effect::OtherUnits,
            };
            let when = random.pick(&[When::Nth(1), When::Nth(3), When::Every(4), When::First(2)]);
            array.manager.set_fault(random.pick(&kinds), when, effect);
        }
        let grain = 4096;
        let places = size as u64 / grain;
        let n = 1 + random.below(4);
        let mut at = 0;
        let mut ranges = Vec::new();
        for left in (0..n).rev() {
            // Ascending destinations, sources anywhere.
            let room = (places - at) / (left + 1);
            let start = at + random.below(room.max(1));
            let length = 1 + random.below((at + room).saturating_sub(start).max(1));
            let length = length.min(places - start);
            if length == 0 {
                break;
            }
            let src = random.below(places - length + 1);
            ranges.push(range(src * grain, start * grain, length * grain));
            at = start + length;
        }
        let ended = array.copy(&ranges, |_| {});
        by_tokens += u64::from(ended.bytes_by(XCOPY_METHOD_ODX) > 0);
        failed += u64::from(ended.done.res != 0);
        struck += u64::from(array.manager.fault_hits() > before);
        array.manager.clear_faults();
        // A method that was left rests; the pair is asked anew for the next copy.
        array.rig.remote.invalidate(array.dst);
    }
    println!("{runs} copies: {by_tokens} by tokens, {struck} struck, {failed} failed");
    assert!(by_tokens * 2 > runs, "{by_tokens} of {runs}");
    assert!(struck * 4 > runs, "{struck} of {runs}");
}
