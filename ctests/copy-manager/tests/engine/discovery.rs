//! INQUIRY and its pages, READ CAPACITY, REPORT LUNS, operating parameters.

use copy_manager::Personality;

use crate::rig::{Rig, hex};

/// SPC-4 6.6.2: PDT 00h, version 06h, 3PC in bit 3 of byte 5, names in 8 to 35.
#[test]
fn standard_inquiry() {
    let rig = Rig::new(Personality::ctl());
    let data = rig.data(0, "12 00 00 00 60 00", &[]);
    let mut wanted = hex("00 00 06 12 5b 08 00 02");
    wanted.extend(b"FREEBSD CTLDISK         0001");
    wanted.resize(58, 0);
    wanted.extend(hex("00 a0 04 60 04 c0"));
    wanted.resize(96, 0);
    assert_eq!(data, wanted);
    // Cut to the allocation length.
    assert_eq!(rig.data(0, "12 00 00 00 05 00", &[]), wanted[..5]);
}

#[test]
fn a_unit_that_is_not_there() {
    let rig = Rig::new(Personality::ctl());
    // Peripheral qualifier 011b, device type 1Fh.
    assert_eq!(rig.data(9, "12 00 00 00 05 00", &[]), hex("7f 00 06 12 1f"));
    assert_eq!(rig.refused(9, "00 00 00 00 00 00", &[]), (5, 0x25, 0));
    rig.manager.remove_disk(1);
    assert_eq!(rig.refused(1, "00 00 00 00 00 00", &[]), (5, 0x25, 0));
    // REPORT LUNS: three are left.
    assert_eq!(
        rig.data(0, "a0 00 00 00 00 00 00 00 01 00 00 00", &[]),
        hex("00000018 00000000 0000000000000000 0002000000000000 0003000000000000")
    );
}

#[test]
fn pages() {
    let rig = Rig::new(Personality::ctl());
    assert_eq!(
        rig.data(0, "12 01 00 00 ff 00", &[]),
        hex("00 00 00 07 00 80 83 8f b0 b1 b2")
    );
    let mut serial = hex("00 80 00 0e");
    serial.extend(b"XCOPY-00000002");
    assert_eq!(rig.data(2, "12 01 80 00 ff 00", &[]), serial);
    assert_eq!(rig.refused(0, "12 01 86 00 ff 00", &[]), (5, 0x24, 0));
    assert_eq!(rig.refused(0, "12 00 80 00 ff 00", &[]), (5, 0x24, 0));
    let lio = Rig::new(Personality::lio());
    assert_eq!(
        lio.data(0, "12 01 00 00 ff 00", &[]),
        hex("00 00 00 06 00 80 83 b0 b1 b2")
    );
    assert_eq!(lio.refused(0, "12 01 8f 00 ff 00", &[]), (5, 0x24, 0));
}

/// SPC-4 7.8.6: relative target port, T10 vendor, EUI-64, NAA.
#[test]
fn identification() {
    let rig = Rig::new(Personality::ctl());
    let mut wanted = hex("00 83 00 4a  01 14 00 04 00000001  02 01 00 16");
    wanted.extend(b"FREEBSD XCOPY-00000001");
    wanted.extend(hex("01 02 00 08 02000c0ffee00001"));
    wanted.extend(hex("01 03 00 10 6001405f00000000 00000c0ffee00001"));
    let data = rig.data(1, "12 01 83 00 ff 00", &[]);
    assert_eq!(data[4..], wanted[4..]);
    assert_eq!(usize::from(data[3]), data.len() - 4);
}

/// SPC-4 7.8.17 and SBC-4 6.6.9, with the values of CTL's source.
#[test]
fn third_party_page_of_ctl() {
    let rig = Rig::new(Personality::ctl());
    let mut wanted = hex("00 8f 01 78");
    // Block device ROD token limits: 64 ranges, 600 s, 60 s, nothing reported.
    wanted.extend(hex(
        "0000 0020 000000000000 0040 00000258 0000003c 0000000000000000 0000000000000000",
    ));
    // Supported commands: 83h with five service actions, 84h with six.
    wanted.extend(hex(
        "0001 0010 0f 83 05 00 01 10 11 1c 84 06 00 03 04 05 07 08",
    ));
    // Parameter data: 64 CSCDs, 64 segments, 8192 bytes, no inline data.
    wanted.extend(hex("0004 001c 00000000 0040 0040 00002000 00000000"));
    wanted.extend([0; 12]);
    // Supported descriptors; supported CSCD descriptor IDs.
    wanted.extend(hex("0008 0008 04 02 07 14 e4 000000 000c 0004 0002 ffff"));
    // ROD token features: no remote tokens, 1 to FFFFFFFFh s, 600 s inactive.
    wanted.extend(hex("0106 005c 00"));
    wanted.extend([0; 11]);
    wanted.extend(hex("00000001 ffffffff 00000258"));
    wanted.extend([0; 18]);
    wanted.extend(hex("0030 00 00 002c"));
    wanted.extend([0; 44]);
    // Supported ROD types: access upon reference TIN and TOUT, block zero TIN.
    wanted.extend(hex("0108 0084 0000 0080 00010000 03"));
    wanted.extend([0; 59]);
    wanted.extend(hex("ffff0001 02"));
    wanted.extend([0; 59]);
    // General copy operations.
    wanted.extend(hex("8001 0020 000000ff 000000ff 00000000 00 00"));
    wanted.extend([0; 18]);
    assert_eq!(rig.data(0, "12 01 8f 02 00 00", &[]), wanted);
}

/// The array counts its tokens in the unit's blocks.
#[test]
fn third_party_page_of_the_array() {
    let rig = Rig::new(Personality::array());
    let data = rig.data(0, "12 01 8f 02 00 00", &[]);
    let limits = "0000 0020 000000000000 0008 00000078 0000001e 0000000000004000 0000000000004000";
    assert_eq!(data[4..40], hex(limits));
    let data = rig.data(2, "12 01 8f 02 00 00", &[]);
    assert_eq!(data[24..40], hex("0000000000000800 0000000000000800"));
}

/// SPC-4 6.18.4.
#[test]
fn operating_parameters() {
    let cdb = "84 03 00 00 00 00 00 00 00 00 00 00 01 00 00 00";
    let rig = Rig::new(Personality::ctl());
    assert_eq!(
        rig.data(0, cdb, &[]),
        hex(
            "0000002c 01 000000 0040 0040 00002000 00000000 00000000 00000000 00000000 \
             0000 00ff ff 00 00 00 000000 04 02 07 14 e4"
        )
    );
    let rig = Rig::new(Personality::lio());
    let lio = hex(
        "0000002a 01 000000 0002 0001 00000400 10000000 00000000 00000000 00000000 \
         0000 0001 01 09 00 00 000000 02 02 e4",
    );
    assert_eq!(rig.data(0, cdb, &[]), lio);
    // LIO wants room for 54 bytes and nothing in byte 2.
    let short = "84 03 00 00 00 00 00 00 00 00 00 00 00 35 00 00";
    assert_eq!(rig.refused(0, short, &[]), (5, 0x24, 0));
    let byte_2 = "84 03 01 00 00 00 00 00 00 00 00 00 01 00 00 00";
    assert_eq!(rig.refused(0, byte_2, &[]), (5, 0x24, 0));
    let rig = Rig::new(Personality::scst());
    let scst = rig.data(0, cdb, &[]);
    assert_eq!(scst[8..20], hex("0005 0064 0000ffff 10000000"));
    assert_eq!(scst[34..38], hex("ffff ff 10"));
    let rig = Rig::new(Personality::comstar());
    let comstar = rig.data(0, cdb, &[]);
    assert_eq!(comstar[8..20], hex("0002 0001 0000ffff 00000000"));
    assert_eq!(comstar[34..38], hex("ffff 00 09"));
}

/// SPC-4 6.35, one command: SUPPORT 011b or 001b.
#[test]
fn supported_operation_codes() {
    let rig = Rig::new(Personality::array());
    let populate = rig.data(0, "a3 0c 02 83 00 10 00 00 01 00 00 00", &[]);
    assert_eq!(populate[..5], hex("00 03 00 10 83"));
    let unknown = rig.data(0, "a3 0c 02 83 00 0f 00 00 01 00 00 00", &[]);
    assert_eq!(unknown, hex("00 01 00 00"));
    let rig = Rig::new(Personality::lio());
    assert_eq!(
        rig.refused(0, "a3 0c 02 83 00 10 00 00 01 00 00 00", &[]),
        (5, 0x20, 0)
    );
}
