//! Every encoder against bytes written by hand from the standards' tables.

use xcopy_scsi_protocol::wire::cdb;
use xcopy_scsi_protocol::wire::copy::{
    Cscd, ListId, Segment, descriptors_bytes, list_lid1, list_lid4,
};
use xcopy_scsi_protocol::wire::designator::{Designator, DesignatorType};

/// Hexadecimal bytes; blanks do not count.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .bytes()
        .filter(|b| !b.is_ascii_whitespace())
        .map(|b| (b as char).to_digit(16).expect("a digit") as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

#[test]
fn ordinary_commands() {
    // SPC-4 6.37, 6.6, 6.13; SBC-3 5.16, 5.10, 5.28, 5.37, 5.22, 5.21.
    assert_eq!(*cdb::test_unit_ready(), *hex("00 00 00 00 00 00"));
    assert_eq!(*cdb::inquiry(36), *hex("12 00 00 00 24 00"));
    assert_eq!(*cdb::inquiry_page(0x8f, 0x1234), *hex("12 01 8F 12 34 00"));
    assert_eq!(*cdb::mode_sense_6(0x08, 192), *hex("1A 08 08 00 C0 00"));
    assert_eq!(
        *cdb::read_capacity_16(32),
        *hex("9E 10 0000000000000000 00000020 00 00")
    );
    assert_eq!(
        *cdb::read_16(0x0123_4567_89ab_cdef, 0x1122_3344),
        *hex("88 00 0123456789ABCDEF 11223344 00 00")
    );
    assert_eq!(
        *cdb::write_16(0x0123_4567_89ab_cdef, 0x1122_3344, false),
        *hex("8A 00 0123456789ABCDEF 11223344 00 00")
    );
    assert_eq!(
        *cdb::write_16(1, 2, true),
        *hex("8A 08 0000000000000001 00000002 00 00")
    );
    assert_eq!(
        *cdb::write_same_16(0x10, 0x8000),
        *hex("93 00 0000000000000010 00008000 00 00")
    );
    assert_eq!(
        *cdb::synchronize_cache_16(),
        *hex("91 00 0000000000000000 00000000 00 00")
    );
    assert_eq!(
        *cdb::synchronize_cache_10(),
        *hex("35 00 00000000 00 0000 00")
    );
}

#[test]
fn third_party_commands() {
    // SPC-4 6.3, 6.4, 6.5, 6.20 to 6.27; SBC-4 5.12, 5.59, 5.25.
    assert_eq!(
        *cdb::extended_copy_lid1(0x5c),
        *hex("83 00 00000000 00000000 0000005C 00 00")
    );
    assert_eq!(
        *cdb::extended_copy_lid4(0x7c),
        *hex("83 01 00000000 00000000 0000007C 00 00")
    );
    assert_eq!(
        *cdb::populate_token(0xa1b2_c3d4, 0x20),
        *hex("83 10 00000000 A1B2C3D4 00000020 00 00")
    );
    assert_eq!(
        *cdb::write_using_token(0xa1b2_c3d4, 0x228),
        *hex("83 11 00000000 A1B2C3D4 00000228 00 00")
    );
    assert_eq!(
        *cdb::copy_operation_abort(0xa1b2_c3d4),
        *hex("83 1C A1B2C3D4 00000000 00000000 00 00")
    );
    assert_eq!(
        *cdb::receive_copy_status_lid1(0x7f, 12),
        *hex("84 00 7F 000000 00000000 0000000C 00 00")
    );
    assert_eq!(
        *cdb::receive_copy_operating_parameters(512),
        *hex("84 03 00 000000 00000000 00000200 00 00")
    );
    assert_eq!(
        *cdb::receive_copy_failure_details_lid1(0x7f, 0x138),
        *hex("84 04 7F 000000 00000000 00000138 00 00")
    );
    assert_eq!(
        *cdb::receive_copy_status_lid4(0xa1b2_c3d4, 0x120),
        *hex("84 05 A1B2C3D4 00000000 00000120 00 00")
    );
    assert_eq!(
        *cdb::receive_rod_token_information(0xa1b2_c3d4, 0x400),
        *hex("84 07 A1B2C3D4 00000000 00000400 00 00")
    );
    assert_eq!(
        *cdb::report_all_rod_tokens(0x1000),
        *hex("84 08 00000000 00000000 00001000 00 00")
    );
}

fn naa() -> Designator {
    Designator {
        kind: DesignatorType::Naa,
        code_set: 1,
        bytes: hex("60014051 234567890ABCDEF0 11223344"),
    }
}

fn t10() -> Designator {
    Designator {
        kind: DesignatorType::T10VendorId,
        code_set: 2,
        bytes: b"LIO-ORG disk".to_vec(),
    }
}

const SEGMENT: Segment = Segment {
    source: 0,
    destination: 1,
    in_destination_blocks: false,
    blocks: 0x8000,
    source_lba: 0x0102_0304_0506_0708,
    destination_lba: 0x1112_1314_1516_1718,
};

#[test]
fn extended_copy_lid1() {
    let (source, destination) = (naa(), t10());
    let cscds = [
        Cscd {
            designator: &source,
            device_type: 0,
            block_size: 512,
        },
        Cscd {
            designator: &destination,
            device_type: 0,
            block_size: 4096,
        },
    ];
    // SPC-4 6.4.3 (header), 6.4.5.2 (E4h), 6.4.6.4 (02h).
    let descriptors = "
        E4 00 0000 01 03 00 10 60014051234567890ABCDEF011223344 00000000 00 000200
        E4 00 0000 02 01 00 0C 4C494F2D4F5247206469736B 0000000000000000 00 001000
        02 00 0018 0000 0001 0000 8000 0102030405060708 1112131415161718";
    let without = format!("00 18 0040 00000000 0000001C 00000000 {descriptors}");
    assert_eq!(list_lid1(ListId::None, &cscds, &[SEGMENT]), hex(&without));
    let named = format!("7F 10 0040 00000000 0000001C 00000000 {descriptors}");
    assert_eq!(
        list_lid1(ListId::Discard(0x7f), &cscds, &[SEGMENT]),
        hex(&named)
    );
    assert_eq!(descriptors_bytes(2, 1), 92);
}

#[test]
fn several_segments_in_destination_blocks() {
    let name = naa();
    let cscd = Cscd {
        designator: &name,
        device_type: 0,
        block_size: 4096,
    };
    let segments = [
        Segment {
            destination: 0,
            in_destination_blocks: true,
            blocks: 1,
            source_lba: 2,
            destination_lba: 3,
            ..SEGMENT
        },
        Segment {
            destination: 0,
            blocks: 0xffff,
            source_lba: 4,
            destination_lba: 5,
            ..SEGMENT
        },
    ];
    let expected = hex("00 18 0020 00000000 00000038 00000000
        E4 00 0000 01 03 00 10 60014051234567890ABCDEF011223344 00000000 00 001000
        02 02 0018 0000 0000 0000 0001 0000000000000002 0000000000000003
        02 00 0018 0000 0000 0000 FFFF 0000000000000004 0000000000000005");
    assert_eq!(list_lid1(ListId::None, &[cscd], &segments), expected);
}

#[test]
fn extended_copy_lid4() {
    let name = naa();
    let cscd = Cscd {
        designator: &name,
        device_type: 0,
        block_size: 512,
    };
    // SPC-4 6.5: format 01h, LIST ID USAGE 10b, header CSCD list 0020h at 2,
    // type code FFh at 16, identifier at 20, lengths at 42.
    let expected = hex("01 10 0020 0000000000000000000000 00 FF 000000 A1B2C3D4
        000000000000000000000000000000000000 0020 001C 0000
        E4 00 0000 01 03 00 10 60014051234567890ABCDEF011223344 00000000 00 000200
        02 00 0018 0000 0001 0000 8000 0102030405060708 1112131415161718");
    assert_eq!(
        list_lid4(ListId::Discard(0xa1b2_c3d4), &[cscd], &[SEGMENT]),
        expected
    );
}

#[test]
fn a_designator_that_is_too_long_is_cut_and_never_overruns() {
    let long = Designator {
        kind: DesignatorType::T10VendorId,
        code_set: 2,
        bytes: vec![b'x'; 200],
    };
    assert!(!long.is_usable());
    let cscd = Cscd {
        designator: &long,
        device_type: 0x1f,
        block_size: u32::MAX,
    };
    assert_eq!(list_lid1(ListId::None, &[cscd], &[]).len(), 48);
}
