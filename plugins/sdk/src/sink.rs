//! Where results of a queue go: collected while the owner is inside a call, and
//! handed over at its end; at once from any other thread.

use crate::host;
use std::cell::{Cell, UnsafeCell};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use xcopy_abi::{xcopy_host_queue, xcopy_result};

/// Results that wait for the end of a call, with their sense data.
#[derive(Default)]
struct Local {
    results: Vec<xcopy_result>,
    senses: Vec<Vec<u8>>,
}

/// One queue's way to the core.
pub(crate) struct Sink {
    queue: *mut xcopy_host_queue,
    /// Number of the thread that is inside a call of the queue; 0 for none.
    inside: AtomicU64,
    local: UnsafeCell<Local>,
    /// After queue_destroy the core's queue must not be used.
    closed: RwLock<bool>,
    /// The plugin panicked.
    broken: AtomicBool,
}

// SAFETY: `queue` is opaque and may be named to `complete` on any thread; `local`
// is touched only by the thread whose number `inside` holds.
unsafe impl Send for Sink {}
// SAFETY: as above.
unsafe impl Sync for Sink {}

/// A number of the calling thread that no other thread ever has.
fn thread_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local! {
        static MINE: Cell<u64> = const { Cell::new(0) };
    }
    MINE.with(|mine| {
        if mine.get() == 0 {
            mine.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        mine.get()
    })
}

impl Sink {
    pub(crate) fn new(queue: *mut xcopy_host_queue, window: usize) -> Sink {
        Sink {
            queue,
            inside: AtomicU64::new(0),
            local: UnsafeCell::new(Local {
                results: Vec::with_capacity(window),
                senses: Vec::new(),
            }),
            closed: RwLock::new(false),
            broken: AtomicBool::new(false),
        }
    }

    /// Runs a call of the owner's, and hands over what ended in it.
    pub(crate) fn enter<R>(&self, call: impl FnOnce() -> R) -> R {
        let before = self.inside.swap(thread_number(), Ordering::Relaxed);
        let answer = call();
        self.inside.store(before, Ordering::Relaxed);
        if before == 0 {
            self.hand_over();
        }
        answer
    }

    fn hand_over(&self) {
        // SAFETY: the owner, outside of `deliver`; nobody else is inside. The
        // borrow ends before the core is called, which may submit again.
        let mut local = unsafe { std::mem::take(&mut *self.local.get()) };
        if !local.results.is_empty() {
            if let Some(complete) = host::complete_local() {
                let n = local.results.len() as u32;
                let (first, stride) = (local.results.as_ptr(), size_of::<xcopy_result>());
                // SAFETY: the core's function, on the owner's thread, between or
                // inside its calls; results and sense live until it returns.
                unsafe { complete(self.queue, first, stride, n) };
            }
            local.results.clear();
            local.senses.clear();
        }
        // SAFETY: as above; keeps the room for the next time.
        let place = unsafe { &mut *self.local.get() };
        if place.results.is_empty() {
            *place = local;
        }
    }

    /// Delivers the end of a command.
    pub(crate) fn deliver(&self, result: xcopy_result, sense: Vec<u8>) {
        if self.inside.load(Ordering::Relaxed) == thread_number() {
            // SAFETY: this thread is the one inside, and lets nobody else run
            // between here and the end of the push.
            let local = unsafe { &mut *self.local.get() };
            local.results.push(result);
            if !sense.is_empty() {
                local.senses.push(sense);
            }
            return;
        }
        let closed = self.closed.read().unwrap_or_else(PoisonError::into_inner);
        if let (false, Some(complete)) = (*closed, host::complete()) {
            // SAFETY: the core's function, legal on any thread; queue_destroy
            // waits for the lock before it returns.
            unsafe { complete(self.queue, &result, size_of::<xcopy_result>(), 1) };
        }
    }

    /// The plugin panicked.
    pub(crate) fn break_down(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }

    /// Whether what fails now fails by a panic.
    pub(crate) fn is_broken(&self) -> bool {
        std::thread::panicking() || self.broken.load(Ordering::Relaxed)
    }

    /// From now on what ends is swallowed.
    pub(crate) fn close(&self) {
        *self.closed.write().unwrap_or_else(PoisonError::into_inner) = true;
    }
}
