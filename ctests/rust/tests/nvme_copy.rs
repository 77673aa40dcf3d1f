//! The NVMe plugin under the real core, against a controller in memory.
#![allow(missing_docs)]

mod nvme_bed;

use nvme_bed::*;
use xcopy::abi::*;
use xcopy_ctests::disk::Random;
use xcopy_ctests::nvme::State;
use xcopy_ctests::rig::last_error;

#[test]
fn one_range_is_one_command_by_the_ring() {
    let bed = Bed::new(1, |state| state.each(raised));
    let namespace = bed.open(1);
    let done = bed.copy(namespace, namespace, &[range(0, 1 << 20, 256 << 10)], 0);
    assert_eq!((done.res, done.commands), (0, 1), "{done:?}");
    assert_eq!(done.bytes_offloaded, 256 << 10);
    assert_eq!(done.method, XCOPY_METHOD_NVME_COPY);
    let seen = bed.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].format, seen[0].nsid, seen[0].sdlba), (0, 1, 2048));
    assert_eq!(seen[0].entries.len(), 1);
    assert_eq!(
        (seen[0].entries[0].slba, seen[0].entries[0].blocks),
        (0, 512)
    );
    assert_eq!(seen[0].cdw12, 0);
    assert!(seen[0].by_ring);
    bed.check();
}

#[test]
fn a_gather_takes_far_fewer_commands_than_ranges() {
    for (change, at_most) in [(raised as fn(&mut _), 16), (default as fn(&mut _), 16)] {
        let bed = Bed::sized(1, 64 << 20, |state| state.each(change));
        let namespace = bed.open(1);
        let count = 4096;
        let mut random = Random::new(7);
        let mut places: Vec<u64> = (0..count).collect();
        for at in (1..places.len()).rev() {
            places.swap(at, random.below(at as u64 + 1) as usize);
        }
        // Every other 4 KiB of the first half, to one piece of the second.
        let ranges: Vec<_> = places
            .iter()
            .zip(0..)
            .map(|(place, at)| range(place * 8192, (32 << 20) + at * 4096, 4096))
            .collect();
        let done = bed.copy(namespace, namespace, &ranges, 0);
        assert_eq!((done.res, done.bytes_offloaded), (0, count * 4096));
        assert!(u64::from(done.commands) * at_most <= count, "{done:?}");
        let enters = bed.controller.with(|state| state.enters);
        assert!(enters <= done.commands, "{enters}");
        bed.check();
    }
}

#[test]
fn ranges_are_packed_by_all_three_limits() {
    // Ranges of a request, MSRC, and ranges of its commands.
    let table: [(u64, u8, &[usize]); 9] = [
        (1, 127, &[1]),
        (2, 127, &[2]),
        (127, 127, &[127]),
        (128, 127, &[128]),
        (129, 127, &[128, 1]),
        (256, 255, &[256]),
        (257, 255, &[256, 1]),
        (3, 0, &[1, 1, 1]),
        (5, 1, &[2, 2, 1]),
    ];
    for (count, msrc, wanted) in table {
        let bed = Bed::new(1, |state| {
            state.each(|unit| (unit.mssrl, unit.mcl, unit.msrc) = (8, 65_536, msrc))
        });
        let namespace = bed.open(1);
        let ranges: Vec<_> = (0..count)
            .map(|at| range(at * 1536, (2 << 20) + at * 512, 512))
            .collect();
        let done = bed.copy(namespace, namespace, &ranges, 0);
        assert_eq!(done.res, 0);
        let mut counts: Vec<_> = bed.seen().iter().map(|seen| seen.entries.len()).collect();
        counts.sort_by(|a, b| b.cmp(a));
        assert_eq!(counts, wanted, "{count} ranges, MSRC {msrc}");
        bed.check();
    }
    // MSSRL cuts ranges, MCL cuts commands, a gap in the destination too.
    let bed = Bed::new(1, |state| {
        state.each(|unit| (unit.mssrl, unit.mcl, unit.msrc) = (8, 20, 127))
    });
    let namespace = bed.open(1);
    let ranges = [
        range(0, 2 << 20, 11 * 512),
        range(1 << 20, (2 << 20) + 11 * 512, 3 * 512),
        range(1536 << 10, 3 << 20, 512),
    ];
    let done = bed.copy(namespace, namespace, &ranges, 0);
    assert_eq!((done.res, done.commands), (0, 2), "{done:?}");
    let blocks: Vec<Vec<u32>> = bed
        .seen()
        .iter()
        .map(|seen| seen.entries.iter().map(|entry| entry.blocks).collect())
        .collect();
    assert_eq!(blocks, [vec![8, 3, 3], vec![1]]);
    bed.check();
}

#[test]
fn limits_of_zero_are_no_support() {
    for which in 0..2 {
        let bed = Bed::new(1, |state| {
            state.each(|unit| match which {
                0 => unit.mssrl = 0,
                _ => unit.mcl = 0,
            })
        });
        let namespace = bed.open(1);
        let verdict = bed.verdict(namespace, namespace);
        assert_eq!(
            (verdict.0, verdict.1),
            (0, XCOPY_REASON_LIMITS),
            "{verdict:?}"
        );
        let done = bed.copy(namespace, namespace, &[range(0, 4096, 512)], 0);
        assert_eq!(
            (done.res, done.reason),
            (-libc::ENOTSUP, XCOPY_REASON_LIMITS)
        );
        bed.check_untouched();
    }
}

#[test]
fn what_a_controller_does_not_offer_is_said() {
    type Change = fn(&mut State);
    let table: [(Change, u16, &str); 4] = [
        (|s| s.oncs = 0, XCOPY_REASON_NOT_SUPPORTED, "ONCS bit 8"),
        (|s| s.ocfs = 1, XCOPY_REASON_NOT_SUPPORTED, "OCFS bit 2"),
        (
            |s| unit(s, 2).block = 4096,
            XCOPY_REASON_BLOCK_SIZE,
            "blocks of 512 bytes and blocks of 4096 bytes",
        ),
        (
            |s| (unit(s, 2).pi, unit(s, 2).metadata) = (1, 8),
            XCOPY_REASON_BLOCK_SIZE,
            "8 of metadata, protection One",
        ),
    ];
    for (change, reason, text) in table {
        let bed = Bed::new(2, |mut state| {
            change(&mut state);
            let blocks = &mut unit(&mut state, 2).blocks;
            *blocks = (*blocks).min(SIZE as u64 / 4096);
            state
        });
        let (src, dst) = (bed.open(1), bed.open(2));
        let verdict = bed.verdict(src, dst);
        assert_eq!((verdict.0, verdict.1), (0, reason), "{verdict:?}");
        assert!(verdict.2.contains(text), "{verdict:?}");
    }
    let (one, other) = (Bed::new(1, |s| s), Bed::new(1, |s| s));
    let (src, dst) = (one.open(1), one.open_at(&other.name, "1"));
    let verdict = one.verdict(src, dst);
    assert_eq!((verdict.0, verdict.1), (0, XCOPY_REASON_CROSS_DEVICE));
}

#[test]
fn formats_follow_the_guard_and_the_namespaces() {
    // 64-bit guard without protection: formats 1h and 3h.
    let bed = Bed::new(2, |mut state| {
        state.cdfe = 0b1100;
        state.each(|unit| (unit.pif, unit.metadata) = (2, 16))
    });
    let (src, dst) = (bed.open(1), bed.open(2));
    assert_eq!(bed.copy(src, src, &[range(0, 1 << 20, 4096)], 0).res, 0);
    assert_eq!(bed.copy(src, dst, &[range(0, 8192, 4096)], 0).res, 0);
    let formats: Vec<_> = bed.seen().iter().map(|seen| seen.format).collect();
    assert_eq!(formats, [1, 3]);
    assert_eq!(bed.seen()[1].entries[0].nsid, 1);
    bed.check();
}

#[test]
fn protection_is_made_new_by_the_controller() {
    let bed = Bed::new(1, |state| {
        state.each(|unit| (unit.pi, unit.metadata) = (1, 8))
    });
    let namespace = bed.open(1);
    let done = bed.copy(namespace, namespace, &[range(0, 1 << 20, 4096)], 0);
    assert_eq!(done.res, 0);
    let seen = bed.seen();
    // PRINFOR 1100b, PRINFOW 1000b; the first reference tag is the block.
    assert_eq!((seen[0].cdw12, seen[0].cdw14), (0x2000_c000, 2048));
    bed.check();
    for (pi, storage_bits, text) in [(1, 16, "storage tags"), (5, 0, "type 5")] {
        let bed = Bed::new(1, |state| {
            state.each(|unit| (unit.pi, unit.metadata, unit.storage_bits) = (pi, 8, storage_bits))
        });
        let namespace = bed.open(1);
        let verdict = bed.verdict(namespace, namespace);
        assert_eq!(verdict.0, 0);
        assert!(verdict.2.contains(text), "{verdict:?}");
    }
}

#[test]
fn a_part_of_a_namespace_is_found_on_it() {
    let bed = Bed::new(1, |state| state.each(raised));
    let part = |spec: &str| bed.open_at(&bed.name, &format!("1@{spec}"));
    let (src, dst) = (part("524288+1048576"), part("3145728+524288"));
    let done = bed.copy_at(
        (src, 524_288),
        (dst, 3_145_728),
        &[range(4096, 8192, 65_536)],
        0,
    );
    assert_eq!(done.res, 0);
    let seen = bed.seen();
    assert_eq!(seen[0].sdlba, (3_145_728 + 8192) / 512);
    assert_eq!(seen[0].entries[0].slba, (524_288 + 4096) / 512);
    bed.check();
    for (spec, text) in [
        ("1@100+512", "whole blocks"),
        ("1@4194304+4194304", "whole blocks"),
    ] {
        let name = format!("nvme_sim:{}/{spec}", bed.name);
        let opened = bed.rig.try_open(&name, XCOPY_OPEN_READ);
        assert!(
            opened.is_err() && last_error().contains(text),
            "{opened:?} {}",
            last_error()
        );
    }
}

#[test]
fn durable_is_one_flush_at_the_end() {
    let bed = Bed::new(1, |state| state.each(default));
    let namespace = bed.open(1);
    let ranges = [range(0, 2 << 20, 1 << 20)];
    let done = bed.copy(namespace, namespace, &ranges, XCOPY_REQ_DURABLE);
    assert_eq!(done.res, 0);
    assert_eq!(bed.controller.with(|state| state.flushes), 1);
    assert!(bed.seen().iter().all(|seen| seen.cdw12 & 1 << 30 == 0));
    bed.check();
}

#[test]
fn fast_copies_only() {
    // All of its copies are fast, by its own word.
    let bed = Bed::new(1, |mut state| {
        state.oncs |= 1 << 10;
        state
    });
    let namespace = bed.open(1);
    let ranges = [range(0, 1 << 20, 4096)];
    let done = bed.copy(namespace, namespace, &ranges, XCOPY_REQ_FAST_ONLY);
    assert_eq!((done.res, bed.seen()[0].format), (0, 0));
    bed.check();

    // It can be asked for fast ones, by format 2h.
    let bed = Bed::new(1, |state| state);
    let namespace = bed.open(1);
    let done = bed.copy(namespace, namespace, &ranges, XCOPY_REQ_FAST_ONLY);
    assert_eq!(
        (done.res, done.reason),
        (-libc::ENOTSUP, XCOPY_REASON_FEATURE_OFF)
    );
    bed.check_untouched();
    bed.controller.with(|state| state.cdfe = 0b0100);
    bed.forget(namespace);
    let done = bed.copy(namespace, namespace, &ranges, XCOPY_REQ_FAST_ONLY);
    let seen = bed.seen();
    assert_eq!((done.res, seen[0].format), (0, 2), "{done:?}");
    assert!(seen[0].entries[0].fast_only);
    assert_eq!(seen[0].entries[0].nsid, 1);
    bed.check();

    // It cannot be asked.
    let bed = Bed::new(1, |mut state| {
        state.ocfs = 1;
        state
    });
    let namespace = bed.open(1);
    let done = bed.copy(namespace, namespace, &ranges, XCOPY_REQ_FAST_ONLY);
    assert_eq!(
        (done.res, done.reason),
        (-libc::ENOTSUP, XCOPY_REASON_SLOWER)
    );
    bed.check_untouched();
}

#[test]
fn without_a_ring_threads_do_it() {
    for refused in [false, true] {
        let bed = Bed::new(1, |mut state| {
            state.ring = refused;
            state.ring_refused = refused.then_some(libc::EOPNOTSUPP);
            state
        });
        let namespace = bed.open(1);
        let ranges = [range(0, 2 << 20, 1 << 20)];
        let done = bed.copy(namespace, namespace, &ranges, XCOPY_REQ_DURABLE);
        assert_eq!((done.res, done.bytes_offloaded), (0, 1 << 20), "{done:?}");
        assert!(bed.seen().iter().all(|seen| !seen.by_ring));
        assert_eq!(bed.controller.with(|state| state.flushes), 1);
        bed.check();
    }
}

#[test]
fn an_ordinary_user_is_told_what_is_missing() {
    let bed = Bed::new(1, |mut state| {
        (state.privileged, state.copy_refused) = (false, Some(libc::EACCES));
        state
    });
    let namespace = bed.open(1);
    let verdict = bed.verdict(namespace, namespace);
    assert_eq!((verdict.0, verdict.1), (0, XCOPY_REASON_PERMISSION));
    assert!(verdict.2.contains("CAP_SYS_ADMIN"), "{verdict:?}");

    // Where the kernel lets him, he copies; the trial changed nothing.
    let bed = Bed::new(1, |mut state| {
        state.privileged = false;
        state
    });
    let namespace = bed.open(1);
    assert_eq!(bed.verdict(namespace, namespace).0, 1);
    bed.check_untouched();
    let done = bed.copy(namespace, namespace, &[range(0, 8192, 4096)], 0);
    assert_eq!(done.res, 0);
    bed.check();
}
