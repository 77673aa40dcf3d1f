//! Commands that fail, lie or break the contract: in every model the bytes are
//! right or the error is exact.
#![allow(missing_docs)]

use xcopy::abi::*;
use xcopy_ctests::faulty::{MODELS, Model};
use xcopy_ctests::fixture::{Fixture, range};
use xcopy_ctests::script::{Failing, Fault};

/// Eight commands of 64 KiB, with a margin on both sides.
fn eight() -> xcopy_range {
    range(4096, 8192, 8 * 65_536)
}

const TOTAL: u64 = 8 * 65_536;

#[test]
fn without_faults_all_is_offloaded() {
    for model in MODELS {
        let mut f = Fixture::new(model);
        let ended = f.copy(eight(), |r| r.flags = XCOPY_REQ_NO_FALLBACK);
        assert_eq!(
            (ended.done.res, ended.done.reason),
            (0, 0),
            "{model:?} {:?}",
            ended.done
        );
        assert_eq!(ended.bytes_by(f.method('a')), TOTAL, "{model:?}");
        assert_eq!(ended.done.flags, XCOPY_CPL_OFFLOADED, "{model:?}");
        let plain = f.copy_plainly(range(0, 512, 4096));
        assert_eq!(plain.bytes_offloaded, 4096, "{model:?}");
        f.finish();
    }
}

#[test]
fn late_answers_are_waited_for() {
    for model in MODELS {
        let mut f = Fixture::new(model);
        f.script.fault(XCOPY_CMD_COPY, 1, 3, Fault::Late(5));
        let ended = f.copy(eight(), |_| {});
        assert_eq!(ended.bytes_by(f.method('a')), TOTAL, "{model:?}");
        f.finish();
    }
}

/// A breach at command `k`: the method is left for good, the next one redoes it.
fn breach(fault: Fault, code: u32) {
    breach_of(&MODELS, fault, code);
}

fn breach_of(models: &[Model], fault: Fault, code: u32) {
    for &model in models {
        for k in [0, 3, 7] {
            let mut f = Fixture::new(model);
            f.script.fault(XCOPY_CMD_COPY, k, 1, fault.clone());
            let ended = f.copy(eight(), |_| {});
            let done = ended.done;
            assert_eq!(done.res, 0, "{model:?} {k} {fault:?} {done:?}");
            assert_eq!(
                done.reason, XCOPY_REASON_PLUGIN_FAULT,
                "{model:?} {k} {fault:?}"
            );
            assert_ne!(
                done.flags & XCOPY_CPL_FELL_BACK,
                0,
                "{model:?} {k} {fault:?}"
            );
            assert_eq!(done.detail >> XCOPY_DETAIL_DOMAIN_SHIFT, XCOPY_DETAIL_FAULT);
            assert_eq!(
                done.detail as u32, code,
                "{model:?} {k} {fault:?} {:#x}",
                done.detail
            );
            assert!(
                ended.bytes_by(f.method('b')) >= 65_536,
                "{model:?} {k} {fault:?}"
            );
            assert_eq!(ended.report.fallbacks[0].method, f.method('a'));
            assert_eq!(ended.report.fallbacks[0].reason, XCOPY_REASON_PLUGIN_FAULT);
            assert_eq!(
                f.rig.remote.stats().plugin_faults,
                1,
                "{model:?} {k} {fault:?}"
            );
            // It is not used again on this pair.
            f.script.choose(|_| Fault::None);
            let again = f.copy(eight(), |_| {});
            assert_eq!(again.bytes_by(f.method('a')), 0, "{model:?} {k} {fault:?}");
            let named = 1 << f.method('a');
            let refused = f.copy(eight(), |r| r.methods = named);
            assert_eq!(
                refused.done.res,
                -libc::ENOTSUP,
                "{model:?} {:?}",
                refused.done
            );
            assert_eq!(refused.done.reason, XCOPY_REASON_PLUGIN_FAULT, "{model:?}");
            assert_eq!(refused.done.commands, 0, "{model:?}");
            f.finish();
        }
    }
}

/// Where other models leave the command unanswered, `execute` has returned.
#[test]
fn an_execute_that_answers_for_another_command_is_caught() {
    breach_of(&[Model::Blocking], Fault::Foreign, XCOPY_FAULT_COOKIE);
}

#[test]
fn short_success_is_no_success() {
    breach(Fault::Claim(65_535), XCOPY_FAULT_SHORT);
    breach(Fault::Claim(0), XCOPY_FAULT_SHORT);
}

#[test]
fn over_reports_are_caught() {
    breach(Fault::Claim(65_537), XCOPY_FAULT_OVER_REPORT);
    breach(Fault::Claim(u64::MAX), XCOPY_FAULT_OVER_REPORT);
}

#[test]
fn a_known_prefix_longer_than_the_command_is_caught() {
    let failing = Failing {
        errno: libc::EIO,
        known: 1 << 40,
        ..Failing::default()
    };
    breach(Fault::Fail(failing), XCOPY_FAULT_OVER_REPORT);
}

#[test]
fn a_status_that_is_no_errno_is_caught() {
    for status in [1, i32::MAX, -4096, i32::MIN] {
        breach(Fault::Status(status), XCOPY_FAULT_STATUS);
    }
}

#[test]
fn a_panic_is_a_breach() {
    breach(Fault::Panic, XCOPY_FAULT_PANIC);
}

#[test]
fn on_the_straight_way_too() {
    for model in MODELS {
        for fault in [
            Fault::Claim(1),
            Fault::Claim(u64::MAX),
            Fault::Status(5),
            Fault::Panic,
        ] {
            let mut f = Fixture::new(model);
            f.copy_plainly(range(0, 0, 4096));
            f.script.choose({
                let (fault, mut left) = (fault.clone(), 1);
                move |_| {
                    left -= 1;
                    if left == 0 {
                        fault.clone()
                    } else {
                        Fault::None
                    }
                }
            });
            let done = f.copy_plainly(range(8192, 4096, 4096));
            assert_eq!(
                (done.res, done.bytes_copied),
                (0, 4096),
                "{model:?} {fault:?} {done:?}"
            );
            assert_eq!(
                done.reason, XCOPY_REASON_PLUGIN_FAULT,
                "{model:?} {fault:?} {done:?}"
            );
            assert_eq!(done.method, f.method('b'), "{model:?} {fault:?} {done:?}");
            f.finish();
        }
    }
}

#[test]
fn foreign_and_double_answers_change_nothing() {
    for model in [Model::Polled, Model::Threaded, Model::Affine] {
        for (fault, swallowed) in [(Fault::Twice, 8), (Fault::Cookies, 32)] {
            let mut f = Fixture::new(model);
            f.script.fault(XCOPY_CMD_COPY, 0, u64::MAX, fault.clone());
            let ended = f.copy(eight(), |_| {});
            assert_eq!(ended.bytes_by(f.method('a')), TOTAL, "{model:?} {fault:?}");
            f.until("answers are not counted", |f| {
                f.rig.remote.stats().late_answers == swallowed
            });
            f.finish();
        }
    }
}

#[test]
fn a_polled_plugin_may_end_on_another_thread() {
    for model in [Model::Polled, Model::Affine] {
        let mut f = Fixture::new(model);
        f.script
            .fault(XCOPY_CMD_COPY, 0, u64::MAX, Fault::Elsewhere);
        let ended = f.copy(eight(), |_| {});
        assert_eq!(ended.bytes_by(f.method('a')), TOTAL, "{model:?}");
        assert_eq!(f.copy_plainly(range(0, 0, 512)).res, 0, "{model:?}");
        f.finish();
    }
}

#[test]
fn ends_inside_submit() {
    for model in [Model::Polled, Model::Affine] {
        let mut f = Fixture::new(model);
        f.script.set_up(|s| s.inside_submit = true);
        let ended = f.copy(eight(), |_| {});
        assert_eq!(ended.bytes_by(f.method('a')), TOTAL, "{model:?}");
        for at in 0..200 {
            assert_eq!(
                f.copy_plainly(range(at * 512, at * 512, 512)).res,
                0,
                "{model:?}"
            );
        }
        f.finish();
    }
}

#[test]
fn every_action_at_every_step() {
    let actions = [
        (XCOPY_ACTION_DEFAULT, libc::EBUSY),
        (XCOPY_ACTION_DEFAULT, libc::EAGAIN),
        (XCOPY_ACTION_DEFAULT, libc::EINTR),
        (XCOPY_ACTION_DEFAULT, libc::E2BIG),
        (XCOPY_ACTION_DEFAULT, libc::EIO),
        (XCOPY_ACTION_DEFAULT, libc::ENOTSUP),
        (XCOPY_ACTION_DEFAULT, libc::EINVAL),
        (XCOPY_ACTION_DEFAULT, libc::ENOSPC),
        (XCOPY_ACTION_DEFAULT, libc::ENODEV),
        (XCOPY_ACTION_RETRY, libc::EIO),
        (XCOPY_ACTION_SPLIT, libc::EIO),
        (XCOPY_ACTION_NEXT_METHOD, libc::EBUSY),
        (XCOPY_ACTION_FATAL, libc::EIO),
        (XCOPY_ACTION_FATAL, libc::EBADE),
        (XCOPY_ACTION_FATAL, libc::EPROTO),
    ];
    for model in MODELS {
        for (action, errno) in actions {
            for (k, known, spoilt) in [(0, 0, 0), (2, 0, 65_536), (5, 4096, 8192), (7, 512, 0)] {
                let mut f = Fixture::new(model);
                let failing = Failing {
                    errno,
                    action,
                    known,
                    spoilt,
                    ..Failing::default()
                };
                f.script.fault(XCOPY_CMD_COPY, k, 1, Fault::Fail(failing));
                let ended = f.copy(eight(), |_| {});
                let (done, a) = (ended.done, f.method('a'));
                let what = format!("{model:?} {action} {errno} {k} {done:?}");
                let kind = match (action, errno) {
                    (XCOPY_ACTION_DEFAULT, libc::EBUSY | libc::EAGAIN | libc::EINTR) => 'r',
                    (XCOPY_ACTION_RETRY | XCOPY_ACTION_SPLIT, _) => 'r',
                    (XCOPY_ACTION_DEFAULT, libc::E2BIG) => 'r',
                    (XCOPY_ACTION_FATAL, _) => 'f',
                    (XCOPY_ACTION_DEFAULT, libc::ENOSPC | libc::ENODEV) => 'f',
                    _ => 'n',
                };
                match kind {
                    'r' => {
                        assert_eq!((done.res, done.flags), (0, XCOPY_CPL_OFFLOADED), "{what}");
                        assert_eq!(ended.bytes_by(a), TOTAL, "{what}");
                    }
                    'n' => {
                        assert_eq!((done.res, done.reason), (0, XCOPY_REASON_FAILED), "{what}");
                        assert!(ended.bytes_by(f.method('b')) >= 65_536 - known, "{what}");
                        let left = ended.report.fallbacks[0];
                        assert_eq!((left.method, left.error), (a, -errno), "{what}");
                    }
                    _ => {
                        let public = if errno == libc::EPROTO {
                            libc::EIO
                        } else {
                            errno
                        };
                        assert_eq!(done.res, -public, "{what}");
                        let why = match errno {
                            libc::EBADE => XCOPY_REASON_RESERVED,
                            _ => XCOPY_REASON_FAILED,
                        };
                        assert_eq!(done.reason, why, "{what}");
                        // The pool's threads take commands in any order.
                        if model != Model::Blocking {
                            assert!(done.bytes_done <= k * 65_536 + known, "{what}");
                        }
                        assert!(done.bytes_copied < TOTAL, "{what}");
                        assert_ne!(done.flags & XCOPY_CPL_INDETERMINATE, 0, "{what}");
                        assert!(ended.report.failed.length > 0, "{what}");
                    }
                }
                assert_eq!(f.rig.remote.stats().command_errors, 1, "{what}");
                f.finish();
            }
        }
    }
}

#[test]
fn splits_go_down_to_what_the_device_takes() {
    for model in MODELS {
        let mut f = Fixture::new(model);
        f.script.choose(|seen| match seen.bytes {
            4097.. if seen.op == XCOPY_CMD_COPY => Fault::fail(libc::E2BIG, XCOPY_ACTION_DEFAULT),
            _ => Fault::None,
        });
        let ended = f.copy(eight(), |r| r.flags = XCOPY_REQ_NO_FALLBACK);
        assert_eq!(
            ended.bytes_by(f.method('a')),
            TOTAL,
            "{model:?} {:?}",
            ended.done
        );
        f.finish();
    }
}

#[test]
fn sense_and_detail_reach_the_report() {
    let detail = XCOPY_DETAIL_SCSI << XCOPY_DETAIL_DOMAIN_SHIFT | 0x0d_0008_0002;
    for model in MODELS {
        for length in [18usize, 252, 4000] {
            let mut f = Fixture::new(model);
            let sense: Vec<u8> = (0..length).map(|i| (i % 251) as u8 + 1).collect();
            let failing = Failing {
                errno: libc::EREMOTEIO,
                action: XCOPY_ACTION_FATAL,
                reason: XCOPY_REASON_RESERVED,
                detail,
                sense: sense.clone(),
                ..Failing::default()
            };
            f.script.fault(XCOPY_CMD_COPY, 1, 1, Fault::Fail(failing));
            let ended = f.copy(eight(), |_| {});
            let (done, report) = (ended.done, &ended.report);
            assert_eq!(
                (done.res, done.detail),
                (-libc::EREMOTEIO, detail),
                "{model:?}"
            );
            assert_eq!(done.reason, XCOPY_REASON_RESERVED, "{model:?}");
            assert_eq!(
                report.sense_len as usize,
                length.min(XCOPY_SENSE_MAX),
                "{model:?}"
            );
            let n = report.sense_len as usize;
            assert!(report.sense[..n] == sense[..n], "{model:?}");
            f.finish();
        }
    }
}

#[test]
fn a_lie_cannot_be_told_from_the_truth() {
    // Only reading back shows it: the completion is a success by all signs.
    for model in MODELS {
        let f = Fixture::new(model);
        f.script.fault(XCOPY_CMD_COPY, 0, 1, Fault::Lie);
        let before = f.target.bytes().clone();
        let request = xcopy_ctests::rig::copy(1, f.src, f.dst, range(0, 0, 4096));
        let done = f.rig.run(&request);
        assert_eq!(
            (done.res, done.bytes_offloaded),
            (0, 4096),
            "{model:?} {done:?}"
        );
        assert!(*f.target.bytes() == before, "{model:?}");
        f.finish();
    }
}

#[test]
fn a_zeroing_that_fails_ends() {
    for model in MODELS {
        for action in [XCOPY_ACTION_DEFAULT, XCOPY_ACTION_NEXT_METHOD] {
            let f = Fixture::new(model);
            f.script
                .fault(XCOPY_CMD_ZERO, 0, u64::MAX, Fault::fail(libc::EIO, action));
            let mut request = xcopy_ctests::rig::copy(1, 0, f.dst, range(0, 4096, 8192));
            request.op = XCOPY_OP_ZERO;
            let done = f.rig.run(&request);
            assert_eq!((done.res, done.bytes_copied), (-libc::EIO, 0), "{model:?}");
            f.finish();
        }
    }
}

#[test]
fn what_may_still_write_ends_the_request() {
    for model in MODELS {
        for action in [
            XCOPY_ACTION_RETRY,
            XCOPY_ACTION_SPLIT,
            XCOPY_ACTION_NEXT_METHOD,
        ] {
            let mut f = Fixture::new(model);
            let failing = Failing {
                errno: libc::ETIMEDOUT,
                action,
                flags: XCOPY_RESULT_UNSETTLED,
                ..Failing::default()
            };
            f.script.fault(XCOPY_CMD_COPY, 0, 1, Fault::Fail(failing));
            let done = f.copy(eight(), |_| {}).done;
            assert_eq!(done.res, -libc::ETIMEDOUT, "{model:?} {done:?}");
            let flags = XCOPY_CPL_UNSETTLED | XCOPY_CPL_INDETERMINATE;
            assert_eq!(done.flags & flags, flags, "{model:?} {done:?}");
            f.assert_idle();
            f.finish();
        }
    }
}
