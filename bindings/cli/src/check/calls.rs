//! The calls into the plugin that are under way: for the watchdog, for a crash,
//! and for the wording of a fault.

use std::cell::Cell;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::fault::Fault;
use super::{system, wire};

/// Calls that can be under way at once: more threads than a check starts.
const PLACES: usize = 32;
/// A queue function that takes longer, and waits or works meanwhile, blocks.
const AT_ONCE: Duration = Duration::from_millis(250);

struct Place {
    /// The call's name, or NULL.
    name: AtomicPtr<&'static str>,
    /// Milliseconds since the first call at which it began.
    since_ms: AtomicU64,
    /// The thread that makes it.
    thread: AtomicU64,
}

static OPEN: [Place; PLACES] = [const {
    Place {
        name: AtomicPtr::new(std::ptr::null_mut()),
        since_ms: AtomicU64::new(0),
        thread: AtomicU64::new(0),
    }
}; PLACES];

thread_local! {
    static DEPTH: Cell<Option<&'static &'static str>> = const { Cell::new(None) };
}

fn now_ms() -> u64 {
    system::monotonic_ms()
}

/// Makes a call that may wait.
pub fn slow<R>(name: &'static &'static str, call: impl FnOnce() -> R) -> R {
    let place = OPEN.iter().find(|place| {
        let taken = std::ptr::from_ref(name).cast_mut();
        place
            .name
            .compare_exchange(
                std::ptr::null_mut(),
                taken,
                Ordering::AcqRel,
                Ordering::Relaxed,
            )
            .is_ok()
    });
    if let Some(place) = place {
        place.thread.store(system::thread_id(), Ordering::Release);
        place.since_ms.store(now_ms().max(1), Ordering::Release);
    }
    let before = DEPTH.replace(Some(name));
    let answer = call();
    DEPTH.set(before);
    if let Some(place) = place {
        place.since_ms.store(0, Ordering::Release);
        place.name.store(std::ptr::null_mut(), Ordering::Release);
    }
    answer
}

/// Makes a call that has to return at once. One that was only preempted did.
pub fn quick<R>(name: &'static &'static str, call: impl FnOnce() -> R) -> R {
    let (begun, before) = (Instant::now(), system::thread_effort());
    let answer = slow(name, call);
    let (took, after) = (begun.elapsed(), system::thread_effort());
    let waited = after.waits > before.waits;
    let worked = after.cpu.saturating_sub(before.cpu) >= AT_ONCE;
    if took >= AT_ONCE && (waited || worked) {
        let text = format!("{name} took {} ms", took.as_millis());
        wire::fault(Fault::Blocks, &text);
    }
    answer
}

/// The call that this thread makes now.
pub fn innermost() -> Option<&'static str> {
    DEPTH.get().copied()
}

/// Without a lock, an allocation or a thread-local variable: the call that a
/// crashing thread makes, or any if it makes none. For the crash handler.
pub fn innermost_in_a_signal() -> &'static str {
    let me = system::thread_id();
    let mut any = "no call: a thread of the plugin's own";
    for place in &OPEN {
        let name = place.name.load(Ordering::Acquire);
        if name.is_null() {
            continue;
        }
        // SAFETY: only `slow` stores there, a reference to a static.
        let name: &'static str = unsafe { *name };
        if place.thread.load(Ordering::Acquire) == me {
            any = name;
        }
    }
    any
}

/// The name of a call that has been under way for longer than `limit`.
pub fn overdue(limit: Duration) -> Option<&'static str> {
    let now = now_ms();
    OPEN.iter().find_map(|place| {
        let (name, since) = (
            place.name.load(Ordering::Acquire),
            place.since_ms.load(Ordering::Acquire),
        );
        let late = since != 0 && u128::from(now.saturating_sub(since)) > limit.as_millis();
        // SAFETY: as above.
        (late && !name.is_null()).then(|| unsafe { *name })
    })
}
