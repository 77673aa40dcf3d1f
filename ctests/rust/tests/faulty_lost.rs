//! Commands that are not answered: deadlines, cancels, abandonment, quarantine,
//! forced destruction.
#![allow(missing_docs)]

use std::sync::atomic::Ordering;
use xcopy::abi::*;
use xcopy_ctests::faulty::{MODELS, Model};
use xcopy_ctests::fixture::{Ended, Fixture, range};
use xcopy_ctests::judge::Extra;
use xcopy_ctests::rig::{LONG, last_error};
use xcopy_ctests::script::Fault;

const TOTAL: u64 = 4 * 65_536;
const SHORT: i64 = 30_000_000;
/// Time enough to come as far as the command that is kept, on a busy machine too.
const DEADLINE_MS: u32 = 250;
/// Nanoseconds after which it has passed.
const PASSED: i64 = 400_000_000;

fn four() -> xcopy_range {
    range(4096, 8192, TOTAL)
}

fn held(f: &Fixture) -> u32 {
    f.script.held.load(Ordering::Acquire)
}

/// A request that is under way, with what it points to.
struct Flying {
    extra: Box<Extra>,
    before: Vec<u8>,
}

/// Submits a copy of `four` and lets it run until `n` commands are kept.
fn launch(f: &mut Fixture, n: u32, change: impl FnOnce(&mut xcopy_request)) -> (u64, Flying) {
    let extra = Extra::new(Vec::new());
    let mut request = f.request(four());
    request.ext = &raw const extra.ext;
    change(&mut request);
    let before = f.target.bytes().clone();
    assert_eq!(f.rig.submit(&request), 1);
    f.until("the command is not kept", |f| held(f) == n);
    (request.user_data, Flying { extra, before })
}

/// Takes the only completion, and checks it.
fn land(f: &Fixture, user_data: u64, flying: Flying, timeout: i64) -> Ended {
    let done = f.rig.poll(1, 4, timeout);
    assert_eq!(
        done.len(),
        1,
        "{:?} {done:?} {:?}",
        f.model,
        f.rig.remote.stats()
    );
    assert_eq!(done[0].user_data, user_data);
    f.check(
        &done[0],
        Some(&flying.extra.report),
        &flying.before,
        &[four()],
    );
    Ended {
        done: done[0],
        report: flying.extra.report.clone(),
    }
}

#[test]
fn a_deadline_waits_until_nothing_can_write() {
    for model in MODELS {
        for k in [0, 3] {
            let mut f = Fixture::new(model);
            f.script.fault(XCOPY_CMD_COPY, k, 1, Fault::Lost);
            let (user_data, flying) = launch(&mut f, 1, |r| r.timeout_ms = DEADLINE_MS);
            assert_eq!(f.rig.poll(1, 4, PASSED), Vec::new(), "{model:?} {k}");
            if model != Model::Blocking {
                assert_eq!(f.script.cancels.load(Ordering::Acquire), 1, "{model:?} {k}");
            }
            assert_eq!(f.rig.remote.in_flight(), 1);
            f.script.release();
            let done = land(&f, user_data, flying, LONG).done;
            assert_eq!(done.res, -libc::ETIMEDOUT, "{model:?} {k} {done:?}");
            assert_eq!(
                done.reason, XCOPY_REASON_TIMED_OUT,
                "{model:?} {k} {done:?}"
            );
            assert_eq!(
                done.flags & XCOPY_CPL_UNSETTLED,
                0,
                "{model:?} {k} {done:?}"
            );
            f.assert_idle();
            f.finish();
        }
    }
}

#[test]
fn a_plugin_that_cancels_ends_it_early() {
    for model in [Model::Polled, Model::Threaded, Model::Affine] {
        for by_deadline in [true, false] {
            let mut f = Fixture::new(model);
            f.script.set_up(|s| s.cancels = true);
            f.script.fault(XCOPY_CMD_COPY, 1, u64::MAX, Fault::Lost);
            let timeout_ms = if by_deadline { DEADLINE_MS } else { 0 };
            let (user_data, flying) = launch(&mut f, 3, |r| r.timeout_ms = timeout_ms);
            if !by_deadline {
                assert_eq!(f.rig.remote.cancel(user_data), 1);
                assert_eq!(f.rig.remote.cancel(user_data + 1), -libc::ENOENT);
            }
            let done = land(&f, user_data, flying, LONG).done;
            let (res, reason) = match by_deadline {
                true => (-libc::ETIMEDOUT, XCOPY_REASON_TIMED_OUT),
                false => (-libc::ECANCELED, XCOPY_REASON_CANCELED),
            };
            assert_eq!((done.res, done.reason), (res, reason), "{model:?} {done:?}");
            assert!(done.bytes_done <= 65_536, "{model:?} {done:?}");
            assert_ne!(
                done.flags & XCOPY_CPL_INDETERMINATE,
                0,
                "{model:?} {done:?}"
            );
            f.assert_idle();
            f.finish();
        }
    }
}

#[test]
fn a_cancel_is_answered_when_the_command_is() {
    for model in MODELS {
        let mut f = Fixture::new(model);
        f.script.fault(XCOPY_CMD_COPY, 2, 1, Fault::Lost);
        let (user_data, flying) = launch(&mut f, 1, |_| {});
        assert_eq!(f.rig.remote.cancel_device(f.dst), 1, "{model:?}");
        assert_eq!(f.rig.poll(1, 4, SHORT), Vec::new(), "{model:?}");
        f.script.release();
        let done = land(&f, user_data, flying, LONG).done;
        // What came too late to be stopped is counted all the same.
        assert_eq!(done.res, -libc::ECANCELED, "{model:?} {done:?}");
        assert_eq!(done.bytes_copied, TOTAL, "{model:?} {done:?}");
        f.finish();
    }
}

#[test]
fn a_cancelled_place_is_clean_for_the_next() {
    for model in [Model::Polled, Model::Threaded, Model::Affine] {
        let mut f = Fixture::with(model, |_| {}, |options| options.capacity = 1);
        assert_eq!(f.copy_plainly(range(0, 0, 512)).res, 0);
        let nth = f.script.count(XCOPY_CMD_COPY);
        f.script.fault(XCOPY_CMD_COPY, nth, 1, Fault::Lost);
        let request = f.request(range(0, 0, 4096));
        assert_eq!(f.rig.submit(&request), 1);
        f.until("the command is not kept", |f| held(f) == 1);
        assert_eq!(f.rig.remote.cancel(request.user_data), 1);
        assert_eq!(f.rig.ready(), 0);
        f.script.release();
        let done = f.rig.poll(1, 1, LONG);
        assert_eq!(done[0].res, -libc::ECANCELED, "{model:?} {done:?}");
        // A failure of the next one in the same place is retried, not final.
        let nth = f.script.count(XCOPY_CMD_COPY);
        f.script
            .fault(XCOPY_CMD_COPY, nth, 1, Fault::fail(libc::EBUSY, 0));
        let next = f.copy_plainly(range(8192, 8192, 4096));
        assert_eq!(
            (next.res, next.bytes_copied),
            (0, 4096),
            "{model:?} {next:?}"
        );
        f.finish();
    }
}

#[test]
fn an_abandoned_request_is_quarantined() {
    for model in MODELS {
        let mut f = Fixture::with(
            model,
            |_| {},
            |options| {
                (options.capacity, options.chunk) = (2, 65_536);
                options.window = 8;
            },
        );
        f.script.fault(XCOPY_CMD_COPY, 1, 1, Fault::Lost);
        let (user_data, flying) = launch(&mut f, 1, |r| {
            (r.flags, r.timeout_ms) = (XCOPY_REQ_ABANDON_ON_TIMEOUT, DEADLINE_MS);
        });
        let done = land(&f, user_data, flying, LONG).done;
        assert_eq!(done.res, -libc::ETIMEDOUT, "{model:?} {done:?}");
        let wanted = XCOPY_CPL_UNSETTLED | XCOPY_CPL_INDETERMINATE;
        assert_eq!(done.flags & wanted, wanted, "{model:?} {done:?}");
        assert_eq!(f.rig.remote.in_flight(), 0, "{model:?}");
        assert_eq!(f.rig.remote.stats().abandoned, 1, "{model:?}");
        // Capacity is one less, and what is left works. It is kept busy here.
        let nth = f.script.count(XCOPY_CMD_COPY);
        f.script.fault(XCOPY_CMD_COPY, nth, 1, Fault::Lost);
        let other = f.request(range(0, 524_288, 4096));
        assert_eq!(f.rig.submit(&other), 1, "{model:?}");
        f.until("the second is not kept", |f| held(f) == 2);
        let third = f.request(range(0, 600 << 10, 4096));
        assert_eq!(f.rig.submit(&third), -libc::EAGAIN, "{model:?}");
        // Neither the device nor the queue is given back meanwhile.
        assert_eq!(f.rig.destroy(0), -libc::EBUSY, "{model:?}");
        assert_eq!(f.rig.remote.close(f.src), 1, "{model:?}");
        assert_eq!(f.rig.poll(0, 4, 0), Vec::new(), "{model:?}");
        assert_eq!(f.rig.remote.is_closed(f.src), 0, "{model:?}");
        f.script.release();
        let done = f.rig.poll(1, 4, LONG);
        assert_eq!(
            (done.len(), done[0].user_data),
            (1, other.user_data),
            "{model:?}"
        );
        assert_eq!(done[0].res, 0, "{model:?} {done:?}");
        f.until("the late answer is not counted", |f| {
            f.rig.remote.stats().late_answers == 1
        });
        f.until("the device stays", |f| f.rig.remote.is_closed(f.src) == 1);
        // The place is back: two at once, into another source.
        let src = f.rig.open(&f.model.disk("a"));
        for at in [0, 8192] {
            let request = xcopy_ctests::rig::copy(at, src, f.dst, range(at, at, 4096));
            assert_eq!(f.rig.submit(&request), 1, "{model:?}");
        }
        assert_eq!(f.rig.poll(2, 2, LONG).len(), 2, "{model:?}");
        assert!(f.rig.remote.close(src) >= 0);
        f.until("the device stays", |f| f.rig.remote.is_closed(src) == 1);
        f.finish();
    }
}

#[test]
fn an_answer_between_abandonment_and_poll_is_consistent() {
    for model in MODELS {
        for fault in [Fault::Lost, Fault::Late(400)] {
            let mut f = Fixture::new(model);
            f.script.fault(XCOPY_CMD_COPY, 1, 1, fault.clone());
            let extra = Extra::new(Vec::new());
            let mut request = f.request(four());
            request.ext = &raw const extra.ext;
            (request.flags, request.timeout_ms) = (XCOPY_REQ_ABANDON_ON_TIMEOUT, DEADLINE_MS);
            let before = f.target.bytes().clone();
            assert_eq!(f.rig.submit(&request), 1);
            f.until("it is not abandoned", |f| f.rig.ready() == 1);
            f.script.release();
            std::thread::sleep(std::time::Duration::from_millis(250));
            assert_eq!(f.rig.ready(), 1, "{model:?}");
            let done = f.rig.poll(1, 4, LONG);
            assert_eq!(done.len(), 1, "{model:?} {done:?}");
            assert_eq!(done[0].res, -libc::ETIMEDOUT, "{model:?} {done:?}");
            f.check(&done[0], Some(&extra.report), &before, &[four()]);
            f.until("its place is not free", |f| {
                f.rig.remote.info(f.dst).is_ok_and(|i| i.in_flight == 0)
            });
            f.assert_idle();
            f.finish();
        }
    }
}

#[test]
fn an_answer_that_waits_in_the_lane_is_not_claimed() {
    for model in [Model::Threaded, Model::Blocking] {
        let mut f = Fixture::new(model);
        // The second by its place: a pool begins commands in any order.
        let second = four().dst_offset + 65_536;
        f.script.choose(move |seen| {
            if seen.op == XCOPY_CMD_COPY && seen.first == second {
                Fault::Lost
            } else {
                Fault::None
            }
        });
        let (_, flying) = launch(&mut f, 1, |r| {
            (r.flags, r.timeout_ms) = (XCOPY_REQ_ABANDON_ON_TIMEOUT, DEADLINE_MS);
        });
        f.until("it is not abandoned", |f| f.rig.ready() == 1);
        // It ends before the completion is taken, but its owner did not look yet.
        f.script.release();
        while held(&f) != 0 {
            std::thread::yield_now();
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
        let done = f.rig.poll(1, 4, 0);
        assert_eq!(done.len(), 1, "{model:?}");
        assert_eq!(done[0].res, -libc::ETIMEDOUT, "{model:?} {done:?}");
        assert_eq!(done[0].bytes_copied, TOTAL - 65_536, "{model:?} {done:?}");
        assert_eq!(done[0].bytes_done, 65_536, "{model:?} {done:?}");
        f.check(
            &done[0],
            Some(&flying.extra.report),
            &flying.before,
            &[four()],
        );
        f.finish();
    }
}

#[test]
fn a_lost_leg_of_the_bridge_keeps_its_buffer() {
    for model in MODELS {
        for op in [XCOPY_CMD_READ, XCOPY_CMD_WRITE] {
            let mut f = Fixture::new(model);
            f.script.fault(op, 1, 1, Fault::Lost);
            let (user_data, flying) = launch(&mut f, 1, |r| {
                (r.flags, r.timeout_ms) = (XCOPY_REQ_ABANDON_ON_TIMEOUT, DEADLINE_MS);
                r.methods = 1 << XCOPY_METHOD_READ_WRITE;
            });
            let done = land(&f, user_data, flying, LONG).done;
            assert_eq!(done.res, -libc::ETIMEDOUT, "{model:?} {op} {done:?}");
            assert_ne!(
                done.flags & XCOPY_CPL_UNSETTLED,
                0,
                "{model:?} {op} {done:?}"
            );
            f.quarantined = 1;
            // Elsewhere, so that the late write below is no third party's.
            let apart = range(512, 700 << 10, 65_536);
            let by_host = 1 << XCOPY_METHOD_READ_WRITE;
            assert_eq!(
                f.copy(apart, |r| r.methods = by_host).done.res,
                0,
                "{model:?} {op}"
            );
            f.script.release();
            f.until("the late answer is not counted", |f| {
                f.rig.remote.stats().late_answers == 1
            });
            f.quarantined = 0;
            f.assert_idle();
            assert_eq!(
                f.copy(four(), |r| r.methods = by_host).done.res,
                0,
                "{model:?} {op}"
            );
            f.finish();
        }
    }
}

#[test]
fn a_closed_device_is_released_after_its_last_command() {
    for model in MODELS {
        let mut f = Fixture::new(model);
        f.script.fault(XCOPY_CMD_COPY, 0, 1, Fault::Lost);
        let (user_data, flying) = launch(&mut f, 1, |_| {});
        for device in [f.src, f.dst] {
            assert_eq!(f.rig.remote.close(device), 1, "{model:?}");
            assert_eq!(f.rig.remote.close(device), -libc::EBADF, "{model:?}");
        }
        let dead = f.request(range(0, 0, 512));
        assert_eq!(f.rig.submit(&dead), -libc::EBADF, "{model:?}");
        assert_eq!(f.rig.poll(0, 4, 0), Vec::new());
        assert_eq!(f.script.open.load(Ordering::Acquire), 2, "{model:?}");
        f.script.release();
        let done = land(&f, user_data, flying, LONG).done;
        assert_eq!(
            (done.res, done.bytes_done),
            (0, TOTAL),
            "{model:?} {done:?}"
        );
        f.finish();
    }
}

#[test]
fn a_forced_destroy_leaves_the_rest_to_the_plugin() {
    for model in MODELS {
        let mut f = Fixture::new(model);
        f.script.fault(XCOPY_CMD_COPY, 0, u64::MAX, Fault::Lost);
        let (_, flying) = launch(&mut f, 4, |_| {});
        assert_eq!(f.rig.destroy(0), -libc::EBUSY, "{model:?}");
        assert_eq!(f.rig.destroy(2), -libc::EINVAL, "{model:?}");
        assert_eq!(f.rig.destroy(XCOPY_DESTROY_FORCE), 0, "{model:?}");
        // Nobody gets a completion, but the report was filled.
        let report = &flying.extra.report;
        assert_eq!(report.untouched_from, TOTAL, "{model:?}");
        let share: u64 = report.shares[..report.nshares as usize]
            .iter()
            .map(|s| s.bytes)
            .sum();
        assert_eq!(share, 0, "{model:?}");
        f.script.release();
        // These two have threads that still answer; it must do no harm.
        if matches!(model, Model::Threaded | Model::Blocking) {
            for _ in 0..1000 {
                if held(&f) == 0 {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            assert_eq!(held(&f), 0, "{model:?}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert_eq!(f.script.violations(), Vec::<String>::new(), "{model:?}");
    }
}

#[test]
fn a_full_window_delays_affine_commands_and_loses_none() {
    let mut f = Fixture::with(
        Model::Affine,
        |_| {},
        |options| (options.window, options.chunk) = (1, 65_536),
    );
    assert_eq!(f.copy_plainly(range(0, 0, 512)).res, 0);
    let nth = f.script.count(XCOPY_CMD_COPY);
    f.script.fault(XCOPY_CMD_COPY, nth, 1, Fault::Lost);
    let (user_data, flying) = launch(&mut f, 1, |_| {});
    // The only command is taken: another source has to wait to be opened, and a
    // closed one to be closed.
    let other = f.rig.open(&f.model.disk("a"));
    let waiting = xcopy_ctests::rig::copy(77, other, f.dst, range(0, 700 << 10, 512));
    assert_eq!(f.rig.submit(&waiting), 1);
    assert_eq!(f.rig.remote.close(f.src), 1);
    assert_eq!(f.rig.poll(1, 4, SHORT), Vec::new());
    f.script.release();
    let done = f.rig.poll(2, 4, LONG);
    assert_eq!(done.len(), 2, "{done:?}");
    assert!(done.iter().all(|done| done.res == 0), "{done:?}");
    assert!(
        done.iter().any(|done| done.user_data == user_data),
        "{done:?}"
    );
    drop(flying);
    assert!(f.rig.remote.close(other) >= 0);
    f.until("the device stays", |f| f.rig.remote.is_closed(other) == 1);
    f.finish();
}

#[test]
fn a_part_of_a_token_that_comes_too_late_is_not_done() {
    const PART: u64 = TOTAL / 4;
    for model in MODELS {
        let mut f = Fixture::new(model);
        f.script.set_up(|setup| setup.limits.max_bytes = PART);
        f.script.choose(|seen| match (seen.op, seen.nth) {
            (XCOPY_CMD_TOKEN_CREATE, 1) => Fault::Lost,
            (XCOPY_CMD_TOKEN_CREATE, 2) => Fault::fail(libc::EIO, XCOPY_ACTION_FATAL),
            _ => Fault::None,
        });
        let token = f.rig.token();
        let request = xcopy_request {
            op: XCOPY_OP_TOKEN_CREATE,
            dst: token,
            dst_offset: 0,
            ..f.request(four())
        };
        assert_eq!(f.rig.submit(&request), 1, "{model:?}: {}", last_error());
        let asked = |f: &Fixture| f.script.count(XCOPY_CMD_TOKEN_CREATE) >= 3 && held(f) == 1;
        f.until("the third part is not asked for", asked);
        assert_eq!(f.rig.poll(1, 1, SHORT), Vec::new(), "{model:?}");
        f.script.release();
        let done = f.rig.poll(1, 1, LONG);
        assert_eq!(done.len(), 1, "{model:?} {:?}", f.rig.remote.stats());
        assert_eq!(done[0].res, -libc::EIO, "{model:?} {done:?}");
        // Of a token that did not come about no byte is there, and what was made for
        // it is given back.
        let kept = (done[0].bytes_done, done[0].bytes_copied);
        assert!(kept.0 == 0 && kept.1 >= PART, "{model:?} {done:?}");
        let made = f.script.count(XCOPY_CMD_TOKEN_CREATE) - 1;
        let unmade = f.script.count(XCOPY_CMD_TOKEN_RELEASE);
        assert_eq!(unmade, made, "{model:?} {done:?}");
        assert_eq!(f.rig.free_token(token), 0);
        f.finish();
    }
}
