//! Handles, owners, draining, progress and statistics.
#![allow(missing_docs)]

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};
use xcopy::abi::*;
use xcopy_ctests::faulty::{MODELS, Model};
use xcopy_ctests::fixture::{Fixture, SIZE, range};
use xcopy_ctests::rig::{LONG, Rig, copy, request};
use xcopy_ctests::script::Fault;

#[test]
fn close_from_another_thread_while_submitting() {
    for model in MODELS {
        for round in 0..10 {
            let f = Fixture::with(model, |_| {}, |options| options.capacity = 64);
            let (remote, src, dst) = (f.rig.remote, f.src, f.dst);
            let started = AtomicU32::new(0);
            let closed = AtomicBool::new(false);
            let mut ends: HashMap<u64, u32> = HashMap::new();
            let mut accepted = 0u64;
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while started.load(Ordering::Acquire) < 50 + round {
                        std::hint::spin_loop();
                    }
                    assert!(remote.close(src) >= 0);
                    closed.store(true, Ordering::Release);
                    assert_eq!(remote.close(src), -libc::EBADF);
                });
                let begun = Instant::now();
                loop {
                    let dead = closed.load(Ordering::Acquire);
                    let at = accepted % 1024 * 512;
                    let status = f.rig.submit(&copy(accepted, src, dst, range(at, at, 512)));
                    match status {
                        1 => {
                            assert!(!dead, "{model:?}: a dead handle was taken");
                            accepted += 1;
                            started.fetch_add(1, Ordering::AcqRel);
                        }
                        _ if status == -libc::EBADF => break,
                        _ => assert_eq!(status, -libc::EAGAIN, "{model:?}"),
                    }
                    for done in f.rig.poll(0, 64, 0) {
                        assert_eq!(done.res, 0, "{model:?} {done:?}");
                        *ends.entry(done.user_data).or_default() += 1;
                    }
                    assert!(begun.elapsed() < Duration::from_secs(20), "{model:?}");
                }
            });
            while f.rig.remote.in_flight() > 0 {
                for done in f.rig.poll(1, 64, LONG) {
                    assert_eq!(done.res, 0, "{model:?} {done:?}");
                    *ends.entry(done.user_data).or_default() += 1;
                }
            }
            assert_eq!(ends.len() as u64, accepted, "{model:?}");
            assert!(ends.values().all(|n| *n == 1), "{model:?}");
            f.until("the source stays", |f| f.rig.remote.is_closed(src) == 1);
            f.finish();
        }
    }
}

#[test]
fn generations_are_used_once_and_run_out() {
    let f = Fixture::new(Model::Polled);
    let first = f.rig.open(&f.model.disk("a"));
    assert_eq!(f.rig.remote.close(first), 0);
    let mut seen = std::collections::HashSet::from([first]);
    let mut indices = std::collections::HashSet::new();
    for _ in 0..20_000 {
        let handle = f.rig.open(&f.model.disk("a"));
        assert!(seen.insert(handle), "{handle:#x} was given twice");
        indices.insert(handle & 0xffff);
        assert_eq!(f.rig.remote.close(handle), 0);
    }
    // One index alone has fewer generations than that: others took over.
    assert!(indices.len() >= 2, "{indices:?}");
    for stale in [first, 0, 0xffff_ffff, 1 << 30, 2 << 30 | 1 << 16] {
        let refused = f.rig.submit(&copy(1, stale, f.dst, range(0, 0, 512)));
        assert_eq!(refused, -libc::EBADF, "{stale:#x}");
        assert_eq!(f.rig.remote.close(stale), -libc::EBADF, "{stale:#x}");
        assert!(f.rig.remote.info(stale).is_err(), "{stale:#x}");
    }
    assert_eq!(f.rig.remote.is_closed(first), 1);
    f.finish();
}

#[test]
fn handles_of_another_context_are_refused() {
    let (one, two) = (Fixture::new(Model::Polled), Fixture::new(Model::Threaded));
    for (f, foreign) in [(&one, two.src), (&two, one.src)] {
        assert_eq!(
            f.rig.submit(&copy(1, foreign, f.dst, range(0, 0, 512))),
            -libc::EBADF
        );
        assert_eq!(f.rig.remote.close(foreign), -libc::EBADF);
    }
    one.finish();
    two.finish();
}

#[test]
fn an_idle_queue_changes_its_owner() {
    for model in MODELS {
        let mut f = Fixture::new(model);
        for round in 0..4 {
            f = std::thread::spawn(move || {
                let ended = f.copy(range(round * 512, 8192, 8 * 65_536), |_| {});
                assert_eq!(ended.done.res, 0, "{model:?} {:?}", ended.done);
                assert_eq!(f.copy_plainly(range(0, round * 512, 512)).res, 0);
                f
            })
            .join()
            .expect("the thread did not panic");
        }
        f.finish();
    }
}

#[test]
fn drain_closes_the_door_and_resume_opens_it() {
    for model in MODELS {
        let f = Fixture::new(model);
        f.script.fault(XCOPY_CMD_COPY, 0, 1, Fault::Lost);
        assert_eq!(f.rig.submit(&copy(1, f.src, f.dst, range(0, 0, 512))), 1);
        let remote = f.rig.remote;
        let drained = std::thread::spawn(move || remote.drain()).join();
        assert_eq!(drained.ok(), Some(1), "{model:?}");
        let more = copy(2, f.src, f.dst, range(0, 0, 512));
        assert_eq!(f.rig.submit(&more), -libc::ESHUTDOWN, "{model:?}");
        f.script.release();
        assert_eq!(f.rig.poll(1, 4, LONG).len(), 1, "{model:?}");
        assert_eq!(f.rig.remote.drain(), 0);
        assert_eq!(f.rig.submit(&more), -libc::ESHUTDOWN, "{model:?}");
        assert_eq!(f.rig.remote.resume(), 0);
        assert_eq!(f.rig.run(&more).res, 0, "{model:?}");
        f.finish();
    }
}

#[test]
fn progress_only_grows_and_statistics_agree() {
    for model in MODELS {
        let mut f = Fixture::new(model);
        f.script.choose(|seen| {
            if seen.op == XCOPY_CMD_COPY && seen.nth % 3 == 0 {
                Fault::Late(1)
            } else {
                Fault::None
            }
        });
        let whole = f.request(range(0, 0, SIZE as u64));
        assert_eq!(f.rig.remote.progress(whole.user_data), Err(-libc::ENOENT));
        assert_eq!(f.rig.submit(&whole), 1);
        let (remote, user_data) = (f.rig.remote, whole.user_data);
        let (first_look, looked) = std::sync::mpsc::channel();
        let watcher = std::thread::spawn(move || {
            let (mut last, mut looks) = (0, 0);
            while let Ok(progress) = remote.progress(user_data) {
                let _ = first_look.send(());
                assert_eq!(progress.bytes_total, SIZE as u64);
                assert!(progress.bytes_copied >= last, "{progress:?} after {last}");
                assert!(
                    progress.bytes_copied <= progress.bytes_total,
                    "{progress:?}"
                );
                (last, looks) = (progress.bytes_copied, looks + 1);
                std::thread::yield_now();
            }
            looks
        });
        // Before it can end: a completion is only taken by the polls below.
        assert_eq!(
            looked.recv_timeout(Duration::from_secs(10)),
            Ok(()),
            "{model:?}"
        );
        let mut done = Vec::new();
        let begun = Instant::now();
        while done.is_empty() {
            done = f.rig.poll(0, 1, 0);
            assert!(begun.elapsed() < Duration::from_secs(10), "{model:?}");
        }
        assert_eq!(
            (done[0].res, done[0].bytes_copied),
            (0, SIZE as u64),
            "{model:?}"
        );
        assert!(watcher.join().expect("progress went back") > 0, "{model:?}");
        let stats = f.rig.remote.stats();
        assert_eq!((stats.requests, stats.completions), (1, 1), "{model:?}");
        assert_eq!(stats.bytes_copied, done[0].bytes_copied, "{model:?}");
        assert_eq!(stats.bytes_offloaded, done[0].bytes_offloaded, "{model:?}");
        assert_eq!(stats.commands, u64::from(done[0].commands), "{model:?}");
        assert_eq!(f.script.count(XCOPY_CMD_COPY), stats.commands, "{model:?}");
        assert_eq!(
            (stats.command_errors, stats.retries, stats.fallbacks),
            (0, 0, 0)
        );
        f.finish();
    }
}

#[test]
fn without_a_pool() {
    let with = |model| Fixture::with(model, |options| options.pool_threads = 0, |_| {});
    for model in [Model::Polled, Model::Threaded, Model::Affine] {
        let mut f = with(model);
        let early = f.request(range(0, 0, 4096));
        assert_eq!(f.rig.submit(&early), -libc::ENOTCONN, "{model:?}");
        let prepared = f.rig.run(&request(7, XCOPY_OP_PREPARE, f.src, f.dst));
        assert_eq!(prepared.res, 0, "{model:?} {prepared:?}");
        let ended = f.copy(range(0, 512, 8 * 65_536), |_| {});
        assert_eq!(ended.bytes_by(f.method('a')), 8 * 65_536, "{model:?}");
        f.finish();
    }
    let f = with(Model::Blocking);
    assert_eq!(
        f.rig.run(&request(7, XCOPY_OP_PREPARE, f.src, f.dst)).res,
        0
    );
    let done = f.rig.run(&copy(8, f.src, f.dst, range(0, 0, 4096)));
    assert_eq!(
        (done.res, done.reason),
        (-libc::ENOTSUP, XCOPY_REASON_NO_POOL),
        "{done:?}"
    );
    f.finish();
}

#[test]
fn a_deadline_wakes_a_sleeper() {
    for model in [Model::Threaded, Model::Blocking] {
        let f = Fixture::new(model);
        f.script.fault(XCOPY_CMD_COPY, 0, 1, Fault::Lost);
        let mut hung = copy(1, f.src, f.dst, range(0, 0, 512));
        (hung.timeout_ms, hung.flags) = (60, XCOPY_REQ_ABANDON_ON_TIMEOUT);
        let begun = Instant::now();
        assert_eq!(f.rig.submit(&hung), 1);
        // Nothing but the deadline can wake this; spurious wake-ups may come.
        let (mut done, mut wakes) = (Vec::new(), 0);
        while done.is_empty() {
            if f.rig.arm() == 0 {
                let mut fd = libc::pollfd {
                    fd: f.rig.fd(),
                    events: libc::POLLIN,
                    revents: 0,
                };
                // SAFETY: one pollfd that lives through the call.
                let n = unsafe { libc::poll(&mut fd, 1, 5000) };
                assert_eq!(n, 1, "{model:?}: nothing woke the sleeper");
                wakes += 1;
            }
            done = f.rig.poll(0, 1, 0);
            assert!(wakes < 50, "{model:?}: the fd does not rest");
        }
        assert_eq!(f.rig.disarm(), 0);
        assert!(begun.elapsed() >= Duration::from_millis(50), "{model:?}");
        assert!(begun.elapsed() < Duration::from_secs(2), "{model:?}");
        assert_eq!(done[0].res, -libc::ETIMEDOUT, "{model:?} {done:?}");
        f.script.release();
        f.until("the late answer is not counted", |f| {
            f.rig.remote.stats().late_answers == 1
        });
        f.finish();
    }
}

#[test]
fn a_rig_without_plugins_is_freed() {
    drop(Rig::new());
}
