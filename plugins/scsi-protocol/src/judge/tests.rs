//! Every row of the table, provoked by sense data in both formats.

use super::*;
use crate::transport::{BUSY, CHECK_CONDITION, RESERVATION_CONFLICT, TASK_ABORTED, TASK_SET_FULL};
use crate::wire::sense::*;

fn fixed(key: u8, asc: u8, ascq: u8) -> Vec<u8> {
    let mut bytes = vec![0; 18];
    bytes[0] = 0x70;
    bytes[2] = key;
    bytes[7] = 10;
    bytes[12] = asc;
    bytes[13] = ascq;
    bytes
}

fn check(sense: Vec<u8>) -> Outcome {
    Outcome {
        status: CHECK_CONDITION,
        sense,
        ..Outcome::default()
    }
}

fn judged(key: u8, asc: u8, ascq: u8, purpose: Purpose) -> Judgement {
    let one = judge(&check(fixed(key, asc, ascq)), purpose).expect("a failure");
    let other = judge(&check(vec![0x72, key, asc, ascq, 0, 0, 0, 0]), purpose).expect("a failure");
    assert_eq!((one.action, one.errno), (other.action, other.errno));
    assert_eq!(one.detail, other.detail);
    one
}

#[test]
fn what_the_table_of_the_reference_says() {
    use Action::*;
    use Purpose::*;
    let illegal = ILLEGAL_REQUEST;
    let rows = [
        (illegal, 0x20, 0x00, Copy, NextMethodForGood),
        (illegal, 0x24, 0x00, Copy, NextMethodForGood),
        (illegal, 0x24, 0x00, CopyStatus, Recopy),
        (illegal, 0x00, 0x16, Copy, OtherListId),
        (COPY_ABORTED, 0x0d, 0x00, Copy, NextMethod),
        (COPY_ABORTED, 0x0d, 0x01, Copy, NextMethod),
        (COPY_ABORTED, 0x0d, 0x02, Copy, OtherDesignator),
        (illegal, 0x0d, 0x02, Copy, OtherDesignator),
        (COPY_ABORTED, 0x08, 0x04, Copy, OtherDesignator),
        (COPY_ABORTED, 0x0d, 0x03, Copy, NextMethodForGood),
        (COPY_ABORTED, 0x0d, 0x04, Copy, Fatal),
        (COPY_ABORTED, 0x0d, 0x05, Copy, Fatal),
        (illegal, 0x1a, 0x00, Copy, NextMethod),
        (illegal, 0x26, 0x00, Copy, NextMethod),
        (illegal, 0x26, 0x06, Copy, Split),
        (illegal, 0x26, 0x08, Copy, Split),
        (illegal, 0x26, 0x07, Copy, OtherDesignator),
        (COPY_ABORTED, 0x26, 0x09, Copy, NextMethodForGood),
        (COPY_ABORTED, 0x26, 0x0a, Copy, NextMethod),
        (illegal, 0x26, 0x0b, Copy, Fatal),
        (COPY_ABORTED, 0x26, 0x0c, Copy, NextMethod),
        (COPY_ABORTED, 0x26, 0x0d, Copy, NextMethod),
        (illegal, 0x26, 0x15, Copy, NextMethodForGood),
        (illegal, 0x23, 0x00, Copy, RecreateToken),
        (illegal, 0x23, 0x01, Copy, NextMethod),
        (illegal, 0x23, 0x02, Copy, NextMethodForGood),
        (illegal, 0x23, 0x03, Copy, NextMethodForGood),
        (illegal, 0x23, 0x04, Copy, RecreateToken),
        (illegal, 0x23, 0x06, Copy, RecreateToken),
        (illegal, 0x23, 0x07, Copy, RecreateToken),
        (illegal, 0x23, 0x08, Copy, RecreateToken),
        (illegal, 0x23, 0x09, Copy, RecreateToken),
        (illegal, 0x23, 0x05, Copy, Fatal),
        (illegal, 0x23, 0x0a, Copy, Fatal),
        (illegal, 0x55, 0x0c, Copy, BackOff),
        (illegal, 0x55, 0x0d, Copy, BackOff),
        (illegal, 0x55, 0x03, Copy, BackOff),
        (DATA_PROTECT, 0x27, 0x07, Copy, Fatal),
        (DATA_PROTECT, 0x27, 0x00, Copy, Fatal),
        (illegal, 0x21, 0x00, Copy, Fatal),
        (UNIT_ATTENTION, 0x29, 0x00, Copy, Reidentify),
        (UNIT_ATTENTION, 0x2a, 0x03, Copy, Reidentify),
        (UNIT_ATTENTION, 0x3f, 0x0e, Copy, Reidentify),
        (UNIT_ATTENTION, 0x77, 0x77, Io, Reidentify),
        (NOT_READY, 0x04, 0x01, Copy, Retry),
        (NOT_READY, 0x08, 0x00, Copy, Retry),
        (NOT_READY, 0x77, 0x00, Io, Retry),
        (ABORTED_COMMAND, 0x00, 0x00, Io, Retry),
        (COPY_ABORTED, 0x77, 0x00, Copy, NextMethod),
        (MEDIUM_ERROR, 0x11, 0x00, Copy, NextMethod),
        (MEDIUM_ERROR, 0x11, 0x00, Io, Fatal),
        (HARDWARE_ERROR, 0x44, 0x00, Copy, NextMethod),
        (HARDWARE_ERROR, 0x44, 0x00, Io, Fatal),
        (ABORTED_COMMAND, 0x10, 0x01, Io, Fatal),
        (illegal, 0x25, 0x00, Io, Fatal),
        (NOT_READY, 0x3a, 0x00, Io, Fatal),
        (MISCOMPARE, 0x77, 0x00, Copy, NextMethod),
        (MISCOMPARE, 0x77, 0x00, Io, Fatal),
    ];
    for (key, asc, ascq, purpose, action) in rows {
        let found = judged(key, asc, ascq, purpose);
        let name = format!("{key:X}h {asc:02X}h/{ascq:02X}h for {purpose:?}");
        assert_eq!(found.action, action, "{name}");
        assert!(
            !found.text.is_empty() && found.errno > 0 && found.reason > 0,
            "{name}"
        );
    }
}

#[test]
fn no_row_stands_in_the_shadow_of_another() {
    for (at, rule) in TABLE.iter().enumerate() {
        let provoked = (0..16u8).any(|key| {
            let ascqs: Vec<u8> = match rule.ascqs {
                [] => (0..=255).collect(),
                some => some.to_vec(),
            };
            let asc = rule.asc.unwrap_or(0x99);
            ascqs.iter().any(|ascq| {
                [
                    Purpose::Copy,
                    Purpose::CopyStatus,
                    Purpose::Io,
                    Purpose::Query,
                ]
                .into_iter()
                .any(|purpose| {
                    let first = TABLE
                        .iter()
                        .position(|r| r.is_for(purpose) && r.matches(key, asc, *ascq));
                    first == Some(at)
                })
            })
        });
        assert!(provoked, "row {at}: {}", rule.text);
    }
}

#[test]
fn a_destination_is_called_untouched_only_where_nothing_can_have_been_written() {
    for (key, asc, ascq, untouched) in [
        (UNIT_ATTENTION, 0x29, 0x00, true),
        (ILLEGAL_REQUEST, 0x20, 0x00, true),
        (ILLEGAL_REQUEST, 0x26, 0x07, true),
        (ILLEGAL_REQUEST, 0x26, 0x00, false),
        (ILLEGAL_REQUEST, 0x0d, 0x02, false),
        (COPY_ABORTED, 0x0d, 0x02, false),
        (COPY_ABORTED, 0x77, 0x00, false),
        (ABORTED_COMMAND, 0x00, 0x00, false),
        (DATA_PROTECT, 0x27, 0x07, false),
    ] {
        let found = judged(key, asc, ascq, Purpose::Copy);
        assert_eq!(
            found.untouched, untouched,
            "{key:X}h {asc:02X}h/{ascq:02X}h"
        );
    }
}

#[test]
fn statuses_without_sense_data() {
    let status = |status: u8| {
        let outcome = Outcome {
            status,
            ..Outcome::default()
        };
        let found = judge(&outcome, Purpose::Copy).expect("a failure");
        assert_eq!(found.detail & 0xff, u64::from(status));
        (found.action, found.errno, found.reason)
    };
    let conflict = (Action::Fatal, errno::EBADE, XCOPY_REASON_RESERVED);
    assert_eq!(status(RESERVATION_CONFLICT), conflict);
    assert_eq!(status(BUSY).0, Action::Retry);
    assert_eq!(status(TASK_SET_FULL).0, Action::Retry);
    assert_eq!(status(TASK_ABORTED).0, Action::Recopy);
    assert_eq!(status(CHECK_CONDITION).0, Action::NextMethod);
    assert_eq!(judge(&Outcome::default(), Purpose::Copy), None);
    // RECOVERED ERROR is a success.
    assert_eq!(judge(&check(fixed(1, 0x17, 0)), Purpose::Copy), None);
}

#[test]
fn a_host_status_is_never_a_success() {
    for host_status in 1..=0x20 {
        for status in [0, CHECK_CONDITION] {
            let outcome = Outcome {
                status,
                host_status,
                sense: fixed(1, 0, 0),
                ..Outcome::default()
            };
            let found = judge(&outcome, Purpose::Copy).expect("a failure");
            assert!(!found.untouched, "{host_status:#x}");
            assert_eq!(found.detail >> 8 & 0xff, u64::from(host_status));
        }
    }
    let timed_out = Outcome {
        host_status: DID_TIME_OUT,
        ..Outcome::default()
    };
    let found = judge(&timed_out, Purpose::Copy).expect("a failure");
    assert_eq!(
        (found.action, found.errno),
        (Action::Recopy, errno::ETIMEDOUT)
    );
}

#[test]
fn what_source_or_destination_said_decides() {
    let forward = |side: u8, status: u8, sense: &[u8]| {
        let mut bytes = vec![0x72, COPY_ABORTED, 0x0d, 0x01, 0, 0, 0, 0];
        bytes.extend([0x0c, 2 + sense.len() as u8, side, status]);
        bytes.extend(sense);
        bytes[7] = bytes.len() as u8 - 8;
        judge(&check(bytes), Purpose::Copy).expect("a failure")
    };
    let reserved = forward(2, RESERVATION_CONFLICT, &[]);
    assert_eq!(
        (reserved.action, reserved.side),
        (Action::Fatal, Side::Destination)
    );
    assert!(!reserved.untouched);
    let protected = forward(2, 2, &[0x72, DATA_PROTECT, 0x27, 0, 0, 0, 0, 0]);
    assert_eq!(
        (protected.action, protected.errno),
        (Action::Fatal, errno::EROFS)
    );
    let attention = forward(1, 2, &[0x72, UNIT_ATTENTION, 0x29, 0, 0, 0, 0, 0]);
    assert_eq!(
        (attention.action, attention.side),
        (Action::Reidentify, Side::Source)
    );
    let medium = forward(1, 2, &fixed(MEDIUM_ERROR, 0x11, 0));
    assert_eq!(
        (medium.action, medium.side),
        (Action::NextMethod, Side::Source)
    );
}

#[test]
fn details_are_packed_as_the_interface_says() {
    let mut sense = vec![0x72, COPY_ABORTED, 0x26, 0x0d, 0, 0, 0, 12];
    sense.extend([0x01, 0x0a, 0, 0, 0, 0, 0x12, 0x34, 0, 0, 0, 0]);
    let found = judge(&check(sense), Purpose::Copy).expect("a failure");
    let expected = 2 << 60 | 0x1234 << 36 | 0x0d << 28 | 0x26 << 20 | 0xa << 16 | 2;
    assert_eq!(found.detail, expected);
    assert!(
        found.words().contains("(sense Ah 26h/0Dh)"),
        "{}",
        found.words()
    );
}

#[test]
fn errors_of_the_way() {
    let of = |number| judge_error(&io::Error::from_raw_os_error(number), Purpose::Copy);
    assert_eq!(of(errno::EPERM).reason, XCOPY_REASON_PERMISSION);
    assert!(of(errno::EPERM).text.contains("CAP_SYS_RAWIO"));
    assert_eq!(of(errno::ENODEV).action, Action::Fatal);
    assert_eq!(of(errno::EINTR).action, Action::Retry);
    assert_eq!(of(errno::EIO).action, Action::NextMethod);
    assert!(of(errno::EPERM).untouched && !of(errno::EIO).untouched);
}
