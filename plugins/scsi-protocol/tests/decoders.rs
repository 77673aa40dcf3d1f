//! Every decoder against bytes written by hand from the standards' tables.

use xcopy_scsi_protocol::wire::block::{BlockLimits, Capacity};
use xcopy_scsi_protocol::wire::designator::{DesignatorType, by_preference, designators, is_whole};
use xcopy_scsi_protocol::wire::inquiry::{Inquiry, serial_number, supported_pages};
use xcopy_scsi_protocol::wire::operating::OperatingParameters;
use xcopy_scsi_protocol::wire::sense::{FieldPointer, Forwarded, Sense, Side};
use xcopy_scsi_protocol::wire::status::{
    CopyState, FailureDetails, StatusLid1, StatusLid4, unit_bytes,
};
use xcopy_scsi_protocol::wire::third_party::{RodLimits, ThirdParty};

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
fn standard_inquiry_data() {
    // SPC-4 6.6.2: SPC-3 device, 31 more bytes, 3PC and PROTECT.
    let mut bytes = hex("00 00 05 02 1F 09 00 02");
    bytes.extend(b"LIO-ORG disk            4.0 ");
    let inquiry = Inquiry::parse(&bytes).expect("INQUIRY data");
    assert_eq!(
        (inquiry.vendor.as_str(), inquiry.product.as_str()),
        ("LIO-ORG", "disk")
    );
    assert_eq!((inquiry.revision.as_str(), inquiry.version), ("4.0", 5));
    assert!(inquiry.third_party_copy && inquiry.protect && inquiry.is_disk());
    // Beyond ADDITIONAL LENGTH there is nothing, and no 3PC.
    bytes[4] = 0;
    assert!(!Inquiry::parse(&bytes).expect("five bytes").third_party_copy);
    assert_eq!(Inquiry::parse(&bytes[..4]), None);
    let gone = Inquiry::parse(&hex("7F 00 05 02 1F")).expect("five bytes");
    assert_eq!((gone.qualifier, gone.device_type), (3, 0x1f));
}

#[test]
fn pages_of_lists_and_texts() {
    // SPC-4 7.8.14, 7.8.15.
    assert_eq!(
        supported_pages(&hex("00 00 0003 00 83 8F")),
        Some(&[0, 0x83, 0x8f][..])
    );
    assert_eq!(
        supported_pages(&hex("00 00 FFFF 00 83")),
        Some(&[0, 0x83][..])
    );
    assert_eq!(supported_pages(&hex("00 83 0001 00")), None);
    assert_eq!(
        serial_number(&hex("00 80 0006 20 41 42 31 20 20")).as_deref(),
        Some("AB1")
    );
}

#[test]
fn device_identification() {
    // SPC-4 7.8.6: NAA 6h; a relative target port (association 1); T10; EUI-64;
    // a SCSI name; UUID; NAA 5h.
    let page = hex("00 83 006C
        01 03 00 10 60014051234567890ABCDEF011223344
        51 94 00 04 00000001
        02 01 00 0C 4C494F2D4F5247206469736B
        01 02 00 08 0123456789ABCDEF
        03 08 00 08 6571312E2E2E2E00
        01 0A 00 12 10 00 0102030405060708090A0B0C0D0E0F10
        01 03 00 08 5000C50012345678
        01 00 00 02 4142");
    assert!(is_whole(&page));
    let all = designators(&page).expect("page 83h");
    let kinds: Vec<_> = all.iter().map(|d| d.kind).collect();
    use DesignatorType::*;
    assert_eq!(
        kinds,
        [Naa, T10VendorId, Eui64, ScsiName, Uuid, Naa, VendorSpecific]
    );
    let best = by_preference(&all);
    let kinds: Vec<_> = best.iter().map(|d| (d.kind, d.naa())).collect();
    assert_eq!(
        kinds,
        [
            (Naa, Some(6)),
            (Naa, Some(5)),
            (Eui64, None),
            (Uuid, None),
            (T10VendorId, None)
        ]
    );
    assert_eq!(best[0].to_string(), "NAA 60014051234567890abcdef011223344");
    assert_eq!(best[4].to_string(), "T10 LIO-ORG disk");
    // A part of a name is no name.
    let cut = designators(&page[..20]).expect("page 83h");
    assert!(cut.is_empty());
    assert!(!is_whole(&page[..page.len() - 1]));
    // All zero, or longer than a CSCD descriptor has room for: not used.
    let bad = hex("00 83 0022 01 03 00 08 0000000000000000 02 01 00 15
        414141414141414141414141414141414141414141");
    assert_eq!(by_preference(&designators(&bad).expect("page 83h")), []);
}

#[test]
fn capacity_and_limits() {
    // SBC-3 5.16.2: last LBA 01FFFFh, 4096 bytes, PROT_EN, LBPRZ.
    let bytes = hex("000000000001FFFF 00001000 01 00 4000 00000000000000000000000000000000");
    let capacity = Capacity::parse(&bytes).expect("capacity");
    assert_eq!((capacity.blocks, capacity.block_size), (0x20000, 4096));
    assert_eq!(capacity.bytes(), 512 << 20);
    assert!(capacity.protected && capacity.unmapped_is_zero);
    // LOGICAL BLOCKS PER PHYSICAL BLOCK EXPONENT 3.
    let bytes = hex("000000000001FFFF 00000200 00 03 0000");
    assert_eq!(
        Capacity::parse(&bytes).map(|c| c.physical_block_size),
        Some(4096)
    );
    for garbage in [
        "000000000001FFFF 00000000",
        "000000000001FFFF 00000201",
        "000000000001FFFF 00000100",
        "FFFFFFFFFFFFFFFF 00000200",
        "7FFFFFFFFFFFFFFF 00000200",
        "000000000001FFFF 0002",
        "",
    ] {
        assert_eq!(Capacity::parse(&hex(garbage)), None, "{garbage}");
    }
    // SBC-3 6.6.4: granularity 8, transfer 8000h, optimal 80h, write same FFFFh.
    let page = hex("00 B0 003C 01 00 0008 00008000 00000080 00000000
        00000000 00000000 00000000 00000000 000000000000FFFF");
    let limits = BlockLimits::parse(&page).expect("page B0h");
    assert_eq!(
        (
            limits.granularity,
            limits.max_transfer,
            limits.optimal_transfer
        ),
        (8, 0x8000, 0x80)
    );
    assert_eq!(
        (limits.max_write_same, limits.write_same_non_zero),
        (0xffff, true)
    );
    assert_eq!(BlockLimits::parse(&page[..11]), None);
}

#[test]
fn operating_parameters() {
    // SPC-4 6.21, as LIO answers: 42 bytes follow, SNLID, 2 CSCDs, 1 segment,
    // 1024 bytes, 256 MiB, granularity 2^9, 1 and 1 at once, types 02h and E4h.
    let bytes = hex(
        "0000002A 01 000000 0002 0001 00000400 10000000 00000000 00000000
        00000000 0000 0001 01 09 00 00 000000 02 02 E4",
    );
    let operating = OperatingParameters::parse(&bytes).expect("parameters");
    let expected = OperatingParameters {
        without_list_id: true,
        max_cscds: 2,
        max_segments: 1,
        max_descriptors_bytes: 1024,
        max_segment_bytes: 256 << 20,
        max_inline_bytes: 0,
        held_bytes: 0,
        total_concurrent: 1,
        max_concurrent: 1,
        segment_granularity_log2: 9,
        types: vec![0x02, 0xe4],
    };
    assert_eq!(operating, expected);
    assert!(operating.takes_type(0xe4) && !operating.takes_type(0x0a));
    assert_eq!(OperatingParameters::parse(&bytes[..39]), None);
    // A list of types that is longer than what was sent.
    let mut long = bytes.clone();
    long[43] = 0xff;
    assert_eq!(
        OperatingParameters::parse(&long).map(|o| o.types.len()),
        Some(2)
    );
}

#[test]
fn copy_status() {
    // SPC-4 6.22: held data, error, 3 segments, in MiB, 7.
    let status = StatusLid1::parse(&hex("00000008 82 0003 02 00000007")).expect("a status");
    assert!(status.held);
    assert_eq!(
        (status.state, status.segments, status.units, status.count),
        (CopyState::Failed, 3, 2, 7)
    );
    assert_eq!(
        StatusLid1::parse(&hex("00000007 82 0003 02 00000007")),
        None
    );
    assert_eq!(StatusLid1::parse(&hex("00000008 82 0003 02 000000")), None);
    // SPC-4 6.20: status at 56, two bytes of length, sense data.
    let mut details = hex("0000004A");
    details.extend([0; 52]);
    details.extend(hex("02 00 0012 70000A00000000 0A 00000000 0D 02 00000000"));
    let details = FailureDetails::parse(&details).expect("details");
    assert_eq!((details.status, details.sense.len()), (2, 18));
    assert_eq!(FailureDetails::parse(&hex("00000000")), None);
    // SPC-4 6.23: of 83h/11h, ended with errors, counter 2, delay 500 ms, CHECK
    // CONDITION, 18 bytes of room, 8 of sense, KiB, 2048, 1 segment.
    let mut bytes = hex(
        "00000030 11 02 0002 000001F4 02 12 08 01 0000000000000800 0001
        000000000000 72 0A 0D 01 00 00 00 00",
    );
    bytes.extend([0; 10]);
    let status = StatusLid4::parse(&bytes).expect("a status");
    assert_eq!(
        (status.service_action, status.state),
        (0x11, CopyState::Failed)
    );
    assert_eq!(
        (status.counter, status.delay_ms, status.status),
        (2, Some(500), 2)
    );
    assert_eq!(
        (status.sense.as_slice(), status.tail),
        (&hex("720A0D0100000000")[..], 50)
    );
    assert_eq!((status.bytes(512), status.segments), (Some(2 << 20), 1));
    for (code, state) in [
        (0x01, CopyState::Done),
        (0x03, CopyState::DonePartialRod),
        (0x04, CopyState::Residual),
        (0x10, CopyState::InProgress),
        (0x11, CopyState::InProgress),
        (0x12, CopyState::InProgress),
        (0x60, CopyState::Terminated),
        (0x33, CopyState::Unknown(0x33)),
    ] {
        assert_eq!(CopyState::of(code), state);
    }
    // No advice: 0, FFFFFFFEh, FFFFFFFFh.
    for none in [0_u32, 0xffff_fffe, 0xffff_ffff] {
        bytes[8..12].copy_from_slice(&none.to_be_bytes());
        assert_eq!(StatusLid4::parse(&bytes).and_then(|s| s.delay_ms), None);
    }
    assert_eq!(StatusLid4::parse(&bytes[..31]), None);
}

#[test]
fn transfer_count_units() {
    for (code, bytes) in [
        (0x00, Some(1)),
        (0x01, Some(1 << 10)),
        (0x02, Some(1 << 20)),
        (0x03, Some(1 << 30)),
        (0x04, Some(1 << 40)),
        (0x05, Some(1 << 50)),
        (0x06, Some(1 << 60)),
        (0x07, None),
        (0xf1, Some(4096)),
        (0xff, None),
    ] {
        assert_eq!(unit_bytes(code, 4096), bytes, "{code:02X}h");
    }
}

#[test]
fn third_party_copy_page() {
    // SPC-4 7.8.17, SBC-4 6.6.9: ROD limits; commands 83h {00,10,11}, 84h {03,07};
    // parameter limits; descriptors; CSCD FFFFh; an unknown descriptor; one of
    // length 0; general limits.
    let page = hex("00 8F 0080
        0000 0020 000000000000 0040 00000258 0000003C 0000000000004000 0000000000002000
        0001 000C 09 83 03 00 10 11 84 02 03 07 00 00
        0004 001C 00000000 0040 0040 00002000 00000000 00000000 00000000 00000000
        0008 0004 03 02 07 E4
        000C 0004 0002 FFFF
        7777 0000
        8001 0014 000000FF 000000FE 01000000 09 00 0000 00000000");
    let found = ThirdParty::parse(&page).expect("page 8Fh");
    let limits = RodLimits {
        max_ranges: 64,
        max_inactivity_s: 600,
        default_inactivity_s: 60,
        max_blocks: 0x4000,
        optimal_blocks: 0x2000,
    };
    assert_eq!(found.rod_limits, Some(limits));
    assert!(found.has_command(0x83, 0x11) && found.has_command(0x84, 0x07));
    assert!(!found.has_command(0x83, 0x01) && !found.has_command(0x84, 0x11));
    assert_eq!(found.parameter_limits, Some((64, 64, 8192)));
    assert_eq!(found.descriptors, [0x02, 0x07, 0xe4]);
    assert_eq!(found.cscd_ids, [0xffff]);
    assert_eq!(found.general, Some((255, 254, 0x0100_0000, 9)));
    assert_eq!(ThirdParty::parse(&hex("00 83 0000")), None);
    // Counts that reach beyond the descriptor, and a descriptor beyond the page.
    let odd = hex("00 8F 000D 0001 0003 FF 83 FF 0008 FFFF FF 02");
    let found = ThirdParty::parse(&odd).expect("page 8Fh");
    assert_eq!(found.commands, [(0x83, vec![])]);
    assert_eq!(found.descriptors, [0x02]);
}

#[test]
fn fixed_sense() {
    // SPC-4 4.5.3: ILLEGAL REQUEST 26h/00h, field pointer to parameter byte 000Ah
    // bit 3.
    let sense =
        Sense::parse(&hex("70 00 05 00000000 0A 00000000 26 00 00 8B 000A")).expect("sense");
    assert_eq!(sense.code(), (5, 0x26, 0x00));
    let field = FieldPointer {
        in_cdb: false,
        in_segment: false,
        byte: 10,
        bit: Some(3),
    };
    assert_eq!(sense.field, Some(field));
    // Deferred, with INFORMATION.
    let sense = Sense::parse(&hex("F1 00 03 00001234 0A 00000000 11 00 00 000000")).expect("sense");
    assert!(sense.deferred);
    assert_eq!((sense.key, sense.information), (3, Some(0x1234)));
    // COPY ABORTED with what source (at 18) and destination (at 27) said:
    // RESERVATION CONFLICT, and CHECK CONDITION with DATA PROTECT; segment 2.
    let bytes = hex("70 00 0A 00000000 1B 12 13 0002 0D 01 00 000000 18
        02 70 00 07 00000000 06 00000000 27 00");
    let sense = Sense::parse(&bytes).expect("sense");
    assert_eq!((sense.code(), sense.segment), ((0xa, 0x0d, 0x01), Some(2)));
    assert_eq!(
        sense.forwarded,
        [
            Forwarded {
                side: Side::Source,
                status: 0x18,
                code: None
            },
            Forwarded {
                side: Side::Destination,
                status: 0x02,
                code: Some((7, 0x27, 0))
            },
        ]
    );
    // Cut before ASC: NO ADDITIONAL SENSE. Nothing beyond ADDITIONAL SENSE LENGTH.
    assert_eq!(
        Sense::parse(&hex("70 00 06")).map(|s| s.code()),
        Some((6, 0, 0))
    );
    let short = Sense::parse(&hex("70 00 06 00000000 02 00000000 29 00"));
    assert_eq!(short.map(|s| s.code()), Some((6, 0, 0)));
    for none in ["", "70", "70 00", "00 00 05", "7F 00 05", "FF"] {
        assert_eq!(Sense::parse(&hex(none)), None, "{none}");
    }
}

#[test]
fn descriptor_sense() {
    // SPC-4 4.5.2: COPY ABORTED 26h/0Dh; INFORMATION, COMMAND-SPECIFIC
    // INFORMATION with segment 3, a field pointer into the segment descriptor,
    // forwarded sense of the destination (4.5.2.8), an unknown descriptor.
    let bytes = hex("72 0A 26 0D 00 00 00 3A
        00 0A 80 00 0000000000001000
        01 0A 00 00 0000000300000000
        02 06 00 00 A0 000A 00
        0C 0A 02 02 72 06 29 00 00 00 00 00
        80 06 000000000000");
    let sense = Sense::parse(&bytes).expect("sense");
    assert_eq!(sense.code(), (0xa, 0x26, 0x0d));
    assert_eq!((sense.information, sense.segment), (Some(0x1000), Some(3)));
    let field = FieldPointer {
        in_cdb: false,
        in_segment: true,
        byte: 10,
        bit: None,
    };
    assert_eq!(sense.field, Some(field));
    let forwarded = Forwarded {
        side: Side::Destination,
        status: 2,
        code: Some((6, 0x29, 0)),
    };
    assert_eq!(sense.forwarded, [forwarded]);
    // The segment right-aligned, as copy managers do that fill four bytes.
    let bytes = hex("72 0A 0D 01 00 00 00 0C 01 0A 00 00 0000000000000007");
    assert_eq!(Sense::parse(&bytes).and_then(|s| s.segment), Some(7));
    // A descriptor that states more than was sent.
    let bytes = hex("72 0A 0D 01 00 00 00 FF 0C FF 01");
    assert_eq!(Sense::parse(&bytes).map(|s| s.forwarded), Some(vec![]));
    assert_eq!(
        Sense::parse(&hex("73 05 24 00")).map(|s| s.deferred),
        Some(true)
    );
}
