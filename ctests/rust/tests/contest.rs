//! The choice between an offload and the host by measured speed.
#![allow(missing_docs)]

use xcopy::abi::*;
use xcopy_ctests::disk::{Disk, stamp};
use xcopy_ctests::faulty::Model;
use xcopy_ctests::fixture::{Ended, Fixture, range};
use xcopy_ctests::script::Fault;

/// Bytes of a request that is long enough to compare methods.
const LARGE: usize = 64 << 20;
const SMALL: u64 = 1 << 20;
const HOST: u16 = XCOPY_METHOD_READ_WRITE;

fn fixture(slow: u16) -> Fixture {
    let mut f = Fixture::with(Model::Blocking, |_| {}, |_| {});
    f.a = stamp(1, 1, LARGE);
    f.script.add_disk("a", Disk::new(f.a.clone(), 512, 0));
    f.target = f
        .script
        .add_disk("b", Disk::new(stamp(2, 1, LARGE), 512, 0));
    for small in [f.src, f.dst] {
        assert_eq!(f.rig.remote.close(small), 0);
    }
    f.src = f.rig.open(&f.model.disk("a"));
    f.dst = f.rig.open(&f.model.disk("b"));
    f.script.choose(move |seen| {
        if seen.op == slow {
            // Slow for its size, so that larger commands are no way out.
            Fault::Late(1 + seen.bytes * 40 / SMALL)
        } else {
            Fault::None
        }
    });
    f
}

/// Methods and reasons of a report.
fn fallbacks(ended: &Ended) -> Vec<(u16, u16)> {
    let listed = &ended.report.fallbacks[..ended.report.nfallbacks as usize];
    listed.iter().map(|f| (f.method, f.reason)).collect()
}

/// The method that a query names first.
fn first(f: &Fixture) -> u16 {
    f.rig.query(f.src, f.dst)[0].method
}

#[test]
fn a_slow_offload_is_left_to_the_host() {
    let mut f = fixture(XCOPY_CMD_COPY);
    let a = f.method('a');
    let all = range(0, 0, LARGE as u64);
    let forced = f.copy(range(0, 0, SMALL), |r| r.flags = XCOPY_REQ_NO_FALLBACK);
    assert_eq!(forced.bytes_by(a), SMALL, "{:?}", forced.done);
    // Nothing is known yet: the worthier method.
    assert_eq!(f.copy(range(0, 0, SMALL), |_| {}).bytes_by(a), SMALL);
    let ended = f.copy(all, |_| {});
    let done = ended.done;
    assert_eq!((done.res, done.method), (0, HOST), "{done:?}");
    assert!(ended.bytes_by(HOST) > LARGE as u64 / 2, "{done:?}");
    assert_eq!(ended.bytes_by(HOST) + ended.bytes_by(a), LARGE as u64);
    assert_eq!(done.reason, XCOPY_REASON_SLOWER, "{done:?}");
    let told = fallbacks(&ended);
    assert!(told.contains(&(a, XCOPY_REASON_SLOWER)), "{told:?}");
    assert!(!told.iter().any(|(method, _)| *method == HOST), "{told:?}");
    // What would be used comes first.
    assert_eq!(first(&f), HOST);
    // What was found out serves requests too small to find out anything.
    let after = f.copy(range(0, 0, SMALL), |_| {});
    assert_eq!(after.bytes_by(HOST), SMALL, "{:?}", after.done);
    assert_eq!(after.done.reason, XCOPY_REASON_SLOWER, "{:?}", after.done);
    // Who wants the offload gets it, and an invalidated device is judged anew.
    let forced = f.copy(range(0, 0, SMALL), |r| r.flags = XCOPY_REQ_NO_FALLBACK);
    assert_eq!(forced.bytes_by(a), SMALL, "{:?}", forced.done);
    assert_eq!(f.rig.remote.invalidate(f.dst), 0);
    assert_eq!(first(&f), a);
    assert_eq!(f.copy(range(0, 0, SMALL), |_| {}).bytes_by(a), SMALL);
    f.finish();
}

#[test]
fn a_slow_host_is_found_out_by_a_small_share() {
    let mut f = fixture(XCOPY_CMD_READ);
    let a = f.method('a');
    let ended = f.copy(range(0, 0, LARGE as u64), |_| {});
    let done = ended.done;
    let slower = XCOPY_REASON_SLOWER;
    assert_eq!(
        (done.res, done.method, done.reason),
        (0, a, slower),
        "{done:?}"
    );
    assert!(ended.bytes_by(HOST) > 0, "{done:?}");
    assert!(ended.bytes_by(HOST) <= 8 * SMALL, "{done:?}");
    assert_eq!(ended.bytes_by(HOST) + ended.bytes_by(a), LARGE as u64);
    // That a part went by the host only to be measured is told.
    assert_eq!(fallbacks(&ended), [(HOST, slower)], "{done:?}");
    assert_eq!(first(&f), a);
    // It is known now: nothing is tried, and nothing left to tell.
    let again = f.copy(range(0, 0, SMALL), |_| {});
    assert_eq!((again.bytes_by(a), again.done.reason), (SMALL, 0));
    assert_eq!(fallbacks(&again), []);
    f.finish();
}
