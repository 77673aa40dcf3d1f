//! The queue of the THREADED form: one thread that ends commands by
//! host.complete, in batches, each after its devices' delay.

use crate::{Complete, PANICKED, command, device, host_complete};
use std::collections::VecDeque;
use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;
use xcopy_abi::guard::guard;
use xcopy_abi::*;

/// Commands that are ended with one call at most.
const BATCH: usize = 64;

#[derive(Clone, Copy)]
struct Entry {
    command: *mut xcopy_cmd,
    canceled: bool,
}

struct Work {
    waiting: VecDeque<Entry>,
    /// The command whose delay passes now.
    current: Option<Entry>,
    stop: bool,
}

struct Shared {
    work: Mutex<Work>,
    wake: Condvar,
    window: usize,
    complete: Complete,
    host_queue: *mut xcopy_host_queue,
}

// SAFETY: the command pointers are used by whoever took them out of `work`; the
// host queue is only named to `complete`, which any thread may call.
unsafe impl Send for Shared {}
// SAFETY: as above; everything that changes is behind the mutex.
unsafe impl Sync for Shared {}

struct Queue {
    shared: Arc<Shared>,
    worker: Option<JoinHandle<()>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut answers = Vec::with_capacity(BATCH);
        while self.take(&mut batch) {
            for Entry { command, canceled } in batch.drain(..) {
                // SAFETY: valid until completed, which happens below.
                let command = unsafe { &*command };
                let answer = answers.len();
                answers.push(command::failure(
                    command,
                    libc::ECANCELED,
                    XCOPY_REASON_CANCELED,
                ));
                if !canceled {
                    // SAFETY: as above, with devices that `open` made.
                    unsafe { command::perform::<false>(command, &mut answers[answer]) };
                }
            }
            // SAFETY: the host queue is valid until `destroy`, which first
            // joins this thread; the answers live during the call.
            unsafe {
                let n = answers.len() as u32;
                (self.complete)(
                    self.host_queue,
                    answers.as_ptr(),
                    size_of::<xcopy_result>(),
                    n,
                );
            }
            answers.clear();
        }
    }

    /// Waits for commands that are due now; false when the queue goes.
    fn take(&self, batch: &mut Vec<Entry>) -> bool {
        let due = |entry: &Entry| {
            // SAFETY: a waiting command is valid until it is completed.
            entry.canceled || unsafe { device::delay(entry.command) }.is_zero()
        };
        let mut work = self.lock();
        loop {
            if work.stop {
                return false;
            }
            while batch.len() < BATCH && work.waiting.front().is_some_and(due) {
                batch.extend(work.waiting.pop_front());
            }
            if !batch.is_empty() {
                return true;
            }
            match work.waiting.pop_front() {
                Some(entry) => break work.current = Some(entry),
                None => work = self.wake.wait(work).unwrap_or_else(PoisonError::into_inner),
            }
        }
        let begun = Instant::now();
        loop {
            let Some(entry) = work.current else {
                return false;
            };
            // SAFETY: the current command is valid until it is completed.
            let delay = unsafe { device::delay(entry.command) };
            let left = delay.saturating_sub(begun.elapsed());
            if work.stop {
                return false;
            }
            if entry.canceled || left.is_zero() {
                work.current = None;
                batch.push(entry);
                return true;
            }
            work = match self.wake.wait_timeout(work, left) {
                Ok((work, _)) => work,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }
}

/// Starts the worker with all signals blocked: the process's handlers belong on
/// its own threads.
fn spawn(shared: Arc<Shared>) -> std::io::Result<JoinHandle<()>> {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigfillset writes `all`, pthread_sigmask reads it and writes
    // `before`; both live through the calls.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
    }
    let worker = thread::Builder::new()
        .name("xcopy-null".into())
        .spawn(move || shared.run());
    // SAFETY: `before` was filled by the call above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut()) };
    worker
}

/// Table entry.
pub(crate) unsafe extern "C" fn create(
    _state: *mut c_void,
    host_queue: *mut xcopy_host_queue,
    options: *const xcopy_plugin_queue_options,
    queue: *mut *mut c_void,
) -> c_int {
    guard(PANICKED, || {
        let Some((complete, _)) = host_complete() else {
            return -libc::EINVAL;
        };
        if options.is_null() || queue.is_null() {
            return -libc::EINVAL;
        }
        // SAFETY: not NULL, and valid during the call by the contract.
        let window = unsafe { (*options).window } as usize;
        if window == 0 || window > 65_536 {
            return -libc::EINVAL;
        }
        let waiting = VecDeque::with_capacity(window);
        let shared = Arc::new(Shared {
            work: Mutex::new(Work {
                waiting,
                current: None,
                stop: false,
            }),
            wake: Condvar::new(),
            window,
            complete,
            host_queue,
        });
        match spawn(Arc::clone(&shared)) {
            Ok(worker) => {
                let made = Box::new(Queue {
                    shared,
                    worker: Some(worker),
                });
                // SAFETY: the core's pointer to where the queue goes, not NULL.
                unsafe { *queue = Box::into_raw(made).cast() };
                0
            }
            Err(error) => -error.raw_os_error().unwrap_or(libc::EAGAIN),
        }
    })
}

/// Table entry. Commands that still wait are dropped: the core destroys a queue
/// with commands only by force.
pub(crate) unsafe extern "C" fn destroy(queue: *mut c_void) {
    guard((), || {
        if queue.is_null() {
            return;
        }
        // SAFETY: `create` made it, and destroy is the last call with it.
        let mut queue = unsafe { Box::from_raw(queue.cast::<Queue>()) };
        queue.shared.lock().stop = true;
        queue.shared.wake.notify_one();
        if let Some(worker) = queue.worker.take() {
            // A worker that panicked has nothing more to do with the queue.
            let _ = worker.join();
        }
    })
}

/// Table entry.
pub(crate) unsafe extern "C" fn submit(
    queue: *mut c_void,
    commands: *const *mut xcopy_cmd,
    n: u32,
) -> c_int {
    guard(PANICKED, || {
        if queue.is_null() || commands.is_null() {
            return -libc::EINVAL;
        }
        // SAFETY: `create` made it, and it lives until `destroy`.
        let shared = unsafe { &(*queue.cast::<Queue>()).shared };
        let mut work = shared.lock();
        let room = shared.window.saturating_sub(work.waiting.len());
        let taken = room.min(n as usize);
        for i in 0..taken {
            // SAFETY: `commands` holds n pointers.
            let command = unsafe { *commands.add(i) };
            work.waiting.push_back(Entry {
                command,
                canceled: false,
            });
        }
        drop(work);
        if taken > 0 {
            shared.wake.notify_one();
        }
        taken as c_int
    })
}

/// Table entry.
pub(crate) unsafe extern "C" fn cancel(queue: *mut c_void, command: *mut xcopy_cmd) -> c_int {
    guard(PANICKED, || {
        if queue.is_null() {
            return -libc::EINVAL;
        }
        // SAFETY: `create` made it, and it lives until `destroy`.
        let shared = unsafe { &(*queue.cast::<Queue>()).shared };
        let mut guard = shared.lock();
        let work = &mut *guard;
        let mut held = work.current.iter_mut().chain(work.waiting.iter_mut());
        let Some(entry) = held.find(|entry| ptr::eq(entry.command, command)) else {
            // Not here any more: it is ending by itself.
            return -libc::ENOENT;
        };
        entry.canceled = true;
        drop(guard);
        shared.wake.notify_one();
        0
    })
}
