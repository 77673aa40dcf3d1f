//! Vectors written by hand from the tables of the specifications, and decoders
//! under any bytes.

use super::*;
use proptest::prelude::*;
use zerocopy::IntoBytes;

fn entries(format: Format, list: &[Entry]) -> Vec<u8> {
    // What was there before must not shine through reserved fields.
    let mut bytes = Vec::with_capacity(256);
    bytes.extend_from_slice(&[0xff; 200]);
    bytes.clear();
    for entry in list {
        format.put(entry, &mut bytes);
    }
    bytes
}

fn entry(nsid: u32, slba: u64, blocks: u32, fast_only: bool) -> Entry {
    Entry {
        nsid,
        slba,
        blocks,
        fast_only,
    }
}

/// NVM Command Set 1.0 figure 32: Descriptor Format 0h.
#[test]
fn format_0h() {
    let list = [
        entry(9, 0x1122_3344_5566_7788, 1, true),
        entry(9, 8, 65_536, false),
    ];
    #[rustfmt::skip]
    let wanted = [
        // 7:0 reserved
        0, 0, 0, 0, 0, 0, 0, 0,
        // 15:8 SLBA
        0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,
        // 17:16 NLB, 0's based; 23:18 reserved
        0, 0, 0, 0, 0, 0, 0, 0,
        // 27:24 ELBT, 29:28 ELBAT, 31:30 ELBATM
        0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0,
        8, 0, 0, 0, 0, 0, 0, 0,
        0xff, 0xff, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0,
    ];
    assert_eq!(entries(Format::Same, &list), wanted);
}

/// NVM Command Set 1.0 figure 33: Descriptor Format 1h.
#[test]
fn format_1h() {
    #[rustfmt::skip]
    let wanted = [
        0, 0, 0, 0, 0, 0, 0, 0,
        0x00, 0x10, 0, 0, 0, 0, 0, 0,
        // 17:16 NLB; 25:18 reserved
        0xff, 0x03, 0, 0, 0, 0, 0, 0,
        // 35:26 ELBT, 37:36 ELBAT, 39:38 ELBATM
        0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0,
    ];
    let list = [entry(0, 0x1000, 1024, false)];
    assert_eq!(entries(Format::SameWide, &list), wanted);
}

/// NVM Command Set 1.1, Descriptor Format 2h: the source's namespace, and SOPT
/// with Fast Copy Only in bit 15.
#[test]
fn format_2h() {
    #[rustfmt::skip]
    let wanted = [
        // 3:0 SNSID, 7:4 reserved
        0x04, 0x03, 0x02, 0x01, 0, 0, 0, 0,
        0, 0, 0, 0, 1, 0, 0, 0,
        // 17:16 NLB, 18 CETYPE, 21:20 CEV, 23:22 SOPT
        0x7f, 0x00, 0, 0, 0, 0, 0x00, 0x80,
        0, 0, 0, 0, 0, 0, 0, 0,
    ];
    let list = [entry(0x0102_0304, 1 << 32, 128, true)];
    assert_eq!(entries(Format::Cross, &list), wanted);
}

/// NVM Command Set 1.1, Descriptor Format 3h.
#[test]
fn format_3h() {
    #[rustfmt::skip]
    let wanted = [
        2, 0, 0, 0, 0, 0, 0, 0,
        5, 0, 0, 0, 0, 0, 0, 0,
        6, 0, 0, 0, 0, 0, 0x00, 0x80,
        0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0,
    ];
    assert_eq!(entries(Format::CrossWide, &[entry(2, 5, 7, true)]), wanted);
}

fn copy(ranges: usize, format: Format) -> Copy {
    Copy {
        nsid: 0x0a0b_0c0d,
        sdlba: 0x0102_0304_0506_0708,
        ranges,
        format,
        durable: false,
        protection: None,
    }
}

/// NVM Command Set 1.0 3.2.2 figures 27 to 31: the dwords.
#[test]
fn the_dwords_of_a_copy() {
    for (ranges, nr) in [(1, 0), (2, 1), (127, 126), (128, 127), (256, 255)] {
        let command = Command::copy(&copy(ranges, Format::Same));
        assert_eq!((command.opcode, command.flags), (0x19, 0));
        assert_eq!(command.nsid, 0x0a0b_0c0d);
        assert_eq!(command.cdw10, 0x0506_0708);
        assert_eq!(command.cdw11, 0x0102_0304);
        assert_eq!(command.cdw12, nr);
        let rest = [command.cdw2, command.cdw3, command.cdw13];
        assert_eq!(rest, [0; 3]);
        assert_eq!([command.cdw14, command.cdw15], [0; 2]);
        assert_eq!(command.copy_shape(), Some((ranges, Format::Same)));
    }
    // FUA is bit 30, the format bits 11:8.
    let durable = Copy {
        durable: true,
        ..copy(16, Format::CrossWide)
    };
    assert_eq!(Command::copy(&durable).cdw12, 0x4000_030f);
    // PRINFOR (15:12) checks the guard and strips, PRINFOW (29:26) inserts; the
    // initial reference tag is dword 14, and of a 64-bit guard 3, too.
    let protected = Copy {
        protection: Some(Protection {
            reference: 0x1122_3344_5566,
        }),
        ..copy(1, Format::SameWide)
    };
    let command = Command::copy(&protected);
    assert_eq!(command.cdw12, 0x2000_c100);
    assert_eq!((command.cdw3, command.cdw14), (0x1122, 0x3344_5566));
}

/// The struct of <linux/nvme_ioctl.h>, on a little-endian machine.
#[test]
#[cfg(target_endian = "little")]
fn the_kernels_struct() {
    let mut command = Command::copy(&copy(2, Format::Cross));
    command.addr = 0x1000_2000_3000_4000;
    command.data_len = 64;
    command.timeout_ms = 0x0102;
    #[rustfmt::skip]
    let wanted = [
        0x19, 0, 0, 0, 0x0d, 0x0c, 0x0b, 0x0a,
        0, 0, 0, 0, 0, 0, 0, 0,
        // metadata, addr
        0, 0, 0, 0, 0, 0, 0, 0,
        0x00, 0x40, 0x00, 0x30, 0x00, 0x20, 0x00, 0x10,
        // metadata_len, data_len
        0, 0, 0, 0, 64, 0, 0, 0,
        // dwords 10 to 15
        0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01,
        0x01, 0x02, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0,
        // timeout_ms, reserved
        0x02, 0x01, 0, 0, 0, 0, 0, 0,
    ];
    assert_eq!(command.as_bytes(), wanted);
}

/// NVMe Base 2.0 5.17, 5.15 and 5.27: CNS and feature identifier are in dword 10.
#[test]
fn the_dwords_of_admin_commands() {
    let identify = [
        (Command::identify_controller(), 0, 1),
        (Command::identify_namespace(7), 7, 0),
        (Command::identify_nvm(7), 7, 5),
    ];
    for (command, nsid, cns) in identify {
        assert_eq!((command.opcode, command.nsid), (0x06, nsid));
        assert_eq!((command.cdw10, command.cdw11), (cns, 0));
        assert_eq!(command.data_len, 4096);
    }
    let (get, set) = (Command::get_behavior(), Command::set_behavior());
    assert_eq!((get.opcode, get.cdw10, get.data_len), (0x0a, 0x16, 512));
    assert_eq!((set.opcode, set.cdw10, set.data_len), (0x09, 0x16, 512));
    assert_eq!((get.nsid, set.nsid), (0, 0));
    let flush = Command::flush(3);
    assert_eq!((flush.opcode, flush.nsid, flush.data_len), (0, 3, 0));
}

/// NVMe Base 2.0 figure 275: bytes of Identify Controller.
#[test]
fn identify_controller() {
    let mut data = vec![0; IDENTIFY_BYTES];
    // ONCS: what QEMU 10 says.
    data[520..522].copy_from_slice(&[0x5d, 0x07]);
    data[534..536].copy_from_slice(&[0x0f, 0x00]);
    data[386..388].copy_from_slice(&[0xe8, 0x03]);
    data[96..100].copy_from_slice(&[0x00, 0x80, 0x00, 0x00]);
    let wanted = Controller {
        copies: true,
        all_fast: true,
        formats: 0xf,
        quiesce_ms: 1000,
        extended_formats: true,
    };
    assert_eq!(Controller::parse(&data), Some(wanted));
    data[521] = 0xfa;
    let found = Controller::parse(&data).unwrap();
    assert!(!found.copies && !found.all_fast);
    assert_eq!(Controller::parse(&data[..535]), None);
}

/// NVM Command Set 1.0 figure 97: bytes of Identify Namespace; figure 100: ELBAF.
#[test]
fn identify_namespace() {
    let mut data = vec![0; IDENTIFY_BYTES];
    data[..8].copy_from_slice(&[0, 0, 0x10, 0, 0, 0, 0, 0]);
    // FLBAS: format 18 is low 2, high 1; bit 4 (extended metadata) is none of it.
    data[26] = 0b0011_0010;
    data[29] = 0b0000_1001;
    data[74..76].copy_from_slice(&[0x00, 0x04]);
    data[76..80].copy_from_slice(&[0x00, 0x10, 0x00, 0x00]);
    data[80] = 15;
    let place = 128 + 18 * 4;
    data[place..place + 4].copy_from_slice(&[8, 0, 12, 0]);
    let wanted = NamespaceData {
        blocks: 0x10_0000,
        format: LbaFormat {
            block: 4096,
            metadata: 8,
            pi: PiType::One,
            tags: Tags::default(),
        },
        format_index: 18,
        mssrl: 1024,
        mcl: 4096,
        msrc: 15,
    };
    assert_eq!(NamespaceData::parse(&data), Some(wanted));
    // LBADS 8 is reserved.
    data[place + 2] = 8;
    assert_eq!(NamespaceData::parse(&data).unwrap().format.block, 0);
    assert_eq!(NamespaceData::parse(&data[..383]), None);

    let mut data = vec![0; IDENTIFY_BYTES];
    // ELBAF 2: storage tag of 16 bits, 64-bit guard.
    data[20..24].copy_from_slice(&[0x10, 0x01, 0, 0]);
    let wanted = Tags {
        pif: 2,
        storage_bits: 16,
    };
    assert_eq!(Tags::parse(&data, 2), Some(wanted));
    assert_eq!(Tags::parse(&data, 64), None);
}

/// NVMe Base 2.0 figure 329: CDFE is bytes 5:4; the rest is kept.
#[test]
fn host_behavior() {
    let mut behavior = Behavior::default();
    behavior.bytes().fill(0xa0);
    behavior.bytes()[4..6].copy_from_slice(&[0b1_0000, 0x02]);
    assert_eq!(behavior.formats(), 0x0210);
    behavior.allow(0b1100);
    let mut wanted = [0xa0; BEHAVIOR_BYTES];
    wanted[4..6].copy_from_slice(&[0b1_1100, 0x02]);
    assert_eq!(behavior.bytes(), wanted);
}

proptest! {
    #[test]
    fn entries_come_back(
        number in 0u8..4,
        list in prop::collection::vec((any::<u32>(), any::<u64>(), 1..=MAX_BLOCKS, any::<bool>()), 0..300),
    ) {
        let format = Format::of(number).unwrap();
        let list: Vec<Entry> = list.into_iter().map(|(nsid, slba, blocks, fast)| {
            let names = format.names_source();
            entry(if names { nsid } else { 0 }, slba, blocks, names && fast)
        }).collect();
        let bytes = entries(format, &list);
        prop_assert_eq!(bytes.len(), list.len() * format.entry_bytes());
        prop_assert_eq!(format.entries(&bytes).collect::<Vec<_>>(), list);
    }

    #[test]
    fn any_bytes_are_read(
        bytes in prop::collection::vec(any::<u8>(), 0..5000),
        index in any::<usize>(),
    ) {
        let _ = Controller::parse(&bytes);
        let found = NamespaceData::parse(&bytes);
        prop_assert!(found.is_none_or(|n| n.format_index < 64 && n.format.block != 1));
        let _ = Tags::parse(&bytes, index);
        for number in 0..8 {
            if let Some(format) = Format::of(number) {
                let n = format.entries(&bytes).count();
                prop_assert_eq!(n, bytes.len() / format.entry_bytes());
            }
        }
    }
}
