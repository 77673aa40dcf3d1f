//! What LIO, SCST and COMSTAR do otherwise.

use copy_manager::Personality;

use crate::lid1::{blocks, cdb, list, naa_cscd};
use crate::rig::{Rig, hex, stamp};

const STATUS: &str = "84 00 07 00 00 00 00 00 00 00 00 00 00 ff 00 00";

fn both() -> [String; 2] {
    [naa_cscd(0), naa_cscd(1)]
}

#[test]
fn lio_has_one_segment_and_no_status() {
    let rig = Rig::new(Personality::lio());
    let two = [blocks(0, 1, 1, 0, 0), blocks(0, 1, 1, 1, 1)];
    let fields = list("00 18", &both(), &two);
    assert_eq!(rig.refused(1, &cdb(&fields), &fields), (5, 0x26, 0x08));
    // Segments are read before CSCD descriptors.
    let fields = list(
        "00 18",
        &[naa_cscd(0).replacen("e4", "e5", 1), naa_cscd(1)],
        &two,
    );
    assert_eq!(rig.refused(1, &cdb(&fields), &fields), (5, 0x26, 0x08));
    // Any list identifier, any usage: none is looked at.
    for start in ["07 00", "07 08", "09 18", "00 10"] {
        let fields = list(start, &both(), &[blocks(0, 1, 1, 0, 0)]);
        rig.data(1, &cdb(&fields), &fields);
    }
    assert_eq!(rig.refused(1, STATUS, &[]), (5, 0x20, 0));
    // Over 1024 bytes of descriptors.
    let mut long = list("00 18", &both(), &[blocks(0, 1, 1, 0, 0)]);
    long.resize(2000, 0);
    assert_eq!(rig.refused(1, &cdb(&long), &long), (5, 0x1A, 0));
    // A read error in the middle is "not reachable", and bytes were written.
    rig.manager.spoil(0, 20);
    let fields = list("00 18", &both(), &[blocks(0, 1, 64, 0, 0)]);
    let reply = rig.go(1, &cdb(&fields), &fields);
    assert_eq!(reply.codes(), Some((0xA, 0x0D, 0x02)));
    assert_eq!(rig.peek(1, 0, 20 * 512), stamp(0, 0, 20 * 512));
    rig.untouched_but(1, 0, 20 * 512);
}

#[test]
fn scst_keeps_identifiers_for_five_seconds() {
    let rig = Rig::new(Personality::scst());
    let one = [blocks(0, 1, 128, 0, 128)];
    let fields = list("07 10", &both(), &one);
    rig.data(1, &cdb(&fields), &fields);
    rig.wait(4000);
    assert_eq!(
        rig.data(1, STATUS, &[]),
        hex("00000008 01 0001 00 00010000")
    );
    rig.data(1, &cdb(&fields), &fields);
    rig.wait(5001);
    assert_eq!(rig.refused(1, STATUS, &[]), (5, 0x24, 0));
    // Usage 01b is refused, 11b wants identifier 0.
    for (start, good) in [
        ("07 08", false),
        ("07 18", false),
        ("00 18", true),
        ("07 00", true),
    ] {
        let fields = list(start, &both(), &one);
        assert_eq!(rig.go(1, &cdb(&fields), &fields).good(), good, "{start}");
    }
    // 64 KiB granularity; bytes behind the lists.
    let fields = list("00 18", &both(), &[blocks(0, 1, 127, 0, 0)]);
    assert_eq!(rig.refused(1, &cdb(&fields), &fields), (0xA, 0x26, 0x0D));
    let mut longer = list("00 18", &both(), &one);
    longer.push(0);
    assert_eq!(rig.refused(1, &cdb(&longer), &longer), (5, 0x26, 0x0B));
    // Segments before a failed one are done.
    let mixed = [
        blocks(0, 1, 128, 0, 0),
        blocks(0, 1, 128, 0, 512),
        blocks(0, 1, 1, 0, 0),
    ];
    let fields = list("00 18", &both(), &mixed);
    let reply = rig.go(1, &cdb(&fields), &fields);
    assert_eq!(reply.codes(), Some((0xA, 0x26, 0x0D)));
    // Fixed format: the segment's number in bytes 10 and 11.
    assert_eq!(reply.sense[8..12], hex("00 00 00 02"));
    assert_eq!(rig.peek(1, 512 * 512, 65536), stamp(0, 0, 65536));
}

#[test]
fn comstar_wants_identifier_0_and_usage_none() {
    let rig = Rig::new(Personality::comstar());
    let one = [blocks(0, 1, 8, 0, 16)];
    // sg_xcopy's own choice, identifier 1 and usage 10b, is refused.
    for (start, good) in [
        ("01 10", false),
        ("00 10", false),
        ("01 18", false),
        ("00 18", true),
    ] {
        let fields = list(start, &both(), &one);
        let reply = rig.go(1, &cdb(&fields), &fields);
        assert_eq!(reply.good(), good, "{start}");
        assert!(good || reply.codes() == Some((5, 0x26, 0)));
    }
    assert_eq!(rig.peek(1, 16 * 512, 8 * 512), stamp(0, 0, 8 * 512));
    // A designator of other than 16 bytes.
    let eui = "e4 00 0000 01 02 00 08 02000c0ffee00000 000000000000000000000000 00 000200";
    let fields = list("00 18", &[eui.into(), naa_cscd(1)], &one);
    assert_eq!(rig.refused(1, &cdb(&fields), &fields), (5, 0x26, 0));
}

#[test]
fn ctl_verifies_and_registers() {
    let rig = Rig::new(Personality::ctl());
    // 07h with TUR; 14h registers a key on the destination.
    let verify = "07 00 0008 0000 0000 01 000000".to_owned();
    let register = "14 00 0018 0000 0001 0000000000000000 00000000000000cc 00000000".to_owned();
    let fields = list("00 18", &both(), &[verify, register, blocks(0, 1, 1, 0, 0)]);
    rig.data(1, &cdb(&fields), &fields);
    assert_eq!(
        rig.data(1, "5e 00 000000 0000 00ff 00", &[]),
        hex("00000001 00000008 00000000000000cc")
    );
}

#[test]
fn all_have_names() {
    for name in ["ctl", "lio", "array", "scst", "comstar", "windows", "liar"] {
        assert_eq!(Personality::by_name(name).unwrap().name, name);
    }
    assert!(Personality::by_name("none").is_none());
}
