//! Copies by EXTENDED COPY, through the core, against every kind of copy manager.
#![allow(missing_docs)]

use copy_manager::fault::{Effect, Refusal, When};
use copy_manager::{CopyManager, Kind, Personality, ServiceTimes};
use std::time::Duration;
use xcopy::abi::*;
use xcopy_ctests::array::{Array, Ended, SCSI};
use xcopy_ctests::fixture::range;

const MIB: usize = 1 << 20;

fn array(personality: Personality, size: usize, blocks: (u32, u32)) -> Array {
    deep(personality, size, blocks, 0)
}

/// With a depth of the caller's; 0 is the target's.
fn deep(personality: Personality, size: usize, blocks: (u32, u32), depth: u32) -> Array {
    let manager = CopyManager::new(personality);
    Array::served(SCSI, manager.clone(), manager, size, blocks, |queue| {
        queue.depth = depth;
    })
}

fn with_extended_copy() -> [Personality; 5] {
    [
        Personality::ctl(),
        Personality::lio(),
        Personality::array(),
        Personality::scst(),
        Personality::comstar(),
    ]
}

/// LID4 and no LID1.
fn lid4() -> Personality {
    let mut personality = Personality::array();
    personality.name = "lid4";
    personality
        .commands
        .retain(|kind| *kind != Kind::ExtendedCopyLid1);
    personality
}

fn offloaded(array: &Array, ended: &Ended, bytes: usize, name: &str) {
    let done = ended.done;
    assert_eq!((done.res, done.reason), (0, 0), "{name} {done:?}");
    assert_eq!(done.flags, XCOPY_CPL_OFFLOADED, "{name} {done:?}");
    assert_eq!(
        ended.bytes_by(XCOPY_METHOD_SCSI_XCOPY),
        bytes as u64,
        "{name}"
    );
    let by_host = array.count(Kind::Write) + array.count(Kind::Read);
    assert_eq!(by_host, 0, "{name}");
}

#[test]
fn whole_disks_are_copied_by_every_target() {
    for personality in with_extended_copy().into_iter().chain([lid4()]) {
        for block in [512, 4096] {
            let name = personality.name;
            let mut array = array(personality.clone(), 12 * MIB, (block, block));
            let ended = array.copy_all();
            offloaded(&array, &ended, 12 * MIB, name);
            let (one, four) = (
                array.count(Kind::ExtendedCopyLid1),
                array.count(Kind::ExtendedCopyLid4),
            );
            match name {
                "lid4" => assert!(one == 0 && four > 1, "{name}: {one} and {four}"),
                _ => assert!(one > 1 && four == 0, "{name}: {one} and {four}"),
            }
            assert_eq!(array.manager.running(), 0, "{name}: status is held");
        }
    }
}

#[test]
fn unequal_blocks_where_the_target_can() {
    for blocks in [(512, 4096), (4096, 512)] {
        let mut can = array(Personality::ctl(), 20 * MIB, blocks);
        let ended = can.copy_all();
        offloaded(&can, &ended, 20 * MIB, "ctl");
        let mut cannot = array(Personality::lio(), 4 * MIB, blocks);
        let (usable, reason, text) = cannot.verdict(cannot.src, cannot.dst);
        assert_eq!((usable, reason), (false, XCOPY_REASON_BLOCK_SIZE), "{text}");
        let ended = cannot.copy(&[range(0, 0, 4 * MIB as u64)], |_| {});
        assert_eq!(ended.bytes_by(XCOPY_METHOD_READ_WRITE), 4 * MIB as u64);
        assert_eq!(ended.done.reason, XCOPY_REASON_BLOCK_SIZE);
    }
}

#[test]
fn scattered_ranges_share_commands() {
    let ranges: Vec<xcopy_range> = (0..64u64)
        .map(|i| range((63 - i) * 65_536, i * 131_072 + 512, 4096))
        .collect();
    for (personality, commands) in [
        (Personality::ctl(), 1),
        (Personality::array(), 4),
        (Personality::lio(), 64),
    ] {
        let name = personality.name;
        let mut array = array(personality, 8 * MIB + 4096, (512, 512));
        array.verdict(array.src, array.dst);
        array.manager.clear_trace();
        let ended = array.copy(&ranges, |r| r.flags = XCOPY_REQ_NO_FALLBACK);
        offloaded(&array, &ended, 64 * 4096, name);
        assert_eq!(array.count(Kind::ExtendedCopyLid1), commands, "{name}");
    }
}

#[test]
fn what_the_granularity_leaves_goes_by_the_host() {
    // SCST: 64 KiB.
    let mut array = array(Personality::scst(), 8 * MIB, (512, 512));
    let ended = array.copy(&[range(512, 1024, 5 * 65_536 + 1536)], |_| {});
    assert_eq!(ended.done.res, 0, "{:?}", ended.done);
    assert_eq!(ended.bytes_by(XCOPY_METHOD_SCSI_XCOPY), 5 * 65_536);
    assert_eq!(ended.bytes_by(XCOPY_METHOD_READ_WRITE), 1536);
    let ended = array.copy(&[range(512, 1024, 65_536 + 512)], |r| {
        r.flags = XCOPY_REQ_NO_FALLBACK;
    });
    assert_eq!(ended.done.res, -libc::ENOTSUP, "{:?}", ended.done);
}

#[test]
fn targets_without_it_say_so() {
    let none = Personality {
        third_party: false,
        ..Personality::lio()
    };
    let short = |bytes| {
        let mut personality = Personality::lio();
        personality.copy.segment_bytes = bytes;
        personality
    };
    for (personality, reason, words) in [
        (none, XCOPY_REASON_NOT_SUPPORTED, "3PC is 0"),
        (
            Personality::windows(),
            XCOPY_REASON_NOT_SUPPORTED,
            "20h/00h",
        ),
        (short(511), XCOPY_REASON_LIMITS, "511 bytes"),
    ] {
        let array = array(personality, MIB, (512, 512));
        let found = array.verdict(array.src, array.dst);
        assert_eq!((found.0, found.1), (false, reason), "{}", found.2);
        assert!(found.2.contains(words), "{}", found.2);
    }
}

#[test]
fn two_targets_are_found_out_before_anything_is_written() {
    for personality in with_extended_copy() {
        let name = personality.name;
        let one = CopyManager::new(personality.clone());
        let two = CopyManager::new(personality);
        let mut array = Array::served(SCSI, one, two, MIB, (512, 512), |_| {});
        let (usable, _, text) = array.verdict(array.src, array.dst);
        assert!(!usable, "{name}: {text}");
        let ended = array.copy(&[range(0, 0, MIB as u64)], |_| {});
        assert_eq!(
            ended.bytes_by(XCOPY_METHOD_READ_WRITE),
            MIB as u64,
            "{name}"
        );
    }
}

fn refusal(key: u8, asc: u8, ascq: u8) -> Refusal {
    Refusal::check(key, asc, ascq)
}

#[test]
fn a_target_that_refuses_half_way() {
    for personality in with_extended_copy() {
        let name = personality.name;
        let mut array = array(personality, 24 * MIB, (512, 512));
        array.verdict(array.src, array.dst);
        let abort = Effect::Answer(refusal(0xa, 0x0d, 0x01));
        array
            .manager
            .set_fault(Kind::ExtendedCopyLid1, When::From(3), abort);
        let ended = array.copy(&[range(0, 0, 24 * MIB as u64)], |_| {});
        let done = ended.done;
        assert_eq!(done.res, 0, "{name} {done:?}");
        assert_ne!(done.flags & XCOPY_CPL_FELL_BACK, 0, "{name} {done:?}");
        let (copied, host) = (
            ended.bytes_by(XCOPY_METHOD_SCSI_XCOPY),
            ended.bytes_by(XCOPY_METHOD_READ_WRITE),
        );
        assert_eq!(copied + host, 24 * MIB as u64, "{name}");
        assert!(copied > 0 && host > 0, "{name}: {copied} and {host}");
        // The core looked at what the device said.
        assert!(ended.report.sense_len >= 8, "{name}");
        let detail = done.detail;
        assert_eq!(
            (detail >> 16 & 0xf, detail >> 20 & 0xff),
            (0xa, 0x0d),
            "{name}"
        );
    }
}

#[test]
fn an_aborted_copy_that_wrote_a_part_is_copied_again() {
    for (key, asc, ascq) in [
        (0xa, 0x0d, 0x02),
        (0xa, 0x26, 0x0d),
        (0xb, 0, 0),
        (3, 0x11, 0),
    ] {
        let mut array = array(Personality::lio(), 8 * MIB, (512, 512));
        array.verdict(array.src, array.dst);
        let part = Effect::AnswerWithin(3 * 512, refusal(key, asc, ascq));
        array
            .manager
            .set_fault(Kind::ExtendedCopyLid1, When::Nth(2), part);
        // The fixture compares every byte.
        let ended = array.copy(&[range(MIB as u64, 0, 6 * MIB as u64)], |_| {});
        assert_eq!(ended.done.res, 0, "{:?}", ended.done);
        assert_eq!(ended.done.bytes_copied, 6 * MIB as u64);
    }
}

#[test]
fn a_reservation_conflict_ends_the_request() {
    let mut array = array(Personality::array(), 8 * MIB, (512, 512));
    array.verdict(array.src, array.dst);
    let conflict = Effect::Answer(Refusal::Status(0x18));
    array
        .manager
        .set_fault(Kind::ExtendedCopyLid1, When::Always, conflict);
    let ended = array.copy(&[range(0, 0, 8 * MIB as u64)], |_| {});
    assert_eq!(
        (ended.done.res, ended.done.reason),
        (-libc::EBADE, XCOPY_REASON_RESERVED)
    );
    assert_eq!(ended.done.bytes_copied, 0);
    assert_eq!(array.count(Kind::Write), 0, "the host wrote all the same");
}

#[test]
fn transients_never_leak() {
    for personality in with_extended_copy() {
        let name = personality.name;
        let mut array = array(personality, 8 * MIB, (512, 512));
        array.verdict(array.src, array.dst);
        for (at, effect) in [
            (1, Effect::Answer(refusal(6, 0x29, 0x00))),
            (2, Effect::Answer(Refusal::Status(0x08))),
            (4, Effect::Answer(Refusal::Status(0x28))),
            (5, Effect::NexusLoss),
            (7, Effect::Answer(refusal(2, 0x04, 0x01))),
            (8, Effect::Answer(refusal(0xb, 0, 0))),
        ] {
            array
                .manager
                .set_fault(Kind::ExtendedCopyLid1, When::Nth(at), effect);
        }
        let ended = array.copy(&[range(0, 0, 8 * MIB as u64)], |r| {
            r.flags = XCOPY_REQ_NO_FALLBACK;
        });
        assert_eq!(ended.done.res, 0, "{name} {:?}", ended.done);
        offloaded(&array, &ended, 8 * MIB, name);
    }
}

#[test]
fn a_lost_status_is_no_success() {
    use copy_manager::TransportError::*;
    for error in [TimedOut, Aborted, Error, Reset, NoConnect] {
        for personality in [Personality::lio(), lid4()] {
            let mut array = array(personality, 4 * MIB, (512, 512));
            array.verdict(array.src, array.dst);
            for kind in [Kind::ExtendedCopyLid1, Kind::ExtendedCopyLid4] {
                let lost = Effect::Answer(Refusal::Transport(error));
                array.manager.set_fault(kind, When::Nth(1), lost);
            }
            let ended = array.copy(&[range(0, 0, 4 * MIB as u64)], |_| {});
            assert_eq!(ended.done.res, 0, "{error:?} {:?}", ended.done);
            assert_eq!(ended.done.bytes_copied, 4 * MIB as u64);
        }
    }
}

#[test]
fn the_stated_concurrency_is_kept_unless_the_caller_knows_better() {
    let slow = ServiceTimes {
        by_kind: [(Kind::ExtendedCopyLid1, Duration::from_millis(4))].into(),
        ..ServiceTimes::default()
    };
    for (personality, depth, least, most) in [
        (Personality::lio(), 0, 1, 1),
        (Personality::lio(), 4, 2, 4),
        (Personality::array(), 0, 2, 16),
    ] {
        let name = personality.name;
        let mut array = deep(personality, 48 * MIB, (512, 512), depth);
        array.verdict(array.src, array.dst);
        array.manager.set_service(slow.clone());
        let ended = array.copy_all();
        offloaded(&array, &ended, 48 * MIB, name);
        let seen = array.manager.most_in_service();
        assert!(
            (least..=most).contains(&seen),
            "{name}, depth {depth}: {seen} at once"
        );
    }
}

#[test]
fn durable_copies_are_flushed_and_zeroes_are_written_same() {
    let mut array = array(Personality::lio(), 4 * MIB, (512, 512));
    let ended = array.copy(&[range(0, 0, 4 * MIB as u64)], |r| {
        r.flags = XCOPY_REQ_NO_FALLBACK | XCOPY_REQ_DURABLE;
    });
    assert_eq!(ended.done.res, 0, "{:?}", ended.done);
    assert_eq!(array.count(Kind::SynchronizeCache), 1);
    // A flush that fails leaves nothing that is known to be there.
    let broken = Effect::Answer(refusal(3, 0x0C, 0));
    array
        .manager
        .set_fault(Kind::SynchronizeCache, When::Always, broken);
    let ended = array.copy(&[range(0, 0, 4 * MIB as u64)], |r| {
        r.flags = XCOPY_REQ_NO_FALLBACK | XCOPY_REQ_DURABLE;
    });
    assert!(ended.done.res < 0, "{:?}", ended.done);
    assert_eq!(ended.done.bytes_done, 0, "{:?}", ended.done);
    let told = XCOPY_CPL_INDETERMINATE | XCOPY_CPL_ERR_ON_WRITE;
    assert_eq!(ended.done.flags & told, told, "{:?}", ended.done);
    array.manager.clear_faults();
    let zero = xcopy_request {
        dst_offset: 512,
        ..array.token_request(XCOPY_OP_ZERO, 0, array.dst, MIB as u64)
    };
    let done = array.run(&zero);
    assert_eq!((done.res, done.bytes_done), (0, MIB as u64), "{done:?}");
    assert!(array.count(Kind::WriteSame) > 0);
    let target = array.target();
    assert!(target[512..512 + MIB].iter().all(|b| *b == 0));
    assert_eq!(target[..512], array.a[..512]);
    // A target that does not know WRITE SAME gets zeroes.
    let unknown = Effect::Answer(refusal(5, 0x20, 0));
    array
        .manager
        .set_fault(Kind::WriteSame, When::Always, unknown);
    let done = array.run(&xcopy_request {
        dst_offset: 2 * MIB as u64,
        ..zero
    });
    assert_eq!((done.res, done.bytes_done), (0, MIB as u64), "{done:?}");
    assert!(array.target()[2 * MIB..3 * MIB].iter().all(|b| *b == 0));
}

#[test]
fn a_liar_is_found_out_by_its_bytes_only() {
    let mut array = array(Personality::liar(), MIB, (512, 512));
    let request = xcopy_ctests::rig::copy(9, array.src, array.dst, range(0, 0, MIB as u64));
    let done = array.run(&request);
    assert_eq!(
        (done.res, done.bytes_offloaded),
        (0, MIB as u64),
        "{done:?}"
    );
    assert_ne!(array.target(), array.a, "it wrote something: no liar");
    let _ = &mut array;
}

#[test]
fn what_was_found_out_is_shown() {
    let array = array(Personality::ctl(), MIB, (512, 4096));
    let text = array.rig.describe(array.dst);
    for line in [
        "scsi: vendor: FREEBSD",
        "scsi: block size: 4096",
        "scsi: copy manager (3PC): yes",
        "scsi: copy segments: 64",
        "scsi: copied as: NAA 6001405f000000000000000000000002",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
    assert!(text.contains("EXTENDED COPY(LID1)"), "{text}");
    assert!(text.contains("POPULATE TOKEN"), "{text}");
}

/// A copy whose end is neither told nor known to be none: whoever writes its range now
/// may be overwritten.
fn without_an_end(status: Effect) {
    use copy_manager::TransportError::TimedOut;
    let array = array(lid4(), 4 * MIB, (512, 512));
    array.verdict(array.src, array.dst);
    let lost = Effect::AnswerAfter(Refusal::Transport(TimedOut));
    let manager = &array.manager;
    manager.set_fault(Kind::ExtendedCopyLid4, When::Nth(1), lost);
    manager.set_fault(Kind::CopyStatusLid4, When::Always, status.clone());
    let refused = Effect::Answer(Refusal::check(0x5, 0x20, 0x00));
    manager.set_fault(Kind::CopyOperationAbort, When::Always, refused);
    let request = xcopy_ctests::rig::copy(5, array.src, array.dst, range(0, 0, 4 * MIB as u64));
    assert_eq!(array.rig.submit(&request), 1);
    let done = array.rig.poll(1, 1, 120_000_000_000);
    assert_eq!(done.len(), 1, "{status:?}");
    let wanted = XCOPY_CPL_UNSETTLED | XCOPY_CPL_INDETERMINATE;
    assert!(done[0].res < 0, "{status:?} {done:?}");
    assert_eq!(done[0].flags & wanted, wanted, "{status:?} {done:?}");
    assert_eq!(
        array.count(Kind::Write),
        0,
        "{status:?}: the host wrote too"
    );
}

#[test]
fn a_copy_that_does_not_end_is_not_called_settled() {
    use copy_manager::TransportError::TimedOut;
    // Side by side: each takes as long as the plugin asks.
    std::thread::scope(|scope| {
        scope.spawn(|| without_an_end(Effect::NeverEnds));
        scope.spawn(|| without_an_end(Effect::Answer(Refusal::Transport(TimedOut))));
    });
}
