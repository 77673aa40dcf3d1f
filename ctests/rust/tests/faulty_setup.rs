//! Failures before the first command: start, open, queue_create, probe.
#![allow(missing_docs)]

use std::sync::atomic::Ordering;
use xcopy::abi::*;
use xcopy_ctests::disk::{Disk, stamp};
use xcopy_ctests::faulty::{MODELS, Model};
use xcopy_ctests::fixture::{Fixture, range};
use xcopy_ctests::rig::{Rig, last_error, request};
use xcopy_ctests::script::{Fault, Script};

const PIECE: u64 = 65_536;

/// -errno values with what a completion may say instead: its list is closed.
const ERRORS: [(i32, i32); 6] = [
    (-libc::EIO, -libc::EIO),
    (-libc::ENOMEM, -libc::ENOMEM),
    (-libc::EFAULT, -libc::EIO),
    (-libc::EXDEV, -libc::ENOTSUP),
    (-libc::ENXIO, -libc::ENODEV),
    (7, -libc::EIO),
];

#[test]
fn a_plugin_that_does_not_start_is_not_there() {
    for model in MODELS {
        let rig = Rig::new();
        let script = Script::new();
        for (answer, _) in ERRORS {
            script.set_up(|s| s.start = answer);
            let status = model.register(&rig, &script);
            assert!(status < 0, "{model:?} {answer}: {status}");
            assert!(last_error().contains(model.name()), "{}", last_error());
            assert!(rig.plugins().is_empty());
        }
        script.set_up(|s| s.start = 0);
        assert_eq!(model.register(&rig, &script), 0, "{}", last_error());
    }
}

#[test]
fn a_refused_open_leaves_nothing() {
    for model in [Model::Polled, Model::Threaded, Model::Blocking] {
        let rig = Rig::new();
        let script = Script::new();
        script.add_disk("a", Disk::new(stamp(1, 1, 4096), 512, 0));
        assert_eq!(model.register(&rig, &script), 0);
        for (answer, _) in ERRORS {
            script.set_up(|s| s.open = answer);
            let refused = rig.try_open(&model.disk("a"), XCOPY_OPEN_READ);
            assert!(refused.is_err(), "{model:?} {answer}");
            assert!(!last_error().is_empty());
        }
        script.set_up(|s| s.open = 0);
        let device = rig.open(&model.disk("a"));
        assert_eq!(script.open.load(Ordering::Acquire), 1);
        assert_eq!(rig.remote.close(device), 0);
        assert_eq!(script.open.load(Ordering::Acquire), 0);
    }
}

#[test]
fn an_affine_open_is_refused_by_completion_and_asked_again() {
    for (answer, res) in ERRORS {
        let mut f = Fixture::new(Model::Affine);
        f.script.set_up(|s| s.open = answer);
        for _ in 0..3 {
            let ended = f.copy(range(0, 0, PIECE), |_| {});
            assert_eq!(ended.done.res, res, "{answer} {:?}", ended.done);
            assert_eq!((ended.done.bytes_done, ended.done.commands), (0, 0));
            assert_eq!(ended.report.untouched_from, 0);
        }
        f.script.set_up(|s| s.open = 0);
        assert_eq!(f.copy(range(0, 0, PIECE), |_| {}).done.res, 0);
        f.finish();
    }
}

#[test]
fn a_queue_that_cannot_be_made_fails_the_request() {
    for model in [Model::Polled, Model::Threaded, Model::Affine] {
        for (answer, res) in ERRORS {
            let mut f = Fixture::new(model);
            f.script.set_up(|s| s.queue_create = answer);
            for _ in 0..2 {
                let ended = f.copy(range(0, 0, PIECE), |_| {});
                assert_eq!(ended.done.res, res, "{model:?} {answer} {:?}", ended.done);
                assert_eq!(ended.done.bytes_copied, 0);
            }
            let prepare = request(9, XCOPY_OP_PREPARE, f.src, f.dst);
            assert_eq!(f.rig.run(&prepare).res, res, "{model:?} {answer}");
            f.script.set_up(|s| s.queue_create = 0);
            let ended = f.copy(range(0, 0, PIECE), |_| {});
            assert_eq!(ended.done.res, 0, "{model:?} {answer} {:?}", ended.done);
            f.finish();
        }
    }
}

#[test]
fn a_failing_probe_leaves_the_host() {
    for model in MODELS {
        for (answer, _) in ERRORS {
            let mut f = Fixture::new(model);
            f.script.set_up(|s| s.probe = answer);
            let ended = f.copy(range(0, 512, PIECE), |_| {});
            assert_eq!(ended.done.res, 0, "{model:?} {answer} {:?}", ended.done);
            assert_eq!(
                ended.bytes_by(XCOPY_METHOD_READ_WRITE),
                PIECE,
                "{model:?} {answer}"
            );
            assert_eq!(ended.done.reason, XCOPY_REASON_FAILED, "{model:?} {answer}");
            let refused = f.copy(range(0, 0, PIECE), |r| r.flags = XCOPY_REQ_NO_FALLBACK);
            assert_eq!(refused.done.res, -libc::ENOTSUP, "{model:?} {answer}");
            assert_eq!(
                refused.done.reason, XCOPY_REASON_FAILED,
                "{model:?} {answer}"
            );
            // Asked again after an invalidate.
            f.script.set_up(|s| s.probe = 0);
            assert_eq!(f.rig.remote.invalidate(f.src), 0);
            let ended = f.copy(range(0, 0, PIECE), |_| {});
            assert_eq!(
                ended.bytes_by(f.method('a')),
                PIECE,
                "{model:?} {:?}",
                ended.done
            );
            f.finish();
        }
    }
}

#[test]
fn a_refused_pair_says_why() {
    for model in MODELS {
        for reason in [XCOPY_REASON_FEATURE_OFF, XCOPY_REASON_CROSS_DEVICE, 9999] {
            let mut f = Fixture::new(model);
            f.script.set_up(|s| s.refuse = [reason, reason]);
            // A number of a newer version is told as one that callers know.
            let reason = match reason {
                9999 => XCOPY_REASON_NOT_SUPPORTED,
                known => known,
            };
            let ended = f.copy(range(0, 0, PIECE), |_| {});
            assert_eq!(ended.bytes_by(XCOPY_METHOD_READ_WRITE), PIECE, "{model:?}");
            assert_eq!(ended.done.reason, reason, "{model:?} {:?}", ended.done);
            let fallbacks = &ended.report.fallbacks[..ended.report.nfallbacks as usize];
            assert_eq!(fallbacks.len(), 2, "{model:?}");
            assert!(
                fallbacks.iter().all(|f| f.reason == reason),
                "{model:?} {fallbacks:?}"
            );
            let refused = f.copy(range(0, 0, PIECE), |r| r.flags = XCOPY_REQ_NO_FALLBACK);
            assert_eq!(refused.done.res, -libc::ENOTSUP, "{model:?}");
            assert_eq!(refused.done.reason, reason, "{model:?}");
            let queried = f.rig.query(f.src, f.dst);
            let a = queried
                .iter()
                .find(|m| m.method == f.method('a'))
                .expect("a verdict");
            assert_eq!((a.usable, a.reason), (0, reason), "{model:?}");
            f.finish();
        }
    }
}

#[test]
fn affine_control_commands_may_fail_or_hang() {
    for op in [XCOPY_CMD_OPEN, XCOPY_CMD_PROBE] {
        let mut f = Fixture::new(Model::Affine);
        f.script.fault(op, 0, 1, Fault::Late(20));
        assert_eq!(f.copy(range(0, 0, PIECE), |_| {}).done.res, 0, "late {op}");
        f.finish();

        let mut f = Fixture::new(Model::Affine);
        f.script.fault(op, 0, 1, Fault::Panic);
        let done = f.copy(range(0, 0, PIECE), |_| {}).done;
        let wanted = if op == XCOPY_CMD_OPEN { -libc::EIO } else { 0 };
        assert_eq!(done.res, wanted, "panic {op} {done:?}");
        f.finish();

        // Lost: a deadline answers, nothing was touched, and a later request
        // goes on when the answer comes.
        let mut f = Fixture::new(Model::Affine);
        f.script.fault(op, 0, 1, Fault::Lost);
        let ended = f.copy(range(0, 0, PIECE), |r| r.timeout_ms = 20);
        assert_eq!(
            ended.done.res,
            -libc::ETIMEDOUT,
            "lost {op} {:?}",
            ended.done
        );
        assert_eq!(
            (ended.done.flags, ended.report.untouched_from),
            (0, 0),
            "lost {op}"
        );
        let request = f.request(range(0, 0, PIECE));
        let before = f.target.bytes().clone();
        assert_eq!(f.rig.submit(&request), 1);
        assert_eq!(f.rig.poll(1, 1, 20_000_000), Vec::new());
        f.script.release();
        let done = f.rig.poll(1, 1, 5_000_000_000);
        assert_eq!((done.len(), done[0].res), (1, 0), "lost {op} {done:?}");
        f.check(&done[0], None, &before, &[range(0, 0, PIECE)]);
        f.finish();
    }
}
