//! The queue of the THREADED model: one thread that ends all commands.

use super::command::{Cross, perform};
use super::{PANICKED, end, script_of};
use crate::script::{Fault, Script, Submit};
use std::collections::VecDeque;
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use xcopy::abi::guard::guard;
use xcopy::abi::*;

#[derive(Default)]
struct Work {
    pending: VecDeque<Cross<xcopy_cmd>>,
    held: Vec<Cross<xcopy_cmd>>,
    late: Vec<(Instant, Cross<xcopy_cmd>)>,
    canceled: Vec<Cross<xcopy_cmd>>,
    ghosts: Vec<u64>,
}

struct Shared {
    script: Arc<Script>,
    state: Cross<c_void>,
    host: Cross<xcopy_host_queue>,
    work: Mutex<Work>,
    wake: Condvar,
    stop: AtomicBool,
}

// SAFETY: what changes is behind the mutex; the state and the host queue may be
// used by any thread.
unsafe impl Sync for Shared {}

struct Queue {
    shared: Arc<Shared>,
    worker: Option<JoinHandle<()>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn carry(&self, command: Cross<xcopy_cmd>, fault: &Fault) {
        // SAFETY: a command that flies; the host queue lives until `destroy`,
        // which joins this thread.
        unsafe {
            let answer = perform(self.state.0, &*command.0, fault);
            end(self.host.0, &answer.results, false);
        }
    }

    fn run(&self) {
        while !self.stop.load(Ordering::Acquire) {
            let mut work = self.lock();
            if work.pending.is_empty() && work.canceled.is_empty() {
                let wait = self.wake.wait_timeout(work, Duration::from_millis(1));
                work = wait.unwrap_or_else(PoisonError::into_inner).0;
            }
            let pending = std::mem::take(&mut work.pending);
            let ghosts = std::mem::take(&mut work.ghosts);
            let canceled = std::mem::take(&mut work.canceled);
            let now = Instant::now();
            let mut due: Vec<_> = work.late.extract_if(.., |late| late.0 <= now).collect();
            if self.script.is_released() {
                let held = std::mem::take(&mut work.held);
                self.script
                    .held
                    .fetch_sub(held.len() as u32, Ordering::AcqRel);
                due.extend(held.into_iter().map(|command| (now, command)));
            }
            drop(work);
            for cookie in ghosts {
                let result = xcopy_result {
                    cookie,
                    bytes: 512,
                    ..xcopy_result::default()
                };
                // SAFETY: as in `carry`.
                unsafe { end(self.host.0, &[result], false) };
            }
            for command in canceled {
                self.carry(command, &Fault::fail(libc::ECANCELED, XCOPY_ACTION_DEFAULT));
            }
            for command in pending {
                self.take(command);
            }
            for (_, command) in due {
                self.carry(command, &Fault::None);
            }
        }
    }

    fn take(&self, command: Cross<xcopy_cmd>) {
        // SAFETY: a command that flies.
        let fault = self.script.fault_of(unsafe { &*command.0 });
        match fault {
            Fault::Lost if !self.script.is_released() => {
                self.lock().held.push(command);
                self.script.held.fetch_add(1, Ordering::AcqRel);
            }
            Fault::Late(ms) => {
                let due = Instant::now() + Duration::from_millis(ms);
                self.lock().late.push((due, command));
            }
            fault => self.carry(command, &fault),
        }
    }
}

/// # Safety
/// `create` made it, and it was not destroyed.
unsafe fn shared_of<'a>(queue: *mut c_void) -> &'a Shared {
    // SAFETY: the caller's word.
    unsafe { &(*queue.cast::<Queue>()).shared }
}

pub(super) unsafe extern "C" fn create(
    state: *mut c_void,
    host: *mut xcopy_host_queue,
    _options: *const xcopy_plugin_queue_options,
    queue: *mut *mut c_void,
) -> c_int {
    // SAFETY: the context's state.
    let script = unsafe { script_of(state) }.clone();
    let answer = script.setup().queue_create;
    if answer == 0 {
        script.queues.fetch_add(1, Ordering::AcqRel);
        let shared = Arc::new(Shared {
            script,
            state: Cross(state),
            host: Cross(host),
            work: Mutex::default(),
            wake: Condvar::new(),
            stop: AtomicBool::new(false),
        });
        let runs = shared.clone();
        let worker = Some(std::thread::spawn(move || runs.run()));
        // SAFETY: the core's place for the queue.
        unsafe { *queue = Box::into_raw(Box::new(Queue { shared, worker })).cast() };
    }
    answer
}

pub(super) unsafe extern "C" fn destroy(queue: *mut c_void) {
    // SAFETY: `create` made it, and destroy is the last call with it.
    let mut queue = unsafe { Box::from_raw(queue.cast::<Queue>()) };
    queue.shared.stop.store(true, Ordering::Release);
    queue.shared.wake.notify_one();
    if let Some(worker) = queue.worker.take() {
        // It does not panic.
        let _ = worker.join();
    }
    queue.shared.script.queues.fetch_sub(1, Ordering::AcqRel);
    let work = queue.shared.lock();
    if !work.held.is_empty() || !work.pending.is_empty() {
        queue
            .shared
            .script
            .violation("a queue with commands was destroyed".into());
    }
}

pub(super) unsafe extern "C" fn submit(
    queue: *mut c_void,
    commands: *const *mut xcopy_cmd,
    n: u32,
) -> c_int {
    guard(PANICKED, || {
        // SAFETY: this queue, and n commands.
        let (shared, commands) = unsafe {
            (
                shared_of(queue),
                std::slice::from_raw_parts(commands, n as usize),
            )
        };
        let (taken, answer) = match shared.script.gate_of() {
            Submit::All => (n, n as c_int),
            Submit::Errno(errno) => (0, -errno),
            Submit::Some(some) => (some.min(n), some.min(n) as c_int),
            Submit::More(more) => (n, (n + more) as c_int),
            Submit::Ghost(errno) => {
                // SAFETY: commands that are offered.
                let cookies = commands.iter().map(|command| unsafe { (**command).cookie });
                shared.lock().ghosts.extend(cookies);
                (0, -errno)
            }
        };
        let taken = commands[..taken as usize]
            .iter()
            .map(|command| Cross(*command));
        shared.lock().pending.extend(taken);
        shared.wake.notify_one();
        answer
    })
}

pub(super) unsafe extern "C" fn cancel(queue: *mut c_void, command: *mut xcopy_cmd) -> c_int {
    guard(PANICKED, || {
        // SAFETY: this queue.
        let shared = unsafe { shared_of(queue) };
        shared.script.cancels.fetch_add(1, Ordering::AcqRel);
        let mut work = shared.lock();
        let Some(at) = work.held.iter().position(|held| held.0 == command) else {
            return -libc::ENOENT;
        };
        if !shared.script.setup().cancels {
            return -libc::ENOTSUP;
        }
        let command = work.held.remove(at);
        work.canceled.push(command);
        shared.script.held.fetch_sub(1, Ordering::AcqRel);
        drop(work);
        shared.wake.notify_one();
        0
    })
}
