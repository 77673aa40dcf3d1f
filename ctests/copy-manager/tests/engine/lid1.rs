//! EXTENDED COPY (LID1), SPC-4 6.4, and what tells of it.

use copy_manager::{Designator, Kind, Personality};

use crate::rig::{Rig, hex, stamp};

/// Identification CSCD descriptor with the NAA name of a unit (SPC-4 6.4.5.2).
pub fn naa_cscd(unit: u8) -> String {
    let block = if unit < 2 { "000200" } else { "001000" };
    format!("e4 00 0000 01 03 00 10 6001405f00000000 00000c0ffee000{unit:02x} 00000000 00 {block}")
}

/// Block device to block device segment (SPC-4 6.4.6.2).
pub fn blocks(source: u16, destination: u16, count: u16, from: u64, to: u64) -> String {
    format!("02 00 0018 {source:04x} {destination:04x} 0000 {count:04x} {from:016x} {to:016x}")
}

/// The parameter list: list identifier and LIST ID USAGE, the two lists.
pub fn list(id_and_usage: &str, cscds: &[String], segments: &[String]) -> Vec<u8> {
    let (cscds, segments) = (hex(&cscds.concat()), hex(&segments.concat()));
    let mut out = hex(id_and_usage);
    out.extend((cscds.len() as u16).to_be_bytes());
    out.extend([0; 4]);
    out.extend((segments.len() as u32).to_be_bytes());
    out.extend([0; 4]);
    out.extend(cscds);
    out.extend(segments);
    out
}

pub fn cdb(list: &[u8]) -> String {
    format!("83 00 00000000 00000000 {:08x} 00 00", list.len())
}

const STATUS: &str = "84 00 07 00 00 00 00 00 00 00 00 00 00 ff 00 00";
const DETAILS: &str = "84 04 07 00 00 00 00 00 00 00 00 00 00 ff 00 00";

/// Every byte of one command, by hand: units 0 to 1, 16 blocks from LBA 256 to 512.
#[test]
fn one_segment_by_hand() {
    for personality in [Personality::ctl(), Personality::lio(), Personality::array()] {
        let rig = Rig::new(personality);
        let bytes = hex("00 18 0040 00000000 0000001c 00000000 \
             e4 00 0000 01 03 00 10 6001405f0000000000000c0ffee00000 00000000 00 000200 \
             e4 00 0000 01 03 00 10 6001405f0000000000000c0ffee00001 00000000 00 000200 \
             02 00 0018 0000 0001 0000 0010 0000000000000100 0000000000000200");
        assert_eq!(bytes.len(), 16 + 64 + 28);
        let cdb = "83 00 00 00 00 00 00 00 00 00 00 00 00 6c 00 00";
        assert!(rig.data(1, cdb, &bytes).is_empty());
        assert_eq!(
            rig.peek(1, 512 * 512, 16 * 512),
            stamp(0, 256 * 512, 16 * 512)
        );
        rig.untouched_but(1, 512 * 512, 16 * 512);
        rig.untouched_but(0, 0, 0);
        let trace = rig.manager.trace();
        assert_eq!(trace.len(), 1);
        assert_eq!(trace[0].kind, Kind::ExtendedCopyLid1);
        assert_eq!((&trace[0].parameters, trace[0].status), (&bytes, Some(0)));
    }
}

#[test]
fn eui_and_t10_names_are_found_and_the_addressed_unit() {
    let rig = Rig::new(Personality::ctl());
    let eui = "e4 00 0000 01 02 00 08 02000c0ffee00000 000000000000000000000000 00 000200";
    let fields = list("00 18", &[eui.into()], &[blocks(0, 0xFFFF, 1, 4, 5)]);
    rig.data(1, &cdb(&fields), &fields);
    assert_eq!(rig.peek(1, 5 * 512, 512), stamp(0, 4 * 512, 512));
    rig.manager
        .rename(0, vec![Designator::t10("ACME", "0123456789AB")]);
    rig.go(0, "00 00 00 00 00 00", &[]);
    rig.go(1, "00 00 00 00 00 00", &[]);
    let t10 = "e4 00 0000 02 01 00 14 41434d4520202020 303132333435363738394142 00 000200";
    let fields = list("00 18", &[t10.into()], &[blocks(0, 0xFFFF, 1, 4, 6)]);
    rig.data(1, &cdb(&fields), &fields);
    assert_eq!(rig.peek(1, 6 * 512, 512), stamp(0, 4 * 512, 512));
    // LIO takes neither, nor FFFFh.
    let lio = Rig::new(Personality::lio());
    let fields = list("00 18", &[eui.into()], &[blocks(0, 0, 1, 4, 5)]);
    assert_eq!(lio.refused(0, &cdb(&fields), &fields), (5, 0x26, 0));
    let fields = list("00 18", &[naa_cscd(0)], &[blocks(0, 0xFFFF, 1, 4, 5)]);
    assert_eq!(lio.refused(0, &cdb(&fields), &fields), (5, 0x26, 0));
}

#[test]
fn reversed_descriptors_are_honoured() {
    let rig = Rig::new(Personality::lio());
    let fields = list(
        "00 10",
        &[naa_cscd(1), naa_cscd(0)],
        &[blocks(1, 0, 8, 16, 24)],
    );
    rig.data(0, &cdb(&fields), &fields);
    assert_eq!(rig.peek(1, 24 * 512, 8 * 512), stamp(0, 16 * 512, 8 * 512));
}

#[test]
fn several_segments_and_their_status() {
    let rig = Rig::new(Personality::array());
    let segments = [blocks(0, 1, 8, 0, 100), blocks(0, 1, 16, 64, 200)];
    let fields = list("07 10", &[naa_cscd(0), naa_cscd(1)], &segments);
    rig.data(1, &cdb(&fields), &fields);
    assert_eq!(
        rig.peek(1, 200 * 512, 16 * 512),
        stamp(0, 64 * 512, 16 * 512)
    );
    // SPC-4 6.26: status 01h, two segments, 24 blocks in bytes.
    assert_eq!(
        rig.data(1, STATUS, &[]),
        hex("00000008 01 0002 00 00003000")
    );
    // Told once.
    assert_eq!(rig.refused(1, STATUS, &[]), (5, 0x24, 0));
}

#[test]
fn a_failed_segment_is_named_and_its_device_speaks() {
    let rig = Rig::new(Personality::array());
    rig.manager.spoil(0, 70);
    let segments = [blocks(0, 1, 8, 0, 100), blocks(0, 1, 16, 64, 200)];
    let fields = list("07 10", &[naa_cscd(0), naa_cscd(1)], &segments);
    let reply = rig.go(1, &cdb(&fields), &fields);
    // COPY ABORTED, 0Dh/01h, segment 1, the source's MEDIUM ERROR at LBA 70.
    let wanted = hex("72 0a 0d 01 00000024 \
         01 0a 0000 0000000000000001 \
         0c 16 01 02 72 03 11 00 0000000c 00 0a 8000 0000000000000046");
    assert_eq!(reply.sense, wanted);
    // What could be read was written.
    assert_eq!(rig.peek(1, 200 * 512, 6 * 512), stamp(0, 64 * 512, 6 * 512));
    assert_eq!(rig.peek(1, 206 * 512, 512), stamp(1, 206 * 512, 512));
    // SPC-4 6.20: 56 bytes, status 02h at 56, sense length at 58.
    let details = rig.data(1, DETAILS, &[]);
    assert_eq!(details[..4], (56 + wanted.len() as u32).to_be_bytes());
    assert_eq!(details[56..60], hex("02 00 00 2c"));
    assert_eq!(details[60..], wanted);
}

#[test]
fn destination_count_and_unequal_blocks() {
    let rig = Rig::new(Personality::ctl());
    let both = [naa_cscd(0), naa_cscd(2)];
    // DC: two blocks of the destination are 8 KiB.
    let segment = blocks(0, 1, 2, 16, 3).replacen("02 00", "02 02", 1);
    let fields = list("00 18", &both, &[segment]);
    rig.data(2, &cdb(&fields), &fields);
    assert_eq!(rig.peek(2, 3 * 4096, 8192), stamp(0, 16 * 512, 8192));
    rig.untouched_but(2, 3 * 4096, 8192);
    // Nine blocks of 512 are no whole number of 4096: inexact segment.
    let fields = list("00 18", &both, &[blocks(0, 1, 9, 16, 3)]);
    assert_eq!(rig.refused(2, &cdb(&fields), &fields), (0xA, 0x26, 0x0A));
    let lio = Rig::new(Personality::lio());
    let fields = list("00 18", &both, &[blocks(0, 1, 8, 16, 3)]);
    assert_eq!(lio.refused(2, &cdb(&fields), &fields), (2, 0x08, 0));
}

#[test]
fn no_blocks_are_success_and_no_list_too() {
    for personality in [Personality::ctl(), Personality::lio(), Personality::array()] {
        let rig = Rig::new(personality);
        let fields = list(
            "00 18",
            &[naa_cscd(0), naa_cscd(1)],
            &[blocks(0, 1, 0, 0, 0)],
        );
        rig.data(1, &cdb(&fields), &fields);
        rig.data(1, &cdb(&[]), &[]);
        rig.untouched_but(1, 0, 0);
    }
}

#[test]
fn what_is_beyond_the_end() {
    let rig = Rig::new(Personality::array());
    let fields = list(
        "00 18",
        &[naa_cscd(0), naa_cscd(1)],
        &[blocks(0, 1, 8, 32764, 0)],
    );
    let reply = rig.go(1, &cdb(&fields), &fields);
    assert_eq!(reply.codes(), Some((0xA, 0x0D, 0x01)));
    // Forwarded: 21h/00h.
    assert!(reply.sense.windows(4).any(|w| w == [0x72, 5, 0x21, 0]));
    rig.untouched_but(1, 0, 0);
    let lio = Rig::new(Personality::lio());
    assert_eq!(lio.refused(1, &cdb(&fields), &fields), (0xA, 0x0D, 0x02));
    let fields = list(
        "00 18",
        &[naa_cscd(0), naa_cscd(1)],
        &[blocks(0, 1, 8, u64::MAX, 0)],
    );
    assert_eq!(rig.go(1, &cdb(&fields), &fields).status, 2);
}

#[test]
fn refused_lists() {
    let rig = Rig::new(Personality::array());
    let both = [naa_cscd(0), naa_cscd(1)];
    let one = [blocks(0, 1, 8, 0, 0)];
    let refused = |fields: &[u8]| rig.refused(1, &cdb(fields), fields);
    // 26h/06h, 26h/08h, 26h/07h, 26h/09h, 26h/0Bh.
    let three = [naa_cscd(0), naa_cscd(1), naa_cscd(2)];
    assert_eq!(refused(&list("00 18", &three, &one)), (5, 0x26, 0x06));
    let many: Vec<String> = (0..17).map(|n| blocks(0, 1, 1, n, n)).collect();
    assert_eq!(refused(&list("00 18", &both, &many)), (5, 0x26, 0x08));
    let alias = [naa_cscd(0).replacen("e4", "e5", 1), naa_cscd(1)];
    assert_eq!(refused(&list("00 18", &alias, &one)), (5, 0x26, 0x07));
    let stream = [blocks(0, 1, 8, 0, 0).replacen("02", "00", 1)];
    assert_eq!(refused(&list("00 18", &both, &stream)), (5, 0x26, 0x09));
    let mut inline = list("00 18", &both, &one);
    inline[15] = 4;
    inline.extend([0; 4]);
    assert_eq!(refused(&inline), (5, 0x26, 0x0B));
    // A descriptor length other than 18h, with the pointer to it.
    let odd = [blocks(0, 1, 8, 0, 0).replacen("0018", "0014", 1)];
    let fields = list("00 18", &both, &odd);
    let reply = rig.go(1, &cdb(&fields), &fields);
    assert_eq!(
        reply.sense,
        hex("72 05 26 00 00000008 02 06 0000 80 0052 00")
    );
    // A list shorter than its lengths say, and one too short for a header.
    let fields = list("00 18", &both, &one);
    assert_eq!(refused(&fields[..100]), (5, 0x1A, 0));
    assert_eq!(refused(&fields[..12]), (5, 0x1A, 0));
    // Over the segment length: 32 MiB are 65536 blocks.
    rig.manager.change(|p| p.copy.segment_bytes = 4096);
    let fields = list("00 18", &both, &[blocks(0, 1, 9, 0, 0)]);
    assert_eq!(refused(&fields), (5, 0x26, 0));
    // Granularity.
    rig.manager.change(|p| p.copy.granularity_log2 = 11);
    let fields = list("00 18", &both, &[blocks(0, 1, 6, 0, 0)]);
    assert_eq!(refused(&fields), (0xA, 0x26, 0x0D));
    rig.untouched_but(1, 0, 0);
}

#[test]
fn a_unit_that_the_nexus_does_not_see_is_not_reached() {
    for (personality, codes) in [
        (Personality::ctl(), (0xA, 0x08, 0x04)),
        (Personality::lio(), (0xA, 0x0D, 0x02)),
        (Personality::array(), (0xA, 0x0D, 0x02)),
        (Personality::comstar(), (5, 0x0D, 0x02)),
    ] {
        let rig = Rig::new(personality);
        rig.manager.show(rig.nexus, 0, false);
        let fields = list(
            "00 18",
            &[naa_cscd(0), naa_cscd(1)],
            &[blocks(0, 1, 8, 0, 0)],
        );
        assert_eq!(rig.refused(1, &cdb(&fields), &fields), codes);
        rig.untouched_but(1, 0, 0);
        rig.manager.show(rig.nexus, 0, true);
        rig.data(1, &cdb(&fields), &fields);
    }
    // LIO wants the command sent to one of the two.
    let rig = Rig::new(Personality::lio());
    let fields = list(
        "00 18",
        &[naa_cscd(0), naa_cscd(1)],
        &[blocks(0, 1, 8, 0, 0)],
    );
    assert_eq!(rig.refused(3, &cdb(&fields), &fields), (0xA, 0x0D, 0x02));
}
