//! Copies that fail, and what follows.

use super::rig::*;
use crate::pair::Form;
use proptest::prelude::*;
use xcopy_plugin_sdk::abi::*;
use xcopy_scsi_protocol::Outcome;

const MIB: u64 = 1 << 20;

/// What the core is told of a failure.
fn told(failure: &xcopy_plugin_sdk::Failure) -> String {
    format!("{failure:?}")
}

#[test]
fn blocks_of_the_right_place() {
    let rig = Rig::lio();
    let pair = rig.pair();
    rig.copy(&pair, &[range(MIB, 3 * MIB, 2 * MIB)])
        .expect("copied");
    let list = rig.lists().remove(0);
    // Source 0, destination 1; 1000h blocks from 800h to 1800h.
    let expected = [
        0x02, 0, 0, 0x18, 0, 0, 0, 1, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0x08, 0, 0, 0, 0, 0, 0, 0,
        0x18, 0,
    ];
    assert_eq!(list[80..], expected);
    assert_eq!(list[16 + 23], 1);
    assert_eq!(list[48 + 23], 2);
}

#[test]
fn what_does_not_fit_is_not_sent() {
    let rig = Rig::lio();
    let pair = rig.pair();
    for ranges in [
        vec![range(0, 0, 513)],
        vec![range(1, 0, 512)],
        vec![range(0, 1, 512)],
        vec![range(0, 0, 512), range(512, 512, 512)],
        vec![range(0, (1 << 29) - 512, 1024)],
        vec![range(u64::MAX - 511, 0, 512)],
        vec![range(0, 0, 64 * MIB)],
    ] {
        let failure = rig.copy(&pair, &ranges).expect_err("does not fit");
        assert!(told(&failure).contains("do not fit"), "{ranges:?}");
    }
    assert!(rig.lists().is_empty());
}

#[test]
fn the_table_reaches_the_core() {
    // Sense, and what the core is told: action, errno, reason.
    let (retry, split) = (XCOPY_ACTION_RETRY, XCOPY_ACTION_SPLIT);
    let (next, fatal) = (XCOPY_ACTION_NEXT_METHOD, XCOPY_ACTION_FATAL);
    let rows = [
        ((0xa, 0x0d, 0x01), next),
        ((0xa, 0x0d, 0x02), next),
        ((0xa, 0x0d, 0x04), fatal),
        ((0xa, 0x26, 0x0d), next),
        ((5, 0x26, 0x08), split),
        ((5, 0x26, 0x06), split),
        ((5, 0x21, 0x00), fatal),
        ((7, 0x27, 0x00), fatal),
        ((7, 0x27, 0x07), fatal),
        ((5, 0x55, 0x0c), retry),
        ((2, 0x04, 0x01), retry),
        ((0xb, 0x00, 0x00), retry),
        ((3, 0x11, 0x00), next),
        ((4, 0x44, 0x00), next),
    ];
    for ((key, asc, ascq), action) in rows {
        let rig = Rig::lio();
        let pair = rig.pair();
        rig.end(check(key, asc, ascq));
        if (asc, ascq) == (0x0d, 0x02) {
            // It is given again once.
            rig.end(check(key, asc, ascq));
        }
        let failure = rig.copy(&pair, &[range(0, 0, MIB)]).expect_err("failed");
        let told = told(&failure);
        assert!(
            told.contains(&format!("action: {action},")),
            "{key:X} {asc:02X}/{ascq:02X}: {told}"
        );
        assert!(told.contains("known: 0"), "{told}");
        assert!(
            told.contains(&format!("sense: [114, {key}, {asc}, {ascq}")),
            "{told}"
        );
    }
}

#[test]
fn a_reservation_in_mid_copy_is_fatal_too() {
    let rig = Rig::lio();
    let pair = rig.pair();
    // As LIO says it: of the copy under way, and of the next.
    rig.end(check(0xa, 0x0d, 0x02));
    rig.end(Outcome {
        status: 0x18,
        ..Outcome::default()
    });
    let failure = rig.copy(&pair, &[range(0, 0, MIB)]).expect_err("refused");
    let told = told(&failure);
    for words in [
        format!("action: {XCOPY_ACTION_FATAL},"),
        format!("reason: {XCOPY_REASON_RESERVED},"),
    ] {
        assert!(told.contains(&words), "{told}");
    }
    assert_eq!(rig.lists().len(), 2);
    // What passes is copied then.
    rig.end(check(0xa, 0x0d, 0x02));
    rig.copy(&pair, &[range(0, 0, MIB)]).expect("copied again");
}

#[test]
fn a_reservation_conflict_is_fatal() {
    let rig = Rig::lio();
    let pair = rig.pair();
    rig.end(Outcome {
        status: 0x18,
        ..Outcome::default()
    });
    let failure = rig.copy(&pair, &[range(0, 0, MIB)]).expect_err("refused");
    let told = told(&failure);
    assert!(
        told.contains(&format!("action: {XCOPY_ACTION_FATAL},")),
        "{told}"
    );
    assert!(
        told.contains(&format!("reason: {XCOPY_REASON_RESERVED},")),
        "{told}"
    );
    assert!(told.contains("errno: 52,"), "{told}");
}

#[test]
fn a_unit_that_became_another_is_never_written() {
    let rig = Rig::lio();
    let pair = rig.pair();
    rig.to.face.lock().expect("no panic").names = names(7);
    rig.end(check(6, 0x3f, 0x0e));
    let failure = rig.copy(&pair, &[range(0, 0, MIB)]).expect_err("refused");
    let told = told(&failure);
    assert!(told.contains("another logical unit"), "{told}");
    assert!(
        told.contains(&format!("action: {XCOPY_ACTION_FATAL},")),
        "{told}"
    );
    // The first was refused as a unit attention, and none came after it.
    assert_eq!(rig.lists().len(), 1);
    // Nor does the next copy get through.
    rig.copy(&pair, &[range(0, 0, MIB)]).expect_err("refused");
    assert_eq!(rig.lists().len(), 1);
}

#[test]
fn the_source_is_verified_too() {
    let rig = Rig::lio();
    let pair = rig.pair();
    rig.from.face.lock().expect("no panic").names = names(7);
    // COPY ABORTED with the source's unit attention sent on.
    let mut sense = vec![0x72, 0xa, 0x0d, 0x01, 0, 0, 0, 12, 0x0c, 10, 1, 2];
    sense.extend([0x72, 6, 0x29, 0, 0, 0, 0, 0]);
    rig.end(Outcome {
        status: 2,
        sense,
        ..Outcome::default()
    });
    let failure = rig.copy(&pair, &[range(0, 0, MIB)]).expect_err("refused");
    assert!(told(&failure).contains("another logical unit"));
}

#[test]
fn a_unit_attention_of_the_same_unit_is_forgiven() {
    let rig = Rig::lio();
    let pair = rig.pair();
    rig.end(check(6, 0x29, 0x00));
    rig.copy(&pair, &[range(0, 0, MIB)]).expect("copied");
    assert_eq!(rig.lists().len(), 2);
}

#[test]
fn a_busy_list_identifier_is_replaced() {
    let rig = Rig::lio();
    rig.end(check(5, 0x26, 0x00));
    let pair = rig.pair();
    rig.end(check(5, 0x00, 0x16));
    rig.end(check(5, 0x00, 0x16));
    rig.copy(&pair, &[range(0, 0, MIB)]).expect("copied");
    let ids: Vec<u8> = rig.lists().iter().map(|list| list[0]).collect();
    assert!(ids.iter().all(|id| *id != 0), "{ids:?}");
    assert_eq!(ids.len(), 3);
    // For ever: bounded.
    for _ in 0..100 {
        rig.end(check(5, 0x00, 0x16));
    }
    let failure = rig.copy(&pair, &[range(0, 0, MIB)]).expect_err("busy");
    assert!(told(&failure).contains(&format!("action: {XCOPY_ACTION_RETRY},")));
    assert!(rig.lists().len() < 25);
}

#[test]
fn unequal_blocks_that_are_never_ready() {
    // LIO: NOT READY 08h/00h, which must not be retried for ever.
    let large = Face {
        block_size: 4096,
        ..Face::lio(2)
    };
    let rig = Rig::new(Face::lio(1), large);
    rig.end(check(2, 0x08, 0x00));
    rig.from
        .ends
        .lock()
        .expect("no panic")
        .push_back(Ok(check(2, 0x08, 0x00)));
    let refusal = rig.judge().expect_err("not usable");
    assert_eq!(refusal.why(), XCOPY_REASON_BLOCK_SIZE);
}

#[test]
fn a_lost_lid4_copy_is_ended_before_it_is_given_up() {
    let page = vec![0, 1, 0, 9, 8, 0x83, 2, 0x01, 0x1c, 0x84, 2, 0x03, 0x05];
    let face = |n| Face {
        page_8f: Some(page.clone()),
        ..Face::lio(n)
    };
    let rig = Rig::new(face(1), face(2));
    let pair = rig.pair();
    assert_eq!(pair.form, Form::Lid4);
    rig.end(Outcome {
        host_status: 3,
        ..Outcome::default()
    });
    let status = |code: u8| {
        let mut bytes = vec![0, 0, 0, 28, 1, code, 0, 1, 0, 0, 0, 10];
        bytes.resize(32, 0);
        bytes
    };
    rig.to
        .statuses
        .lock()
        .expect("no panic")
        .extend([status(0x11), status(0x60)]);
    let failure = rig.copy(&pair, &[range(0, 0, MIB)]).expect_err("lost");
    assert!(told(&failure).contains("errno: 110,"), "{}", told(&failure));
    let sent = rig.to.sent.lock().expect("no panic").clone();
    let [(_, copy), (abort, _)] = sent.as_slice() else {
        panic!("{sent:?}");
    };
    assert_eq!(abort[..2], [0x83, 0x1c]);
    assert_eq!(abort[2..6], copy[20..24], "the same identifier");
    assert!(rig.to.statuses.lock().expect("no panic").is_empty());
}

proptest! {
    #[test]
    fn no_answer_of_a_target_is_a_success_that_is_none(
        status in 1u8..=255, host_status in 0u32..32, sense in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let rig = Rig::lio();
        let pair = rig.pair();
        let outcome = Outcome { status, host_status, sense: sense.clone(), ..Outcome::default() };
        let good = outcome.is_good();
        for _ in 0..40 {
            rig.end(outcome.clone());
        }
        let ended = rig.copy(&pair, &[range(0, 0, MIB)]);
        prop_assert_eq!(ended.is_ok(), good);
        prop_assert!(rig.lists().len() < 30);
        // Good without GOOD: only RECOVERED ERROR and NO SENSE.
        let recovered = sense.get(match sense.first().map(|b| b & 0x7f) {
            Some(0x70) => 2,
            _ => 1,
        }).is_some_and(|b| b & 0xf <= 1);
        prop_assert!(!good || (status & 0x7e == 0 || recovered) && host_status == 0);
    }
}
