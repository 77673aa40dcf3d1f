//! What follows a failure: the next method, the host and its two legs, and
//! plugins that refuse commands when they are given.
#![allow(missing_docs)]

use std::sync::atomic::Ordering;
use xcopy::abi::*;
use xcopy_ctests::faulty::{MODELS, Model};
use xcopy_ctests::fixture::{Fixture, SIZE, range};
use xcopy_ctests::script::{Failing, Fault, Submit};

/// Eight commands of 64 KiB, with a margin on both sides.
fn eight() -> xcopy_range {
    range(4096, 8192, 8 * 65_536)
}

type Gate = fn(u64) -> Submit;

const TOTAL: u64 = 8 * 65_536;

#[test]
fn the_bridge_fails_at_either_leg() {
    for model in MODELS {
        for op in [XCOPY_CMD_READ, XCOPY_CMD_WRITE] {
            for k in [0, 5] {
                let mut f = Fixture::new(model);
                let flags = match op {
                    XCOPY_CMD_READ => XCOPY_RESULT_ERR_ON_READ,
                    _ => XCOPY_RESULT_ERR_ON_WRITE,
                };
                let failing = Failing {
                    errno: libc::EIO,
                    spoilt: 512,
                    flags,
                    ..Failing::default()
                };
                f.script.fault(op, k, 1, Fault::Fail(failing));
                let by_host = 1 << XCOPY_METHOD_READ_WRITE;
                let ended = f.copy(eight(), |r| r.methods = by_host);
                let done = ended.done;
                assert_eq!(done.res, -libc::EIO, "{model:?} {op} {k} {done:?}");
                let side = match op {
                    XCOPY_CMD_READ => XCOPY_CPL_ERR_ON_READ,
                    _ => XCOPY_CPL_ERR_ON_WRITE,
                };
                assert_ne!(done.flags & side, 0, "{model:?} {op} {k} {done:?}");
                assert!(done.bytes_done < TOTAL, "{model:?} {op} {k} {done:?}");
                for fault in [Fault::fail(libc::EBUSY, 0), Fault::Late(2)] {
                    f.script.fault(op, 0, u64::MAX, Fault::None);
                    let at = f.script.count(op) + 2;
                    f.script.fault(op, at, 2, fault);
                    let ended = f.copy(eight(), |r| r.methods = by_host);
                    assert_eq!(
                        ended.bytes_by(XCOPY_METHOD_READ_WRITE),
                        TOTAL,
                        "{model:?} {op}"
                    );
                }
                f.finish();
            }
        }
    }
}

#[test]
fn words_of_a_newer_version_are_read_as_what_is_known() {
    for model in MODELS {
        for (action, reason) in [(0, XCOPY_REASON_COUNT), (5, 7), (u16::MAX, u16::MAX)] {
            let mut f = Fixture::new(model);
            let failing = Failing {
                errno: libc::EOPNOTSUPP,
                action,
                reason,
                ..Failing::default()
            };
            let limit = usize::from(XCOPY_REASON_COUNT);
            f.script.fault(XCOPY_CMD_COPY, 0, 1, Fault::Fail(failing));
            let ended = f.copy(eight(), |_| {});
            let known = if usize::from(reason) < limit {
                reason
            } else {
                XCOPY_REASON_FAILED
            };
            assert_eq!(
                (ended.done.res, ended.done.reason),
                (0, known),
                "{model:?} {action} {:?}",
                ended.done
            );
            // The action was that of the error: the next method took over.
            assert!(ended.bytes_by(f.method('b')) > 0, "{model:?} {action}");
            let fallback = ended.report.fallbacks[0];
            assert_eq!((fallback.method, fallback.reason), (f.method('a'), known));
            f.finish();
        }
    }
}

#[test]
fn a_bridge_leg_that_breaks_the_contract_is_fatal() {
    for model in MODELS {
        for op in [XCOPY_CMD_READ, XCOPY_CMD_WRITE] {
            for fault in [
                Fault::Claim(1),
                Fault::Claim(1 << 40),
                Fault::Status(9),
                Fault::Panic,
            ] {
                let mut f = Fixture::new(model);
                f.script.fault(op, 2, 1, fault.clone());
                let ended = f.copy(eight(), |r| r.methods = 1 << XCOPY_METHOD_READ_WRITE);
                let done = ended.done;
                assert_eq!(done.res, -libc::EIO, "{model:?} {op} {fault:?} {done:?}");
                assert_eq!(
                    done.reason, XCOPY_REASON_PLUGIN_FAULT,
                    "{model:?} {op} {fault:?}"
                );
                assert!(done.bytes_done < TOTAL, "{model:?} {op} {fault:?} {done:?}");
                f.finish();
            }
        }
    }
}

#[test]
fn submit_refuses_or_takes_some() {
    let gates: [(&str, Gate); 5] = [
        ("busy", |n| {
            if n % 3 != 2 {
                Submit::Errno(libc::EAGAIN)
            } else {
                Submit::All
            }
        }),
        ("one", |_| Submit::Some(1)),
        ("none", |n| {
            if n < 20 {
                Submit::Some(0)
            } else {
                Submit::Some(2)
            }
        }),
        ("more", |_| Submit::More(1)),
        ("ebusy", |n| {
            if n < 5 {
                Submit::Errno(libc::EBUSY)
            } else {
                Submit::All
            }
        }),
    ];
    for model in [Model::Polled, Model::Threaded, Model::Affine] {
        for (name, gate) in gates {
            let mut f = Fixture::new(model);
            f.script.gate(gate);
            let ended = f.copy(eight(), |_| {});
            assert_eq!(ended.bytes_by(f.method('a')), TOTAL, "{model:?} {name}");
            let faults = f.rig.remote.stats().plugin_faults;
            assert_eq!(faults > 0, name == "more", "{model:?} {name}");
            assert_eq!(
                f.copy_plainly(range(512, 0, 512)).res,
                0,
                "{model:?} {name}"
            );
            f.finish();
        }
    }
}

#[test]
fn submit_refuses_for_good() {
    for model in [Model::Polled, Model::Threaded] {
        for (errno, ghost) in [(libc::EIO, false), (libc::EIO, true), (libc::EFAULT, false)] {
            let mut f = Fixture::new(model);
            f.script.gate(move |n| match (n, ghost) {
                (0, false) => Submit::Errno(errno),
                (0, true) => Submit::Ghost(errno),
                _ => Submit::All,
            });
            let ended = f.copy(eight(), |_| {});
            let done = ended.done;
            assert_eq!(done.res, 0, "{model:?} {errno} {ghost} {done:?}");
            assert!(
                ended.bytes_by(f.method('b')) > 0,
                "{model:?} {errno} {ghost} {done:?}"
            );
            f.finish();
        }
    }
}

#[test]
fn a_device_that_is_always_busy_ends() {
    // 256 retries of at most 64 ms each, then the next method.
    let mut f = Fixture::new(Model::Polled);
    let a = f.method('a');
    f.script.choose(move |seen| {
        if seen.method == a {
            Fault::fail(libc::EBUSY, 0)
        } else {
            Fault::None
        }
    });
    let request = f.request(eight());
    assert_eq!(f.rig.submit(&request), 1);
    let done = f.rig.poll(1, 1, 60_000_000_000);
    assert_eq!(
        (done[0].res, done[0].method),
        (0, f.method('b')),
        "{done:?}"
    );
    assert_eq!(f.script.cancels.load(Ordering::Acquire), 0);
    f.finish();
}

#[test]
fn both_methods_fail_and_the_host_does_it() {
    for model in MODELS {
        for k in [0, 4] {
            let mut f = Fixture::new(model);
            let fault = Fault::fail(libc::EIO, XCOPY_ACTION_NEXT_METHOD);
            f.script.fault(XCOPY_CMD_COPY, k, u64::MAX, fault);
            let ended = f.copy(eight(), |_| {});
            assert_eq!(ended.done.res, 0, "{model:?} {k} {:?}", ended.done);
            let by_host = ended.bytes_by(XCOPY_METHOD_READ_WRITE);
            assert_eq!(by_host, TOTAL - k * 65_536, "{model:?} {k}");
            assert_ne!(ended.done.flags & XCOPY_CPL_EMULATED, 0, "{model:?} {k}");
            assert_eq!(ended.report.nfallbacks, 2, "{model:?} {k}");
            // With the host forbidden there is nothing left, at once.
            let refused = f.copy(eight(), |r| r.flags = XCOPY_REQ_NO_FALLBACK);
            assert_eq!(
                refused.done.res,
                -libc::ENOTSUP,
                "{model:?} {:?}",
                refused.done
            );
            assert_eq!(refused.done.reason, XCOPY_REASON_FAILED_BEFORE, "{model:?}");
            f.finish();
        }
    }
}

#[test]
fn transients_with_successes_between_them_are_forgiven_for_ever() {
    // Every other command is busy: many more than are forgiven in a row.
    let mut f = Fixture::with(Model::Polled, |_| {}, |options| options.chunk = 512);
    let mut busy = false;
    f.script.choose(move |seen| {
        busy = seen.op == XCOPY_CMD_COPY && !busy;
        if busy {
            Fault::fail(libc::EBUSY, XCOPY_ACTION_RETRY)
        } else {
            Fault::None
        }
    });
    let a = f.method('a');
    let ended = f.copy(range(0, 0, SIZE as u64), |_| {});
    assert_eq!(ended.done.res, 0, "{:?}", ended.done);
    assert_eq!(ended.bytes_by(a), SIZE as u64, "{:?}", ended.done);
    f.finish();
}
