//! The commands of a disk (SBC-3 clause 5), reservations, modes, and whatever
//! bytes one may send.

use std::time::{Duration, Instant};

use copy_manager::{CopyManager, DiskOptions, Kind, Personality, ServiceTimes};

use crate::lid1::{blocks, cdb, list, naa_cscd};
use crate::rig::{MIB, Rig, hex, stamp};

#[test]
fn capacity() {
    let rig = Rig::new(Personality::ctl());
    assert_eq!(
        rig.data(0, "25 00 00000000 0000 00 00", &[]),
        hex("00007fff 00000200")
    );
    let mut long = hex("0000000000000fff 00001000");
    long.resize(32, 0);
    assert_eq!(
        rig.data(2, "9e 10 0000000000000000 00000020 00 00", &[]),
        long
    );
    rig.manager.resize(2, 16);
    assert_eq!(
        rig.refused(2, "25 00 00000000 0000 00 00", &[]),
        (6, 0x2A, 0x09)
    );
    assert_eq!(
        rig.data(2, "25 00 00000000 0000 00 00", &[]),
        hex("0000000f 00001000")
    );
}

#[test]
fn read_and_write_of_every_length() {
    let rig = Rig::new(Personality::ctl());
    let eight = stamp(0, 3 * 512, 8 * 512);
    for cdb in [
        "08 000003 08 00",
        "28 00 00000003 00 0008 00",
        "a8 00 00000003 00000008 00 00",
        "88 00 0000000000000003 00000008 00 00",
    ] {
        assert_eq!(rig.data(0, cdb, &[]), eight, "{cdb}");
    }
    for (n, cdb) in [
        "0a 000003 08 00",
        "2a 00 00000003 00 0008 00",
        "aa 00 00000003 00000008 00 00",
        "8a 00 0000000000000003 00000008 00 00",
    ]
    .into_iter()
    .enumerate()
    {
        let bytes = stamp(0x80 + n as u8, 3 * 512, 8 * 512);
        rig.data(1, cdb, &bytes);
        assert_eq!(rig.peek(1, 3 * 512, 8 * 512), bytes, "{cdb}");
    }
    rig.untouched_but(1, 3 * 512, 8 * 512);
    // READ (6) of 0 blocks is 256, of READ (10) none.
    assert_eq!(rig.data(0, "08 000000 00 00", &[]).len(), 256 * 512);
    assert!(rig.data(0, "28 00 00000000 00 0000 00", &[]).is_empty());
    let reply = rig.go(0, "28 00 00007fff 00 0002 00", &[]);
    // LBA OUT OF RANGE with the first that is not there.
    assert_eq!(
        reply.sense,
        hex("f0 00 05 00008000 0a 00000000 21 00 00 000000")
    );
}

#[test]
fn write_protection_and_bad_blocks() {
    let rig = Rig::new(Personality::array());
    rig.manager.protect(1, true);
    assert_eq!(
        rig.refused(1, "2a 00 00000000 00 0001 00", &[0; 512]),
        (7, 0x27, 0)
    );
    assert_eq!(
        rig.refused(1, "93 01 0000000000000000 00000001 00 00", &[]),
        (7, 0x27, 0)
    );
    // MODE SENSE (6): WP.
    assert_eq!(rig.data(1, "1a 08 3f 00 ff 00", &[])[2], 0x90);
    rig.manager.protect(1, false);
    rig.manager.spoil(1, 5);
    let reply = rig.go(1, "28 00 00000000 00 0008 00", &[]);
    assert_eq!(
        reply.sense,
        hex("72 03 11 00 0000000c 00 0a 8000 0000000000000005")
    );
    rig.data(1, "2a 00 00000005 00 0001 00", &[1; 512]);
    assert_eq!(rig.data(1, "28 00 00000005 00 0001 00", &[]), [1; 512]);
}

#[test]
fn write_same() {
    let rig = Rig::new(Personality::ctl());
    // NDOB: zeroes without a block.
    rig.data(1, "93 01 0000000000000010 00000100 00 00", &[]);
    assert_eq!(rig.peek(1, 16 * 512, 256 * 512), vec![0; 256 * 512]);
    rig.untouched_but(1, 16 * 512, 256 * 512);
    let pattern = stamp(7, 0, 512);
    rig.data(
        2,
        "93 00 0000000000000010 00000003 00 00",
        &[&pattern[..]; 8].concat(),
    );
    assert_eq!(
        rig.peek(2, 16 * 4096, 3 * 4096),
        [&pattern[..]; 24].concat()
    );
    // UNMAP needs provisioning; 32 MiB at most (VPD page B0h).
    assert_eq!(
        rig.refused(1, "93 08 0000000000000010 00000100 00 00", &[0; 512]),
        (5, 0x24, 0)
    );
    let limit = rig.data(1, "12 01 b0 00 ff 00", &[])[36..44].to_vec();
    assert_eq!(limit, hex("0000000000010000"));
}

#[test]
fn the_rest_of_a_disk() {
    let rig = Rig::new(Personality::array());
    rig.data(0, "91 00 0000000000000000 00000000 00 00", &[]);
    rig.data(0, "35 00 00000000 00 0000 00", &[]);
    rig.data(0, "1b 00 00 00 01 00", &[]);
    // Caching page with WCE, Control page with D_SENSE.
    assert_eq!(
        rig.data(0, "1a 08 08 00 ff 00", &[])[..7],
        hex("17 00 10 00 08 12 04")
    );
    assert_eq!(
        rig.data(0, "5a 08 0a 00 00 00 00 00 ff 00", &[])[..11],
        hex("0012 00 10 0000 0000 0a 0a 04")
    );
    assert_eq!(rig.refused(0, "1a 08 1c 00 ff 00", &[]), (5, 0x24, 0));
    assert_eq!(
        rig.refused(0, "5c 00 00 00 00 00 00 00 00 00", &[]),
        (5, 0x20, 0)
    );
    rig.manager.raise_attention(rig.nexus, 0, 0x2A, 0x01);
    assert_eq!(
        rig.data(0, "03 00 00 00 12 00", &[]),
        hex("70 00 06 00000000 0a 00000000 2a 01 00 000000")
    );
    assert_eq!(
        rig.data(0, "03 01 00 00 12 00", &[]),
        hex("72 00 00 00 00000000")
    );
}

/// SPC-4 5.13: a write is for the holder, a read too if access is exclusive.
#[test]
fn reservations() {
    let rig = Rig::new(Personality::array());
    let other = rig.manager.nexus("other");
    let go = |nexus, unit: usize, cdb: &str, out: &[u8]| {
        rig.manager.execute(nexus, unit, &hex(cdb), out).status
    };
    (0..4).for_each(|unit| assert_eq!(go(other, unit, "00 00 00 00 00 00", &[]), 2));
    let keys = hex("0000000000000000 00000000000000aa 0000000000000000");
    let out = |action: u8, kind: u8| format!("5f {action:02x} {kind:02x} 0000 0000 0018 00");
    assert_eq!(go(other, 1, &out(0, 0), &keys), 0);
    let keys = hex("00000000000000aa 0000000000000000 0000000000000000");
    assert_eq!(go(other, 1, &out(1, 1), &keys), 0);
    // WRITE EXCLUSIVE: we may read, not write, nor copy to it; it may.
    let write = "2a 00 00000000 00 0001 00";
    let read = "28 00 00000000 00 0001 00";
    assert_eq!(go(rig.nexus, 1, write, &[0; 512]), 0x18);
    assert_eq!(go(rig.nexus, 1, read, &[]), 0);
    assert_eq!(go(other, 1, write, &[0; 512]), 0);
    let fields = list(
        "00 18",
        &[naa_cscd(0), naa_cscd(1)],
        &[blocks(0, 1, 8, 0, 0)],
    );
    assert_eq!(go(rig.nexus, 1, &cdb(&fields), &fields), 0x18);
    // Sent to the source, the destination's conflict is forwarded.
    let reply = rig.go(0, &cdb(&fields), &fields);
    assert_eq!(reply.sense[..4], hex("72 0a 0d 01"));
    assert_eq!(reply.sense[20..], hex("0c 02 02 18"));
    assert_eq!(
        rig.data(1, "5e 01 000000 0000 00ff 00", &[]),
        hex("00000001 00000010 00000000000000aa 0000000000010000")
    );
    assert_eq!(
        rig.data(1, "5e 00 000000 0000 00ff 00", &[]),
        hex("00000001 00000008 00000000000000aa")
    );
    // Release, then EXCLUSIVE ACCESS: reads are shut out too.
    assert_eq!(go(other, 1, &out(2, 1), &keys), 0);
    assert_eq!(go(other, 1, &out(1, 3), &keys), 0);
    assert_eq!(go(rig.nexus, 1, read, &[]), 0x18);
    // We register and preempt.
    let mine = hex("0000000000000000 00000000000000bb 0000000000000000");
    assert_eq!(go(rig.nexus, 1, &out(6, 0), &mine), 0);
    let preempt = hex("00000000000000bb 00000000000000aa 0000000000000000");
    assert_eq!(go(rig.nexus, 1, &out(4, 1), &preempt), 0);
    assert_eq!(go(other, 1, write, &[0; 512]), 0x18);
    assert_eq!(go(rig.nexus, 1, write, &[0; 512]), 0);
    // COMSTAR answers the status itself, for either unit.
    let rig = Rig::new(Personality::comstar());
    let other = rig.manager.nexus("other");
    rig.manager
        .execute(other, 0, &hex("00 00 00 00 00 00"), &[]);
    for (action, kind, key) in [
        (0, 0, "0000000000000000 00000000000000aa"),
        (1, 3, "00000000000000aa 0000000000000000"),
    ] {
        let keys = hex(&format!("{key} 0000000000000000"));
        assert!(
            rig.manager
                .execute(other, 0, &hex(&out(action, kind)), &keys)
                .good()
        );
    }
    let fields = list(
        "00 18",
        &[naa_cscd(0), naa_cscd(1)],
        &[blocks(0, 1, 8, 0, 0)],
    );
    assert_eq!(rig.go(1, &cdb(&fields), &fields).status, 0x18);
}

/// Commands take their time side by side, as many at once as there are lanes.
#[test]
fn service_times() {
    let manager = CopyManager::new(Personality::ctl());
    manager.add_disk(DiskOptions::new(512, MIB));
    let nexus = manager.nexus("tests");
    manager.execute(nexus, 0, &[0; 6], &[]);
    let time = Duration::from_millis(20);
    let run = |lanes| {
        manager.set_service(ServiceTimes {
            by_kind: [(Kind::Read, time)].into(),
            lanes,
            ..ServiceTimes::default()
        });
        let started = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| manager.execute(nexus, 0, &hex("28 00 00000000 00 0001 00"), &[]));
            }
        });
        started.elapsed()
    };
    assert!(run(1) >= time * 4);
    assert_eq!(manager.most_in_service(), 1);
    let together = run(0);
    assert!(
        together >= time && manager.most_in_service() == 4,
        "{together:?}"
    );
    manager.set_service(ServiceTimes::default());
}

/// While a copy is in service others are told so (SPC-4: 11h, foreground).
#[test]
fn a_copy_in_service_is_seen_to_run() {
    let manager = CopyManager::new(Personality::array());
    for _ in 0..2 {
        manager.add_disk(DiskOptions::new(512, MIB));
    }
    let nexus = manager.nexus("tests");
    (0..2).for_each(|unit| drop(manager.execute(nexus, unit, &[0; 6], &[])));
    let time = Duration::from_millis(200);
    manager.set_service(ServiceTimes {
        by_kind: [(Kind::ExtendedCopyLid1, time)].into(),
        ..ServiceTimes::default()
    });
    let fields = list(
        "07 10",
        &[naa_cscd(0), naa_cscd(1)],
        &[blocks(0, 1, 8, 0, 0)],
    );
    let copy = || manager.execute(nexus, 1, &hex(&cdb(&fields)), &fields);
    std::thread::scope(|scope| {
        let first = scope.spawn(copy);
        while manager.running() == 0 {
            std::thread::yield_now();
        }
        let status = hex("84 00 07 00 00 00 00 00 00 00 00 00 00 ff 00 00");
        assert_eq!(manager.execute(nexus, 1, &status, &[]).data[4], 0);
        assert_eq!(copy().codes(), Some((5, 0, 0x16)));
        // Its nexus is lost: it ends without its copy.
        manager.lose_nexus(nexus);
        assert_eq!(first.join().unwrap().status, 0x40);
    });
}

/// Whatever is sent: an answer, no panic, and nothing written by what was refused.
#[test]
fn random_bytes() {
    let mut state = 0x1234_5678_9ABC_DEF1u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for name in ["ctl", "lio", "array", "scst", "comstar", "windows", "liar"] {
        let rig = Rig::new(Personality::by_name(name).unwrap());
        for _ in 0..4000 {
            let mut cdb: Vec<u8> = (0..16).map(|_| random() as u8).collect();
            cdb.truncate([6, 10, 16, 16][random() as usize % 4]);
            if random() % 4 != 0 {
                cdb[0] = [0x83, 0x84, 0x12, 0xA0, 0x5E, 0x5F, 0x1A][random() as usize % 7];
                cdb[1] = [0, 1, 3, 4, 5, 7, 8, 0x10, 0x11, 0x1C][random() as usize % 10];
            }
            if cdb.len() == 16 && random() % 2 == 0 {
                cdb[10..14].copy_from_slice(&(random() as u32 % 700).to_be_bytes());
            }
            let mut out: Vec<u8> = (0..random() % 700)
                .map(|_| (random() as u8) & (random() as u8))
                .collect();
            if let (Some(first), true) = (out.first_mut(), random() % 2 == 0) {
                *first = 0;
            }
            // Past the small sizes of a test's memory: no medium commands.
            if matches!(Kind::of(&cdb), Kind::Read | Kind::Write | Kind::WriteSame) {
                continue;
            }
            let reply = rig
                .manager
                .execute(rig.nexus, random() as usize % 5, &cdb, &out);
            assert!(
                reply.status != 2 || reply.codes().is_some(),
                "{cdb:x?} {reply:x?}"
            );
        }
    }
}
