//! Discovery, the trial, and the verdict.

use super::rig::*;
use crate::pair::{Form, Manager};
use xcopy_plugin_sdk::abi::*;

/// Reason and words of a refusal.
fn refusal(rig: &Rig) -> (u16, String) {
    let refusal = rig.judge().expect_err("not usable");
    let shown = format!("{refusal:?}");
    (refusal.why(), shown)
}

#[test]
fn the_trial_copies_no_blocks() {
    let rig = Rig::lio();
    let pair = rig.judge().expect("usable");
    assert_eq!(
        (pair.manager, pair.form),
        (Manager::Destination, Form::Lid1)
    );
    assert!(pair.is_proven());
    let lists = rig.lists();
    let [list] = lists.as_slice() else {
        panic!("{lists:?}");
    };
    // Usage 11b, identifier 0; the segment at 80 with 0 blocks.
    assert_eq!(list[..2], [0x00, 0x18]);
    assert_eq!(list[80..92], [0x02, 0, 0, 0x18, 0, 0, 0, 1, 0, 0, 0, 0]);
    assert!(rig.from.sent.lock().expect("no panic").is_empty());
}

#[test]
fn without_a_copy_manager() {
    let none = |n| Face {
        third_party: false,
        ..Face::lio(n)
    };
    let rig = Rig::new(none(1), none(2));
    let (reason, text) = refusal(&rig);
    assert_eq!(reason, XCOPY_REASON_NOT_SUPPORTED);
    assert!(text.contains("3PC"), "{text}");
    assert!(rig.lists().is_empty());
    // The source's pushes, if only that is there.
    let rig = Rig::new(Face::lio(1), none(2));
    let pair = rig.judge().expect("usable");
    assert_eq!(pair.manager, Manager::Source);
    assert!(rig.lists().is_empty());
    assert_eq!(rig.from.sent.lock().expect("no panic").len(), 1);
}

#[test]
fn without_a_name() {
    let rig = Rig::new(
        Face {
            names: Vec::new(),
            ..Face::lio(1)
        },
        Face::lio(2),
    );
    let (_, text) = refusal(&rig);
    assert!(text.contains("83h"), "{text}");
}

#[test]
fn without_limits() {
    let mute = |n| Face {
        operating: None,
        ..Face::lio(n)
    };
    let (_, text) = refusal(&Rig::new(mute(1), mute(2)));
    assert!(text.contains("does not say what it can copy"), "{text}");
    let absurd = |n| Face {
        operating: Some((2, 1, 1024, 511, 9, 1, true)),
        ..Face::lio(n)
    };
    let (reason, text) = refusal(&Rig::new(absurd(1), absurd(2)));
    assert_eq!(reason, XCOPY_REASON_LIMITS);
    assert!(text.contains("511 bytes"), "{text}");
}

#[test]
fn a_target_that_wants_an_identifier() {
    let rig = Rig::lio();
    rig.end(check(5, 0x26, 0x00));
    let pair = rig.judge().expect("usable");
    assert!(pair.is_identified());
    let lists = rig.lists();
    assert_eq!(lists[0][..2], [0x00, 0x18]);
    assert!(lists[1][0] != 0 && lists[1][1] == 0x10, "{lists:?}");
}

#[test]
fn a_target_that_says_it_wants_one() {
    let rig = Rig::new(
        Face::lio(1),
        Face {
            operating: Some((2, 1, 1024, 0, 9, 1, false)),
            ..Face::lio(2)
        },
    );
    assert!(rig.judge().expect("usable").is_identified());
    assert_eq!(rig.lists()[0][1], 0x10);
}

#[test]
fn names_are_tried_in_their_order() {
    let rig = Rig::lio();
    rig.end(check(5, 0x26, 0x07));
    rig.end(check(0xa, 0x0d, 0x02));
    rig.judge().expect("usable");
    let kinds: Vec<_> = rig.lists().iter().map(|l| (l[21], l[53])).collect();
    // NAA (3) to NAA, T10 (1) to T10, then mixed.
    assert_eq!(kinds, [(3, 3), (1, 1), (3, 1)]);
    // None is left: the pair is refused by the last one's reason.
    let rig = Rig::lio();
    for _ in 0..4 {
        rig.end(check(0xa, 0x0d, 0x02));
        rig.from
            .ends
            .lock()
            .expect("no panic")
            .push_back(Ok(check(0xa, 0x0d, 0x02)));
    }
    let (reason, text) = refusal(&rig);
    assert_eq!(reason, XCOPY_REASON_CROSS_DEVICE);
    assert!(text.contains("0Dh/02h"), "{text}");
}

#[test]
fn a_unit_attention_is_normal() {
    let rig = Rig::lio();
    rig.end(check(6, 0x29, 0x00));
    rig.end(check(6, 0x2a, 0x01));
    assert!(rig.judge().is_ok());
    assert_eq!(rig.lists().len(), 3);
    assert!(!rig.dst.needs_verification() && !rig.src.needs_verification());
}

#[test]
fn permission_is_said_in_words() {
    let rig = Rig::lio();
    let error = std::io::Error::from_raw_os_error(1);
    rig.to.ends.lock().expect("no panic").push_back(Err(error));
    let error = std::io::Error::from_raw_os_error(1);
    rig.from
        .ends
        .lock()
        .expect("no panic")
        .push_back(Err(error));
    let (reason, text) = refusal(&rig);
    assert_eq!(reason, XCOPY_REASON_PERMISSION);
    assert!(text.contains("CAP_SYS_RAWIO"), "{text}");
}

#[test]
fn a_reservation_is_left_to_the_copy() {
    let rig = Rig::lio();
    rig.end(xcopy_scsi_protocol::Outcome {
        status: 0x18,
        ..Default::default()
    });
    let pair = rig.judge().expect("usable");
    assert!(!pair.is_proven());
}

/// VPD page 8Fh: the commands of 83h and 84h.
fn commands(out: &[u8]) -> Vec<u8> {
    let mut list = vec![0x83, out.len() as u8];
    list.extend(out);
    list.extend([0x84, 2, 0x03, 0x05]);
    let mut page = vec![0, 1, 0, list.len() as u8 + 1, list.len() as u8];
    page.extend(list);
    page
}

#[test]
fn lid4_where_there_is_no_lid1() {
    let only = |n| Face {
        page_8f: Some(commands(&[0x01, 0x1c])),
        ..Face::lio(n)
    };
    let rig = Rig::new(only(1), only(2));
    let pair = rig.judge().expect("usable");
    assert_eq!(pair.form, Form::Lid4);
    let sent = rig.to.sent.lock().expect("no panic").clone();
    assert_eq!((sent[0].0[0], sent[0].0[1]), (0x83, 0x01));
    // Format 01h, usage 10b, an identifier.
    assert_eq!(sent[0].1[..2], [0x01, 0x10]);
    assert_ne!(sent[0].1[20..24], [0; 4]);
    // Both listed, and LID1 refused all the same.
    let both = |n| Face {
        page_8f: Some(commands(&[0x00, 0x01, 0x1c])),
        ..Face::lio(n)
    };
    let rig = Rig::new(both(1), both(2));
    rig.end(check(5, 0x20, 0x00));
    assert_eq!(rig.judge().expect("usable").form, Form::Lid4);
}

#[test]
fn a_copy_manager_that_refuses_a_copy_of_nothing_may_still_copy() {
    let rig = Rig::lio();
    // The pair without and with an identifier, then the unit within itself.
    for _ in 0..3 {
        rig.end(check(5, 0x26, 0x00));
    }
    assert!(!rig.judge().expect("usable").is_proven());
    let lists = rig.lists();
    assert_eq!(lists.len(), 3);
    let name_of = |list: &[u8], at: usize| list[at + 4..at + 32].to_vec();
    assert_ne!(name_of(&lists[1], 16), name_of(&lists[1], 48));
    assert_eq!(name_of(&lists[2], 16), name_of(&lists[1], 48));
    assert_eq!(name_of(&lists[2], 48), name_of(&lists[1], 48));
    // No blocks, ever.
    assert!(lists.iter().all(|list| list[90..92] == [0, 0]));
}

#[test]
fn one_that_copies_nothing_within_itself_does_not_know_the_other_unit() {
    let rig = Rig::lio();
    for unit in [&rig.to, &rig.from] {
        let mut ends = unit.ends.lock().expect("no panic");
        ends.extend([Ok(check(5, 0x26, 0x00)), Ok(check(5, 0x26, 0x00))]);
    }
    let (_, text) = refusal(&rig);
    assert!(text.contains("26h/00h"), "{text}");
}
