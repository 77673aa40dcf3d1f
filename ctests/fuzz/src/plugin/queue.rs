//! Queues: commands are held, and ended in turns that the script chooses.

use super::command::carry_out;
use super::{HELD, HOST, QUEUES, draw, lock, model};
use std::ffi::{c_int, c_void};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use xcopy::abi::*;

struct Held(Vec<*mut xcopy_cmd>);
// SAFETY: commands are stable until they are ended, and ended once.
unsafe impl Send for Held {}

struct Queue {
    host: *mut xcopy_host_queue,
    held: Mutex<(Held, bool)>,
    wake: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}
// SAFETY: the host queue may be completed to from any thread.
unsafe impl Send for Queue {}
// SAFETY: as above; the rest is behind locks.
unsafe impl Sync for Queue {}

impl Queue {
    /// Ends what the script says, or all when it is over.
    fn advance(&self, local: bool) {
        let held = std::mem::take(&mut lock(&self.held).0.0);
        let mut kept = Vec::new();
        for command in held {
            if draw(|input| input.one_in(4)).unwrap_or(false) {
                kept.push(command);
                continue;
            }
            // SAFETY: held, so not ended yet.
            let result = unsafe { carry_out(command) };
            self.end(&result, local);
        }
        lock(&self.held).0.0.extend(kept);
    }

    fn end(&self, result: &xcopy_result, local: bool) {
        HELD.fetch_sub(1, Ordering::AcqRel);
        let (mut list, mut n) = (vec![*result], 1);
        draw(|input| match input.u8() % 16 {
            0 => list.push(*result),
            1 => {
                // Another life of the command, in the high half, or none that there
                // is. Never one that a backend has: to end that is to give its
                // memory up, which this plugin goes on to use.
                let mut stranger = *result;
                stranger.cookie = match input.u8() % 3 {
                    0 => input.u64() | 1 << 31,
                    1 => stranger.cookie ^ 1 << (32 + input.below(32)),
                    _ => 0,
                };
                list.insert(0, stranger);
            }
            2 => n = 0,
            _ => {}
        });
        if n == 0 {
            // An answer of no results first.
            self.call(&[], local);
        }
        self.call(&list, local);
    }

    fn call(&self, results: &[xcopy_result], local: bool) {
        let host = HOST.load(Ordering::Acquire);
        // SAFETY: a core's table, valid for the life of the process; the host
        // queue is valid until queue_destroy.
        unsafe {
            let complete = if local {
                (*host).complete_local
            } else {
                (*host).complete
            };
            if let Some(complete) = complete {
                complete(
                    self.host,
                    results.as_ptr(),
                    size_of::<xcopy_result>(),
                    results.len() as u32,
                );
            }
        }
    }

    fn serve(&self) {
        let mut held = lock(&self.held);
        loop {
            while held.0.0.is_empty() && !held.1 {
                held = self.wake.wait(held).unwrap_or_else(PoisonError::into_inner);
            }
            if held.1 {
                return;
            }
            drop(held);
            self.advance(false);
            std::thread::yield_now();
            held = lock(&self.held);
        }
    }
}

fn threaded() -> bool {
    model() == XCOPY_MODEL_THREADED
}

pub(super) unsafe extern "C" fn queue_create(
    _state: *mut c_void,
    host: *mut xcopy_host_queue,
    _options: *const xcopy_plugin_queue_options,
    queue: *mut *mut c_void,
) -> c_int {
    let status = draw(|input| {
        if input.one_in(16) {
            -i32::from(input.u8())
        } else {
            0
        }
    });
    if let Some(status) = status.filter(|status| *status != 0) {
        return status;
    }
    let made = Arc::new(Queue {
        host,
        held: Mutex::new((Held(Vec::new()), false)),
        wake: Condvar::new(),
        thread: Mutex::new(None),
    });
    if threaded() {
        let served = made.clone();
        *lock(&made.thread) = Some(std::thread::spawn(move || served.serve()));
    }
    QUEUES.fetch_add(1, Ordering::AcqRel);
    // SAFETY: the core's place for the handle.
    unsafe { *queue = Arc::into_raw(made).cast_mut().cast() };
    0
}

pub(super) unsafe extern "C" fn queue_destroy(queue: *mut c_void) {
    // SAFETY: `queue_create` made it; this is the last call with it.
    let queue = unsafe { Arc::from_raw(queue.cast::<Queue>()) };
    lock(&queue.held).1 = true;
    queue.wake.notify_all();
    if let Some(thread) = lock(&queue.thread).take() {
        thread.join().expect("the plugin's thread");
    }
    QUEUES.fetch_sub(1, Ordering::AcqRel);
}

pub(super) unsafe extern "C" fn submit(
    queue: *mut c_void,
    commands: *const *mut xcopy_cmd,
    n: u32,
) -> c_int {
    // SAFETY: `queue_create` made it.
    let queue = unsafe { &*queue.cast::<Queue>() };
    // SAFETY: n commands, by the contract.
    let closes =
        (0..n as usize).any(|index| unsafe { (**commands.add(index)).op } == XCOPY_CMD_CLOSE);
    let (taken, answer) = draw(|input| match input.u8() % 32 {
        // A close that it refuses for good leaves a device open: its own fault.
        _ if closes => (n, n as i32),
        0 => (0, -i32::from(input.u8() % 134)),
        1 => (input.u32() % (n + 1), -1),
        2 => (n, n.wrapping_add(input.u8().into()) as i32),
        3 => (0, 0),
        _ => (n, n as i32),
    })
    .unwrap_or((n, n as i32));
    // Where it takes a part, it says so.
    let answer = if answer == -1 && taken > 0 {
        taken as i32
    } else {
        answer
    };
    if answer > 0 {
        HELD.fetch_add(taken, Ordering::AcqRel);
        // SAFETY: n commands, by the contract, of which these are the first.
        let given = unsafe { std::slice::from_raw_parts(commands, taken as usize) };
        lock(&queue.held).0.0.extend(given);
        queue.wake.notify_all();
        if !threaded() && draw(|input| input.one_in(4)).unwrap_or(false) {
            queue.advance(true);
        }
    }
    answer
}

pub(super) unsafe extern "C" fn poll(queue: *mut c_void, _max: u32) -> c_int {
    assert!(!queue.is_null(), "a BLOCKING plugin has no queue to poll");
    // SAFETY: `queue_create` made it.
    let queue = unsafe { &*queue.cast::<Queue>() };
    if !threaded() {
        queue.advance(true);
    }
    draw(|input| {
        if input.one_in(8) {
            input.u32() as i32
        } else {
            0
        }
    })
    .unwrap_or(0)
}

pub(super) unsafe extern "C" fn cancel(_queue: *mut c_void, _command: *mut xcopy_cmd) -> c_int {
    draw(|input| input.u8()).map_or(0, |value| -i32::from(value % 40))
}
