//! The NVMe plugin against a controller that fails, is reset, changes or goes.
#![allow(missing_docs)]

mod nvme_bed;

use nvme_bed::*;
use xcopy::abi::*;
use xcopy_ctests::disk::Random;
use xcopy_ctests::nvme::{Fault, State};
use xcopy_ctests::rig::request;

const SET: u32 = XCOPY_REQ_SET_HOST_BEHAVIOR;
/// Do Not Retry.
const DNR: u16 = 0x4000;

fn two(change: impl FnOnce(&mut State)) -> (Bed, u32, u32) {
    let bed = Bed::new(2, |mut state| {
        change(&mut state);
        state.each(raised)
    });
    let (src, dst) = (bed.open(1), bed.open(2));
    (bed, src, dst)
}

#[test]
fn copies_between_namespaces_are_switched_on_if_that_is_allowed() {
    let (bed, src, dst) = two(|_| {});
    let verdict = bed.verdict(src, dst);
    assert_eq!((verdict.0, verdict.1), (1, XCOPY_REASON_FEATURE_OFF));
    assert!(verdict.2.contains("--set-host-behavior"), "{verdict:?}");

    let ranges = [range(0, 1 << 20, 2 << 20)];
    let done = bed.copy(src, dst, &ranges, 0);
    assert_eq!(
        (done.res, done.reason),
        (-libc::ENOTSUP, XCOPY_REASON_FEATURE_OFF)
    );
    assert_eq!((done.commands, bed.seen().len()), (0, 0));
    assert_eq!(bed.controller.with(|state| state.sets), 0);
    bed.check_untouched();

    let done = bed.copy(src, dst, &ranges, SET);
    assert_eq!((done.res, done.bytes_offloaded), (0, 2 << 20), "{done:?}");
    assert_eq!(
        bed.controller.with(|state| (state.sets, state.cdfe)),
        (1, 4)
    );
    for seen in bed.seen() {
        assert_eq!((seen.nsid, seen.format, seen.entries[0].nsid), (2, 2, 1));
    }
    bed.check();

    // It is on now: nobody has to allow anything.
    let verdict = bed.verdict(src, dst);
    assert_eq!((verdict.0, verdict.1), (1, 0), "{verdict:?}");
    let done = bed.copy(src, dst, &[range(0, 0, 1 << 20)], 0);
    assert_eq!((done.res, bed.controller.with(|state| state.sets)), (0, 1));
    bed.check();
}

#[test]
fn a_kernel_that_refuses_the_feature_is_named() {
    let (bed, src, dst) = two(|state| state.set_refused = Some(libc::EACCES));
    let done = bed.copy(src, dst, &[range(0, 1 << 20, 1 << 20)], SET);
    assert_eq!(
        (done.res, done.reason),
        (-libc::ENOTSUP, XCOPY_REASON_KERNEL),
        "{done:?}"
    );
    // What was not sent is not counted, and touched nothing.
    assert_eq!(
        (done.commands, done.flags & XCOPY_CPL_INDETERMINATE),
        (0, 0)
    );
    assert_eq!(bed.seen().len(), 0);
    let (bed, src, dst) = two(|state| state.set_refused = Some(libc::EACCES));
    // SAFETY: plain data, for which zeroes are valid.
    let mut report: xcopy_report = unsafe { std::mem::zeroed() };
    report.size = size_of::<xcopy_report>() as u32;
    // SAFETY: the same.
    let mut ext: xcopy_ext = unsafe { std::mem::zeroed() };
    ext.size = size_of::<xcopy_ext>() as u32;
    ext.report = &mut report;
    let done = bed.rig.run(&xcopy_request {
        flags: SET | XCOPY_REQ_NO_FALLBACK,
        length: 4 << 20,
        ext: &ext,
        ..request(7, XCOPY_OP_COPY, src, dst)
    });
    assert_eq!((done.res, done.commands), (-libc::ENOTSUP, 0), "{done:?}");
    assert_eq!((report.nshares, report.untouched_from), (0, 0));
    let verdict = bed.verdict(src, dst);
    assert_eq!(
        (verdict.0, verdict.1),
        (0, XCOPY_REASON_KERNEL),
        "{verdict:?}"
    );
    assert!(
        verdict
            .2
            .contains("refuses Set Features 16h (driver-managed)"),
        "{verdict:?}"
    );
    bed.check_untouched();
}

#[test]
fn a_reset_loses_the_feature_and_it_is_switched_on_again() {
    let (bed, src, dst) = two(|state| state.faults = [Fault::Reset].into());
    let ranges = [range(0, 0, 3 << 20)];
    let done = bed.copy(src, dst, &ranges, SET);
    assert_eq!((done.res, done.bytes_offloaded), (0, 3 << 20), "{done:?}");
    assert_eq!(
        bed.controller.with(|state| (state.sets, state.cdfe)),
        (2, 4)
    );
    bed.check();

    // Who did not allow it gets no copy rather than a wrong one.
    bed.controller
        .with(|state| state.faults = [Fault::Reset].into());
    let done = bed.try_copy(src, dst, &ranges, 0);
    assert_eq!(
        (done.res, done.reason),
        (-libc::ENOTSUP, XCOPY_REASON_FEATURE_OFF)
    );
    assert_eq!(bed.controller.with(|state| state.sets), 2);
}

#[test]
fn exceeded_limits_are_read_again_and_commands_get_smaller() {
    for limits in [(64, 64, 3), (4, 4096, 15), (1024, 16, 127), (1024, 4096, 0)] {
        let (bed, src, _) = two(|_| {});
        let first = bed.copy(src, src, &[range(0, 1 << 20, 4096)], 0);
        assert_eq!(first.res, 0);
        bed.controller.with(|state| {
            state.before_copy = Some(Box::new(move |state| {
                let unit = unit(state, 1);
                (unit.mssrl, unit.mcl, unit.msrc) = limits;
            }));
        });
        let ranges: Vec<_> = (0..256)
            .map(|at| range(at * 8192, (2 << 20) + at * 4096, 4096))
            .collect();
        let done = bed.copy(src, src, &ranges, 0);
        assert_eq!(
            (done.res, done.bytes_offloaded),
            (0, 1 << 20),
            "{limits:?} {done:?}"
        );
        let events = bed.rig.remote.events(src).unwrap();
        assert_ne!(events & XCOPY_EVENT_LIMITS_CHANGED, 0);
        bed.check();
        // The next request knows.
        let before = bed.seen().len();
        assert_eq!(bed.copy(src, src, &ranges, 0).res, 0);
        for seen in &bed.seen()[before..] {
            assert!(seen.entries.len() <= usize::from(limits.2) + 1);
        }
        bed.check();
    }
}

#[test]
fn what_passes_is_tried_again() {
    for status in [0x189, 0x006, 0x007, 0x082, 0x370] {
        let (bed, src, _) = two(|state| {
            state.faults = [Fault::Status(status, 0), Fault::Status(status, 0)].into();
        });
        let done = bed.copy(src, src, &[range(0, 2 << 20, 1 << 20)], 0);
        assert_eq!(
            (done.res, done.bytes_offloaded),
            (0, 1 << 20),
            "{status:#x}"
        );
        assert!(done.commands >= 3);
        bed.check();
        // With Do Not Retry it is not.
        bed.controller.with(|state| {
            state.faults = [Fault::Status(status | DNR, 0)].into();
        });
        let done = bed.try_copy(src, src, &[range(0, 2 << 20, 4096)], 0);
        assert_eq!(
            (done.res, done.commands),
            (-libc::ENOTSUP, 1),
            "{status:#x}"
        );
    }
}

#[test]
fn a_cancelled_command_is_given_again() {
    for carried_out in [false, true] {
        let (bed, src, _) = two(|state| {
            state.faults = [Fault::Errno(libc::EINTR, carried_out)].into();
        });
        let done = bed.copy(src, src, &[range(0, 2 << 20, 1 << 20)], 0);
        assert_eq!((done.res, done.bytes_copied), (0, 1 << 20));
        bed.check();
    }
}

#[test]
fn the_first_failed_range_is_what_is_known() {
    let (bed, src, _) = two(|state| state.faults = [Fault::Status(0x281 | DNR, 3)].into());
    let ranges: Vec<_> = (0..8)
        .map(|at| range(at * 8192, (2 << 20) + at * 4096, 4096))
        .collect();
    let done = bed.try_copy(src, src, &ranges, 0);
    assert_eq!(done.res, -libc::ENODATA);
    assert_eq!(
        (done.bytes_done, done.bytes_copied),
        (3 * 4096, 3 * 4096),
        "{done:?}"
    );
    assert_eq!(done.detail >> 60, XCOPY_DETAIL_NVME);
    assert_eq!(done.detail & 0xffff_ffff, 0x3_4281);
    assert_ne!(done.flags & XCOPY_CPL_ERR_ON_READ, 0);
    assert_ne!(done.flags & XCOPY_CPL_INDETERMINATE, 0);
    // The three are there, the rest was not touched by this controller.
    assert!(bed.differs(1, 2 << 20, 3 * 4096));
    assert!(!bed.differs(1, (2 << 20) + 3 * 4096, 5 * 4096));
}

#[test]
fn a_namespace_that_goes_is_reported_gone() {
    let (bed, src, dst) = two(|state| {
        state.cdfe = 4;
        let mut left = 2;
        state.before_copy = Some(Box::new(move |state| {
            left -= 1;
            if left == 0 {
                state.units.remove(&2);
            }
        }));
    });
    let done = bed.try_copy(src, dst, &[range(0, 0, 3 << 20)], 0);
    assert_eq!(
        (done.res, done.reason),
        (-libc::ENODEV, XCOPY_REASON_REMOVED),
        "{done:?}"
    );
    let events = bed.rig.remote.events(dst).unwrap();
    assert_ne!(events & XCOPY_EVENT_REMOVED, 0);
}

#[test]
fn a_head_that_was_taken_out_is_gone_though_it_asks_to_try_again() {
    let (bed, src, _) = two(|state| {
        let mut left = 3;
        state.before_copy = Some(Box::new(move |state| {
            left -= 1;
            state.there = left > 0;
        }));
    });
    let done = bed.try_copy(src, src, &[range(0, 2 << 20, 1 << 20)], 0);
    if done.res == 0 {
        // Two commands were enough; the next request meets it.
        bed.controller.with(|state| state.there = false);
    }
    let done = bed.try_copy(src, src, &[range(0, 2 << 20, 1 << 20)], 0);
    assert_eq!(done.res, -libc::ENODEV, "{done:?}");
    let events = bed.rig.remote.events(src).unwrap();
    assert_ne!(events & XCOPY_EVENT_REMOVED, 0);
}

#[test]
fn a_namespace_that_shrinks_is_seen() {
    let (bed, src, _) = two(|state| {
        state.before_copy = Some(Box::new(|state| unit(state, 1).blocks = 5000));
    });
    let done = bed.try_copy(src, src, &[range(0, 2 << 20, 1 << 20)], 0);
    assert_eq!(
        (done.res, done.reason),
        (-libc::EINVAL, XCOPY_REASON_BOUNDS),
        "{done:?}"
    );
    let events = bed.rig.remote.events(src).unwrap();
    assert_ne!(events & XCOPY_EVENT_RESIZED, 0);
    assert_eq!(bed.rig.remote.info(src).unwrap().size_bytes, 5000 * 512);
}

#[test]
fn a_namespace_formatted_anew_is_opened_again_first() {
    // 0 is a block size that no format has.
    for block in [4096, 0] {
        let (bed, src, _) = two(|_| {});
        assert_eq!(bed.copy(src, src, &[range(0, 2 << 20, 4096)], 0).res, 0);
        bed.controller.with(|state| {
            let unit = unit(state, 1);
            (unit.block, unit.blocks) = (block, 1024);
        });
        bed.forget(src);
        let verdict = bed.verdict(src, src);
        assert_eq!((verdict.0, verdict.1), (0, XCOPY_REASON_BLOCK_SIZE));
        assert!(verdict.2.contains("open it again"), "{verdict:?}");
        let done = bed.try_copy(src, src, &[range(0, 2 << 20, 4096)], 0);
        assert_eq!(done.reason, XCOPY_REASON_BLOCK_SIZE, "{done:?}");
        bed.check();
    }
}

#[test]
fn refusals_leave_the_method() {
    let table = [
        (0x181, XCOPY_REASON_NOT_SUPPORTED),
        (0x185, XCOPY_REASON_BLOCK_SIZE),
        (0x186, XCOPY_REASON_SLOWER),
        (0x187, XCOPY_REASON_OVERLAP),
    ];
    for (status, reason) in table {
        let (bed, src, _) = two(|state| state.faults = [Fault::Status(status, 0)].into());
        let done = bed.try_copy(src, src, &[range(0, 2 << 20, 4096)], 0);
        assert_eq!(
            (done.res, done.reason),
            (-libc::ENOTSUP, reason),
            "{status:#x}"
        );
        assert_eq!(done.detail & 0xffff, u64::from(status));
        bed.check();
    }
}

/// The host may well be told that it could write, and learn of the fault only when a
/// cache is written.
#[test]
fn a_write_fault_is_the_end() {
    let (bed, src, _) = two(|state| state.faults = [Fault::Status(0x280, 0)].into());
    let done = bed.try_copy(src, src, &[range(0, 2 << 20, 4096)], 0);
    assert_eq!(
        (done.res, done.reason),
        (-libc::EIO, XCOPY_REASON_FAILED),
        "{done:?}"
    );
    assert_ne!(done.flags & XCOPY_CPL_ERR_ON_WRITE, 0, "{done:?}");
    bed.check();
}

/// Random limits, ranges and transient faults: every copy ends well, and every
/// byte of both namespaces is where it belongs.
#[test]
fn random_copies_under_random_faults() {
    let mut offloaded = 0;
    for seed in 0..24 {
        let random = std::cell::RefCell::new(Random::new(seed));
        let below = |end| random.borrow_mut().below(end);
        let (mssrl, mcl) = (1 + below(64) as u16, 1 + below(300) as u32);
        let (msrc, ring) = (below(40) as u8, below(4) > 0);
        let bed = Bed::new(2, |mut state| {
            (state.cdfe, state.ring) = (4, ring);
            state.each(|unit| (unit.mssrl, unit.mcl, unit.msrc) = (mssrl, mcl, msrc))
        });
        let devices = [bed.open(1), bed.open(2)];
        for _ in 0..4 {
            let mut faults = Vec::new();
            for _ in 0..below(6) {
                faults.push(match below(5) {
                    0 => Fault::Status(0x189, below(3) as usize),
                    1 => Fault::Errno(libc::EAGAIN, false),
                    2 => Fault::Errno(libc::EINTR, below(2) == 0),
                    3 => Fault::Status(0x082, below(2) as usize),
                    _ => Fault::Reset,
                });
            }
            let (after, which) = (below(12), below(4));
            bed.controller.with(|state| {
                state.faults = faults.into();
                let mut left = after;
                state.before_copy = Some(Box::new(move |state| {
                    left = left.saturating_sub(1);
                    for unit in state.units.values_mut().filter(|_| left == 1) {
                        match which {
                            0 => unit.mssrl = (unit.mssrl / 2).max(1),
                            1 => unit.mcl = (unit.mcl / 2).max(1),
                            2 => unit.msrc /= 2,
                            _ => {}
                        }
                    }
                }));
            });
            // Sources in the first half, destinations in the second.
            let half = SIZE as u64 / 1024;
            let (mut at, mut ranges) = (below(50), Vec::new());
            while at < half && ranges.len() < 300 {
                let blocks = (1 + below(40)).min(half - at);
                let from = below(half - blocks);
                ranges.push(range(from * 512, (half + at) * 512, blocks * 512));
                at += blocks + if below(3) == 0 { below(20) } else { 0 };
            }
            let (src, dst) = (devices[below(2) as usize], devices[below(2) as usize]);
            let done = bed.copy(src, dst, &ranges, SET);
            assert_eq!(done.res, 0, "seed {seed}: {done:?}");
            offloaded += done.bytes_offloaded;
            bed.check();
        }
    }
    assert!(offloaded > 20 << 20, "{offloaded}");
}
