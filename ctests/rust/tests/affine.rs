//! AFFINE plugins: what opens, judges and closes devices on a queue is a command
//! like any other, and is neither lost nor left undone.
#![allow(missing_docs)]

use std::sync::atomic::Ordering;
use xcopy::abi::*;
use xcopy_ctests::faulty::Model;
use xcopy_ctests::fixture::{Fixture, range};
use xcopy_ctests::rig::{LONG, copy, last_error, request};
use xcopy_ctests::script::Fault;

const SHORT: i64 = 30_000_000;

fn open(f: &Fixture) -> u32 {
    f.script.open.load(Ordering::Acquire)
}

fn held(f: &Fixture) -> u32 {
    f.script.held.load(Ordering::Acquire)
}

/// Submits a copy that waits for its pair, cancels it and takes its completion.
fn submit_and_cancel(f: &mut Fixture) {
    let request = f.request(range(0, 0, 4096));
    assert_eq!(f.rig.submit(&request), 1, "{}", last_error());
    f.until("the command is not kept", |f| held(f) == 1);
    assert_eq!(f.rig.remote.cancel(request.user_data), 1);
    let done = f.rig.poll(1, 1, LONG);
    assert_eq!(done[0].res, -libc::ECANCELED, "{done:?}");
}

#[test]
fn what_opens_while_its_queue_is_destroyed_is_closed() {
    let mut f = Fixture::new(Model::Affine);
    f.script.fault(XCOPY_CMD_OPEN, 0, u64::MAX, Fault::Lost);
    let request = f.request(range(0, 0, 4096));
    assert_eq!(f.rig.submit(&request), 1, "{}", last_error());
    f.until("nothing is opened", |f| held(f) == 2);
    assert_eq!(f.rig.remote.cancel(request.user_data), 1);
    assert_eq!(f.rig.poll(1, 1, LONG)[0].res, -libc::ECANCELED);
    assert_eq!(open(&f), 0);
    // No request is in flight, and the text says so.
    assert_eq!(f.rig.destroy(0), -libc::EBUSY);
    assert!(
        last_error().starts_with("2 devices are being opened"),
        "{}",
        last_error()
    );
    let script = f.script.clone();
    let later = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(50));
        script.release();
    });
    assert_eq!(f.rig.destroy(XCOPY_DESTROY_FORCE), 0);
    later.join().unwrap();
    assert_eq!((open(&f), f.script.count(XCOPY_CMD_CLOSE)), (0, 2));
    assert_eq!(f.script.queues.load(Ordering::Acquire), 0);
    assert_eq!(f.script.violations(), Vec::<String>::new());
}

#[test]
fn a_forced_destroy_closes_nothing_that_is_in_use() {
    let mut f = Fixture::new(Model::Affine);
    assert_eq!(f.copy_plainly(range(0, 0, 512)).res, 0);
    let nth = f.script.count(XCOPY_CMD_COPY);
    f.script.fault(XCOPY_CMD_COPY, nth, u64::MAX, Fault::Lost);
    let request = f.request(range(0, 0, 4 * 65_536));
    assert_eq!(f.rig.submit(&request), 1);
    f.until("the commands are not kept", |f| held(f) == 4);
    assert_eq!(f.rig.destroy(XCOPY_DESTROY_FORCE), 0);
    assert_eq!((open(&f), f.script.count(XCOPY_CMD_CLOSE)), (2, 0));
    // Nor was more dispatched meanwhile.
    assert_eq!(f.script.count(XCOPY_CMD_COPY), nth + 4);
    assert_eq!(f.script.violations(), Vec::<String>::new());
}

#[test]
fn a_full_window_without_a_pool_delays_and_loses_none() {
    let mut f = Fixture::with(
        Model::Affine,
        |options| options.pool_threads = 0,
        |options| (options.window, options.chunk) = (1, 65_536),
    );
    let prepare = request(70, XCOPY_OP_PREPARE, f.src, f.dst);
    assert_eq!(f.rig.run(&prepare).res, 0);
    let nth = f.script.count(XCOPY_CMD_COPY);
    f.script.fault(XCOPY_CMD_COPY, nth, 1, Fault::Lost);
    let first = f.request(range(0, 8192, 4096));
    assert_eq!(f.rig.submit(&first), 1);
    f.until("the command is not kept", |f| held(f) == 1);
    // The only command is taken: another source waits to be opened and judged,
    // the first one, closed, for its last use and then to be closed.
    let other = f.rig.open(&f.model.disk("a"));
    let prepare = request(71, XCOPY_OP_PREPARE, other, f.dst);
    assert_eq!(f.rig.submit(&prepare), 1, "{}", last_error());
    let waiting = copy(72, other, f.dst, range(0, 700 << 10, 512));
    assert_eq!(f.rig.submit(&waiting), 1, "{}", last_error());
    assert_eq!(f.rig.remote.close(f.src), 1);
    assert_eq!(f.rig.poll(1, 4, SHORT), Vec::new());
    f.script.release();
    let done = f.rig.poll(3, 4, LONG);
    assert_eq!(done.len(), 3, "{done:?}");
    assert!(done.iter().all(|done| done.res == 0), "{done:?}");
    f.until("the device stays", |f| f.rig.remote.is_closed(f.src) == 1);
    assert!(f.rig.remote.close(other) >= 0);
    f.until("the device stays", |f| f.rig.remote.is_closed(other) == 1);
    f.finish();
}

#[test]
fn a_sleeper_learns_that_a_device_waits_to_be_closed() {
    let mut f = Fixture::with(
        Model::Affine,
        |options| options.pool_threads = 0,
        |options| (options.window, options.chunk) = (1, 65_536),
    );
    let other = f.rig.open(&f.model.disk("a"));
    for (user_data, src) in [(70, f.src), (71, other)] {
        let prepare = request(user_data, XCOPY_OP_PREPARE, src, f.dst);
        assert_eq!(f.rig.run(&prepare).res, 0);
    }
    let nth = f.script.count(XCOPY_CMD_COPY);
    f.script.fault(XCOPY_CMD_COPY, nth, 1, Fault::Lost);
    let first = f.request(range(0, 8192, 4096));
    assert_eq!(f.rig.submit(&first), 1);
    f.until("the command is not kept", |f| held(f) == 1);
    assert!(f.rig.remote.close(other) >= 0);
    assert_eq!(f.rig.poll(1, 4, SHORT), Vec::new());
    assert_eq!(f.script.count(XCOPY_CMD_CLOSE), 0);
    f.script.release();
    assert_eq!(f.rig.poll(1, 4, LONG).len(), 1);
    f.until("the device stays", |f| f.rig.remote.is_closed(other) == 1);
    f.finish();
}

#[test]
fn a_device_is_not_closed_while_it_is_judged() {
    let mut f = Fixture::new(Model::Affine);
    f.script.fault(XCOPY_CMD_PROBE, 0, 1, Fault::Lost);
    submit_and_cancel(&mut f);
    for device in [f.src, f.dst] {
        assert!(f.rig.remote.close(device) >= 0);
    }
    assert_eq!(f.rig.poll(1, 4, SHORT), Vec::new());
    assert_eq!((open(&f), f.script.count(XCOPY_CMD_CLOSE)), (2, 0));
    f.script.release();
    f.until("a device stays open", |f| open(f) == 0);
    f.finish();
}

#[test]
fn a_closed_device_is_neither_opened_nor_judged_again() {
    let mut f = Fixture::new(Model::Affine);
    f.script.fault(XCOPY_CMD_OPEN, 1, 1, Fault::Lost);
    submit_and_cancel(&mut f);
    for device in [f.src, f.dst] {
        assert!(f.rig.remote.close(device) >= 0);
    }
    f.until("the first stays open", |f| open(f) == 0);
    f.script.release();
    f.until("the second stays open", |f| {
        f.script.count(XCOPY_CMD_CLOSE) == 2
    });
    assert_eq!(f.script.count(XCOPY_CMD_OPEN), 2);
    assert_eq!(f.script.count(XCOPY_CMD_PROBE), 0);
    f.finish();
}

#[test]
fn an_open_that_fails_with_no_errno_is_an_errno() {
    let mut f = Fixture::new(Model::Affine);
    f.script.fault(XCOPY_CMD_OPEN, 0, 1, Fault::fail(-5, 0));
    let request = f.request(range(0, 0, 4096));
    let done = f.rig.run(&request);
    assert_eq!((done.res, done.bytes_copied), (-libc::EIO, 0), "{done:?}");
    assert_eq!(f.rig.remote.stats().plugin_faults, 1);
    assert_eq!(f.copy_plainly(range(0, 0, 512)).res, 0);
    f.finish();
}
