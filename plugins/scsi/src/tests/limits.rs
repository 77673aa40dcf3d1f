//! Limits of copy managers, the real ones and absurd ones.

use crate::limits::{Limits, Stated, limits};
use proptest::prelude::*;

const LIO: Stated = Stated {
    cscds: 2,
    segments: 1,
    descriptors_bytes: 1024,
    segment_bytes: 256 << 20,
    granularity_log2: 9,
    concurrent: 1,
    identified: 1,
    without_list_id: true,
    copies_blocks: true,
};

fn of(stated: Stated, src: u32, dst: u32) -> Limits {
    limits(&stated, src, dst, false).expect("usable")
}

fn refused(stated: Stated, block: u32) -> String {
    limits(&stated, block, block, false).expect_err("not usable")
}

#[test]
fn real_targets() {
    let lio = of(LIO, 512, 512);
    // 16 bits of blocks are less than its 256 MiB.
    assert_eq!(
        (lio.segments, lio.segment_bytes, lio.command_bytes),
        (1, 65535 * 512, 65535 * 512)
    );
    assert_eq!((lio.granularity, lio.concurrent), (512, 1));
    let lio = of(LIO, 4096, 4096);
    assert_eq!((lio.granularity, lio.command_bytes), (4096, 64 << 20));
    let scst = Stated {
        cscds: 5,
        segments: 100,
        descriptors_bytes: 65535,
        granularity_log2: 16,
        concurrent: 65535,
        identified: 255,
        ..LIO
    };
    let found = of(scst, 512, 512);
    assert_eq!((found.granularity, found.segments), (65536, 64));
    assert_eq!(found.segment_bytes, 65535 * 512 / 65536 * 65536);
    assert_eq!((found.command_bytes, found.concurrent), (64 << 20, 65535));
    // COMSTAR: no limit of a segment.
    let comstar = Stated {
        segment_bytes: 0,
        descriptors_bytes: 65535,
        ..LIO
    };
    assert_eq!(of(comstar, 512, 512).segment_bytes, 65535 * 512);
    // An array with room for just one segment: 92 bytes.
    let array = Stated {
        descriptors_bytes: 92,
        concurrent: 0,
        identified: 255,
        ..LIO
    };
    assert_eq!(
        (of(array, 512, 512).segments, of(array, 512, 512).concurrent),
        (1, 255)
    );
    // Identified copies have a limit of their own.
    let identified = Stated {
        without_list_id: false,
        concurrent: 100,
        identified: 7,
        ..LIO
    };
    assert_eq!(of(identified, 512, 512).concurrent, 7);
    // One descriptor for both ends of a copy within a unit.
    assert!(
        limits(&Stated { cscds: 1, ..LIO }, 512, 512, true)
            .expect("usable")
            .one_cscd
    );
}

#[test]
fn unequal_blocks() {
    let found = of(LIO, 512, 4096);
    assert_eq!((found.granularity, found.segment_bytes), (4096, 64 << 20));
    let core = found.for_core();
    assert_eq!((core.src_granularity, core.dst_granularity), (512, 4096));
    assert_eq!(core.length_granularity, 4096);
}

#[test]
fn absurd_limits_say_so() {
    // tcmu-runner before its pull request 338.
    let short = refused(
        Stated {
            segment_bytes: 1024,
            ..LIO
        },
        4096,
    );
    assert!(
        short.contains("1024 bytes") && short.contains("4096"),
        "{short}"
    );
    assert!(refused(Stated { cscds: 1, ..LIO }, 512).contains("needs 2"));
    assert!(refused(Stated { cscds: 0, ..LIO }, 512).contains("0 CSCD"));
    assert!(refused(Stated { segments: 0, ..LIO }, 512).contains("no segment"));
    assert!(
        refused(
            Stated {
                descriptors_bytes: 91,
                ..LIO
            },
            512
        )
        .contains("needs 92")
    );
    assert!(
        refused(
            Stated {
                descriptors_bytes: 0,
                ..LIO
            },
            512
        )
        .contains("needs 92")
    );
    assert!(
        refused(
            Stated {
                granularity_log2: 200,
                ..LIO
            },
            512
        )
        .contains("2^200")
    );
    assert!(
        refused(
            Stated {
                granularity_log2: 30,
                ..LIO
            },
            512
        )
        .contains("less than")
    );
    assert!(
        refused(
            Stated {
                copies_blocks: false,
                ..LIO
            },
            512
        )
        .contains("block device")
    );
}

proptest! {
    #[test]
    fn whatever_a_target_states_limits_are_consistent(
        cscds: u16, segments: u16, descriptors_bytes: u32, segment_bytes: u32,
        granularity_log2: u8, concurrent: u32, identified: u32, without_list_id: bool,
        src in 9u32..17, dst in 9u32..17, same: bool,
    ) {
        let stated = Stated {
            cscds, segments, descriptors_bytes, segment_bytes, granularity_log2, concurrent,
            identified, without_list_id, copies_blocks: true,
        };
        if let Ok(found) = limits(&stated, 1 << src, 1 << dst, same) {
            prop_assert!(found.segments >= 1 && found.segment_bytes > 0);
            prop_assert!(found.segment_bytes <= found.command_bytes);
            prop_assert!(found.segment_bytes % u64::from(found.granularity) == 0);
            prop_assert!(found.command_bytes % u64::from(found.granularity) == 0);
            let blocks = found.segment_bytes >> src.max(dst);
            prop_assert!((1..=65535).contains(&blocks));
            prop_assert!(segment_bytes == 0 || found.segment_bytes <= segment_bytes.into());
            let bytes = if found.one_cscd { 32 } else { 64 } + 28 * u64::from(found.segments);
            prop_assert!(bytes <= descriptors_bytes.into());
        }
    }
}
