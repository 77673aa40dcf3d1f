//! The concurrency that a target states holds for all queues of a context together.
#![allow(missing_docs)]

use std::collections::HashMap;
use std::ffi::CStr;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use xcopy::abi::*;
use xcopy_ctests::rig::{LONG, Rig, copy, last_error};
use xcopy_plugin_sdk::{
    Blocking, Command, Description, Done, Failure, Host, Method, Opened, Operation, Outcome,
    Plugin, Verdict, errno, init_blocking,
};

const MIB: u64 = 1 << 20;
const SIZE: u64 = 16 * MIB;

/// What a unit saw as a destination.
#[derive(Default)]
struct Seen {
    running: u32,
    most: u32,
    /// Commands by their source.
    from: HashMap<u64, u32>,
}

/// A unit of a target that takes one command at once, by its words.
#[derive(Default)]
struct Unit {
    seen: Mutex<Seen>,
    /// Commands to it wait while it is set.
    held: Mutex<bool>,
    released: Condvar,
}

impl Unit {
    fn hold(&self) {
        *self.held.lock().unwrap() = true;
    }

    fn release(&self) {
        *self.held.lock().unwrap() = false;
        self.released.notify_all();
    }

    fn most(&self) -> u32 {
        self.seen.lock().unwrap().most
    }

    fn running(&self) -> u32 {
        self.seen.lock().unwrap().running
    }

    fn commands_from(&self, source: u64) -> u32 {
        let seen = self.seen.lock().unwrap();
        seen.from.get(&source).copied().unwrap_or(0)
    }
}

static UNITS: Mutex<Option<HashMap<u64, Arc<Unit>>>> = Mutex::new(None);

fn unit(number: u64) -> Arc<Unit> {
    let mut units = UNITS.lock().unwrap();
    let units = units.get_or_insert_default();
    units.entry(number).or_default().clone()
}

/// An open unit.
struct Device {
    number: u64,
    unit: Arc<Unit>,
}

struct Narrow;

impl Plugin for Narrow {
    const NAME: &'static CStr = c"narrow";
    const VERSION: &'static CStr = c"1";
    const DESCRIPTION: &'static CStr = c"a target that takes one command at once";
    const FLAGS: u32 = XCOPY_PLUGIN_NATIVE;
    const COMMANDS: u32 = XCOPY_CAN_COPY;
    const METHODS: &'static [Method] = &[Method::new(c"narrow").offloads()];
    const MAX_RANGES: u32 = 1;
    type Device = Device;

    fn start(_host: Host) -> Result<Self, Failure> {
        Ok(Narrow)
    }

    fn open(&self, device: &Description<'_>) -> Result<Opened<Device>, Failure> {
        let number = device.name().and_then(|name| name.parse().ok());
        let number = number.ok_or_else(|| Failure::new(errno::EINVAL))?;
        let unit = unit(number);
        let mut opened = Opened::new(Device { number, unit }, 512, SIZE);
        opened.identity = number;
        Ok(opened)
    }

    fn probe(&self, _: usize, _: Option<&Device>, _: Option<&Device>) -> Result<Verdict, Failure> {
        Ok(Verdict::usable(xcopy_limits {
            max_bytes: MIB,
            max_ranges: 1,
            max_concurrent: 1,
            ..xcopy_limits::default()
        }))
    }
}

impl Blocking for Narrow {
    fn execute(&self, command: &mut Command<'_, Device>) -> Outcome {
        let Operation::Copy { src, dst, .. } = command.operation() else {
            return Err(command.unknown());
        };
        {
            let mut seen = dst.unit.seen.lock().unwrap();
            seen.running += 1;
            seen.most = seen.most.max(seen.running);
            *seen.from.entry(src.number).or_default() += 1;
        }
        std::thread::sleep(Duration::from_millis(1));
        let held = dst.unit.held.lock().unwrap();
        drop(dst.unit.released.wait_while(held, |held| *held).unwrap());
        dst.unit.seen.lock().unwrap().running -= 1;
        Ok(Done::new())
    }
}

unsafe extern "C" fn init(host: *const xcopy_host) -> *const xcopy_plugin {
    // SAFETY: handed on as it came, under the same contract.
    unsafe { init_blocking::<Narrow>(host) }
}

fn rig() -> Rig {
    let rig = Rig::new();
    assert_eq!(rig.register(init), 0, "{}", last_error());
    rig
}

fn whole(user_data: u64, src: u32, dst: u32) -> xcopy_request {
    let range = xcopy_range {
        src_offset: 0,
        dst_offset: 0,
        length: SIZE,
    };
    copy(user_data, src, dst, range)
}

fn open(rig: &Rig, number: u64) -> u32 {
    rig.open(&format!("narrow:{number}"))
}

/// Waits for the one completion of a request that went well.
fn ends_well(rig: &Rig) {
    let done = rig.poll(1, 1, LONG);
    assert_eq!(done.len(), 1, "{:?}", rig.remote.stats());
    assert_eq!(
        (done[0].res, done[0].bytes_done),
        (0, SIZE),
        "{:?}",
        done[0]
    );
}

fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    for _ in 0..5000 {
        if is() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("{what}");
}

#[test]
fn two_queues_together_keep_to_it_and_neither_waits_for_the_other_to_be_polled() {
    let one = rig();
    let other = one.beside(|_| {});
    // Two handles of one destination too: it is the storage that counts.
    let (a, b) = (open(&one, 1), open(&one, 2));
    let (x, again) = (open(&one, 3), open(&one, 3));
    assert_eq!(other.submit(&whole(2, b, again)), 1, "{}", last_error());
    // Bound and begun, then left alone.
    wait_until("the other queue begins", || {
        assert!(other.poll(0, 1, 0).is_empty());
        unit(3).commands_from(2) > 0
    });
    assert_eq!(one.submit(&whole(1, a, x)), 1, "{}", last_error());
    ends_well(&one);
    assert!(unit(3).commands_from(2) < 16, "nobody polled it");
    ends_well(&other);
    assert_eq!(unit(3).most(), 1);
    assert_eq!(
        (unit(3).commands_from(1), unit(3).commands_from(2)),
        (16, 16)
    );
}

#[test]
fn two_queues_that_are_polled_by_turns_keep_to_it() {
    let one = rig();
    let other = one.beside(|_| {});
    let (a, b, x) = (open(&one, 11), open(&one, 12), open(&one, 13));
    assert_eq!(one.submit(&whole(1, a, x)), 1, "{}", last_error());
    assert_eq!(other.submit(&whole(2, b, x)), 1, "{}", last_error());
    let mut left = vec![&one, &other];
    wait_until("both end", || {
        left.retain(|rig| match rig.poll(0, 1, 0)[..] {
            [] => true,
            [done, ..] => {
                assert_eq!((done.res, done.bytes_done), (0, SIZE), "{done:?}");
                false
            }
        });
        left.is_empty()
    });
    assert_eq!(unit(13).most(), 1);
}

#[test]
fn sleepers_are_woken_for_their_turns() {
    let one = rig();
    let other = one.beside(|_| {});
    let (a, b, x) = (open(&one, 21), open(&one, 22), open(&one, 23));
    std::thread::scope(|scope| {
        for (rig, src) in [(one.beside(|_| {}), a), (other, b)] {
            scope.spawn(move || {
                assert_eq!(rig.submit(&whole(1, src, x)), 1, "{}", last_error());
                ends_well(&rig);
            });
        }
    });
    assert_eq!(unit(23).most(), 1);
    assert_eq!(
        (unit(23).commands_from(21), unit(23).commands_from(22)),
        (16, 16)
    );
}

#[test]
fn a_command_that_waits_for_its_turn_is_taken_back() {
    let one = rig();
    let other = one.beside(|_| {});
    let (a, b, x) = (open(&one, 31), open(&one, 32), open(&one, 33));
    unit(33).hold();
    assert_eq!(one.submit(&whole(1, a, x)), 1, "{}", last_error());
    wait_until("a command runs", || {
        assert!(one.poll(0, 1, 0).is_empty());
        unit(33).running() == 1
    });
    assert_eq!(other.submit(&whole(2, b, x)), 1, "{}", last_error());
    wait_until("a command of the other queue waits", || {
        assert!(other.poll(0, 1, 0).is_empty());
        let progress = other.remote.progress(2);
        progress.is_ok_and(|progress| progress.commands_in_flight > 0)
    });
    assert_eq!(other.remote.cancel(2), 1);
    let done = other.poll(1, 1, LONG);
    assert_eq!(done.len(), 1, "it waits for what another queue sent");
    assert_eq!((done[0].res, done[0].bytes_done), (-libc::ECANCELED, 0));
    assert_eq!(done[0].flags & XCOPY_CPL_INDETERMINATE, 0, "{:?}", done[0]);
    assert_eq!(unit(33).commands_from(32), 0);
    // So does a deadline.
    let late = xcopy_request {
        timeout_ms: 20,
        ..whole(3, b, x)
    };
    assert_eq!(other.run(&late).res, -libc::ETIMEDOUT);
    unit(33).release();
    ends_well(&one);
    assert_eq!((unit(33).most(), unit(33).commands_from(32)), (1, 0));
}

#[test]
fn one_thread_is_enough_for_two_queues() {
    let one = Rig::with(|options| options.pool_threads = 1, |_| {});
    assert_eq!(one.register(init), 0, "{}", last_error());
    let other = one.beside(|_| {});
    let (a, x, y) = (open(&one, 61), open(&one, 62), open(&one, 63));
    assert_eq!(one.submit(&whole(1, a, x)), 1, "{}", last_error());
    assert_eq!(other.submit(&whole(2, a, y)), 1, "{}", last_error());
    ends_well(&other);
    ends_well(&one);
    assert_eq!((unit(62).most(), unit(63).most()), (1, 1));
}

#[test]
fn other_destinations_do_not_wait() {
    let one = rig();
    let other = one.beside(|_| {});
    let (a, x, y) = (open(&one, 41), open(&one, 42), open(&one, 43));
    unit(42).hold();
    assert_eq!(one.submit(&whole(1, a, x)), 1, "{}", last_error());
    wait_until("a command runs", || {
        assert!(one.poll(0, 1, 0).is_empty());
        unit(42).running() == 1
    });
    assert_eq!(other.submit(&whole(2, a, y)), 1, "{}", last_error());
    ends_well(&other);
    unit(42).release();
    ends_well(&one);
}

#[test]
fn a_forced_depth_overrides_it() {
    let one = rig();
    let deep = one.beside(|options| options.depth = 3);
    let (a, x) = (open(&one, 51), open(&one, 52));
    unit(52).hold();
    assert_eq!(deep.submit(&whole(1, a, x)), 1, "{}", last_error());
    wait_until("three commands run", || {
        assert!(deep.poll(0, 1, 0).is_empty());
        unit(52).running() == 3
    });
    std::thread::sleep(Duration::from_millis(20));
    unit(52).release();
    ends_well(&deep);
    assert_eq!(unit(52).most(), 3);
}
