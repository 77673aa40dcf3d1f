//! EXTENDED COPY (LID4), RECEIVE COPY STATUS (LID4), COPY OPERATION ABORT.

use copy_manager::{Effect, Kind, Personality, Refusal, When};

use crate::lid1::{blocks, naa_cscd};
use crate::rig::{Rig, hex, stamp};

/// SPC-4 6.4.3.2: format 01h, header CSCD list 0020h of type FFh, IMMED in byte
/// 15, list identifier in 20 to 23, lengths in 42 to 47.
fn list(immed: bool, id: u32, cscds: &[String], segments: &[String]) -> Vec<u8> {
    let (cscds, segments) = (hex(&cscds.concat()), hex(&segments.concat()));
    let mut out = hex("01 00 0020 0000000000000000000000");
    out.extend([u8::from(immed), 0xFF, 0, 0, 0]);
    out.extend(id.to_be_bytes());
    out.extend([0; 18]);
    out.extend((cscds.len() as u16).to_be_bytes());
    out.extend((segments.len() as u16).to_be_bytes());
    out.extend([0, 0]);
    out.extend(cscds);
    out.extend(segments);
    out
}

fn cdb(list: &[u8]) -> String {
    format!("83 01 00000000 00000000 {:08x} 00 00", list.len())
}

const STATUS: &str = "84 05 0a0b0c0d 00 00 00 00 00 00 01 00 00 00";
const ABORT: &str = "83 1c 0a0b0c0d 00 00 00 00 00 00 00 00 00 00";
const ID: u32 = 0x0A0B_0C0D;

#[test]
fn one_segment_by_hand() {
    let bytes = hex("01 00 0020 00000000 00000000 000000 00 ff 000000 0a0b0c0d \
         00000000 00000000 00000000 00000000 0000 0040 001c 0000 \
         e4 00 0000 01 03 00 10 6001405f0000000000000c0ffee00000 00000000 00 000200 \
         e4 00 0000 01 03 00 10 6001405f0000000000000c0ffee00001 00000000 00 000200 \
         02 00 0018 0000 0001 0000 0010 0000000000000100 0000000000000200");
    assert_eq!(bytes.len(), 48 + 64 + 28);
    for personality in [Personality::ctl(), Personality::array()] {
        let ctl = personality.name == "ctl";
        let rig = Rig::new(personality);
        rig.data(1, "83 01 00 00 00 00 00 00 00 00 00 00 00 8c 00 00", &bytes);
        assert_eq!(rig.peek(1, 512 * 512, 8192), stamp(0, 256 * 512, 8192));
        rig.untouched_but(1, 512 * 512, 8192);
        // SA 01h, status 01h, one operation, bytes, 8192, one segment.
        let delay = if ctl { "ffffffff" } else { "fffffffe" };
        let wanted =
            format!("0000001c 01 01 0001 {delay} 00 00 00 00 0000000000002000 0001 000000000000");
        assert_eq!(rig.data(1, STATUS, &[]), hex(&wanted));
        assert_eq!(rig.refused(1, STATUS, &[]), (5, 0x24, 0));
    }
    let lio = Rig::new(Personality::lio());
    assert_eq!(lio.refused(1, &cdb(&bytes), &bytes), (5, 0x20, 0));
    assert_eq!(lio.refused(1, STATUS, &[]), (5, 0x20, 0));
}

#[test]
fn the_helper_writes_what_the_hand_wrote() {
    let fields = list(
        false,
        ID,
        &[naa_cscd(0), naa_cscd(1)],
        &[blocks(0, 1, 0x10, 0x100, 0x200)],
    );
    assert_eq!(
        fields[..48],
        hex("01 00 0020 00000000 00000000 000000 00 ff 000000 0a0b0c0d \
         00000000 00000000 00000000 00000000 0000 0040 001c 0000")
    );
}

#[test]
fn immed_goes_on_behind_the_answer() {
    let rig = Rig::new(Personality::array());
    // 1 MiB at 4 MiB a millisecond is 250 microseconds; slower here.
    rig.manager.change(|p| p.background_bytes_per_ms = 1 << 16);
    let both = [naa_cscd(0), naa_cscd(1)];
    let fields = list(true, ID, &both, &[blocks(0, 1, 2048, 0, 0)]);
    rig.data(1, &cdb(&fields), &fields);
    rig.untouched_but(1, 0, 0);
    // The identifier is busy: OPERATION IN PROGRESS.
    assert_eq!(rig.refused(1, &cdb(&fields), &fields), (5, 0, 0x16));
    rig.wait(8);
    // 12h in the background, 512 KiB, advice 2 ms.
    let status = rig.data(1, STATUS, &[]);
    assert_eq!(
        status[4..24],
        hex("01 12 0001 00000002 00 00 00 00 0000000000080000")
    );
    assert_eq!(rig.peek(1, 0, 1 << 19), stamp(0, 0, 1 << 19));
    rig.untouched_but(1, 0, 1 << 19);
    rig.wait(8);
    let status = rig.data(1, STATUS, &[]);
    assert_eq!(status[5], 0x01);
    assert_eq!(status[16..26], hex("0000000000100000 0001"));
    assert_eq!(rig.peek(1, 0, 1 << 20), stamp(0, 0, 1 << 20));
}

#[test]
fn abort_stops_it() {
    let rig = Rig::new(Personality::array());
    rig.manager.change(|p| p.background_bytes_per_ms = 1 << 16);
    let fields = list(
        true,
        ID,
        &[naa_cscd(0), naa_cscd(1)],
        &[blocks(0, 1, 2048, 0, 0)],
    );
    rig.data(1, &cdb(&fields), &fields);
    rig.wait(4);
    rig.data(1, ABORT, &[]);
    rig.wait(100);
    // 60h terminated, TASK ABORTED.
    let status = rig.data(1, STATUS, &[]);
    assert_eq!((status[5], status[12]), (0x60, 0x40));
    rig.untouched_but(1, 0, 1 << 18);
    assert_eq!(rig.peek(1, 0, 1 << 18), stamp(0, 0, 1 << 18));
    assert_eq!(rig.refused(1, ABORT, &[]), (5, 0x24, 0));
}

#[test]
fn identifiers_belong_to_their_nexus() {
    let rig = Rig::new(Personality::array());
    let other = rig.manager.nexus("other");
    rig.manager
        .execute(other, 1, &hex("00 00 00 00 00 00"), &[]);
    let fields = list(
        false,
        ID,
        &[naa_cscd(0), naa_cscd(1)],
        &[blocks(0, 1, 8, 0, 0)],
    );
    rig.data(1, &cdb(&fields), &fields);
    let reply = rig.manager.execute(other, 1, &hex(STATUS), &[]);
    assert_eq!(reply.codes(), Some((5, 0x24, 0)));
    // The array keeps them for the nexus, on whichever unit; CTL by unit.
    assert_eq!(rig.data(0, STATUS, &[])[5], 1);
    let rig = Rig::new(Personality::ctl());
    rig.data(1, &cdb(&fields), &fields);
    assert_eq!(rig.refused(0, STATUS, &[]), (5, 0x24, 0));
    assert_eq!(rig.data(1, STATUS, &[])[5], 1);
}

#[test]
fn held_status_is_forgotten_in_time() {
    let rig = Rig::new(Personality::array());
    let fields = list(
        false,
        ID,
        &[naa_cscd(0), naa_cscd(1)],
        &[blocks(0, 1, 8, 0, 0)],
    );
    rig.data(1, &cdb(&fields), &fields);
    rig.wait(29_000);
    rig.data(1, &cdb(&fields), &fields);
    rig.wait(29_000);
    assert_eq!(rig.data(1, STATUS, &[])[5], 1);
    rig.data(1, &cdb(&fields), &fields);
    rig.wait(31_000);
    assert_eq!(rig.refused(1, STATUS, &[]), (5, 0x24, 0));
}

#[test]
fn a_failure_in_the_background_is_told_with_its_sense() {
    let rig = Rig::new(Personality::array());
    rig.manager.set_fault(
        Kind::ExtendedCopyLid4,
        When::Nth(1),
        Effect::AnswerWithin(4096, Refusal::check(0xA, 0x0D, 0x01)),
    );
    let fields = list(
        true,
        ID,
        &[naa_cscd(0), naa_cscd(1)],
        &[blocks(0, 1, 2048, 0, 0)],
    );
    rig.data(1, &cdb(&fields), &fields);
    rig.wait(10);
    let status = rig.data(1, STATUS, &[]);
    assert_eq!(status[..6], hex("00000024 01 02"));
    assert_eq!(status[12..16], hex("02 08 08 00"));
    assert_eq!(status[16..24], hex("0000000000001000"));
    assert_eq!(status[32..], hex("72 0a 0d 01 00000000"));
    rig.untouched_but(1, 0, 4096);
}

#[test]
fn too_many_at_once() {
    let rig = Rig::new(Personality::array());
    rig.manager.change(|p| {
        p.copy.total_concurrent = 2;
        p.background_bytes_per_ms = 1 << 16;
    });
    let start = |id| {
        let fields = list(
            true,
            id,
            &[naa_cscd(0), naa_cscd(1)],
            &[blocks(0, 1, 2048, 0, 0)],
        );
        rig.go(1, &cdb(&fields), &fields).status
    };
    assert_eq!((start(1), start(2), start(3)), (0, 0, 0x28));
    rig.wait(16);
    assert_eq!(start(3), 0);
    assert_eq!(rig.manager.running(), 1);
}
