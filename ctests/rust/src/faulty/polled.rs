//! The queue of the POLLED and AFFINE models.

use super::command::{Answer, end_elsewhere, perform};
use super::{PANICKED, end, script_of};
use crate::script::{Fault, Script, Submit};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ffi::{c_int, c_void};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::ThreadId;
use std::time::{Duration, Instant};
use xcopy::abi::guard::guard;
use xcopy::abi::*;

struct Queue {
    state: *mut c_void,
    script: Arc<Script>,
    host: *mut xcopy_host_queue,
    pending: RefCell<VecDeque<*mut xcopy_cmd>>,
    held: RefCell<Vec<*mut xcopy_cmd>>,
    late: RefCell<Vec<(Instant, *mut xcopy_cmd)>>,
    ghosts: RefCell<Vec<u64>>,
    /// The thread of the first call: an idle queue may change its owner.
    owner: Cell<ThreadId>,
}

impl Queue {
    /// No borrow is held over this: the core may submit from inside.
    fn answer(&self, answer: &Answer) {
        // SAFETY: the host queue lives until `destroy`; this is its owner.
        unsafe { end(self.host, &answer.results, true) };
    }

    fn carry(&self, command: *mut xcopy_cmd, fault: &Fault) {
        // SAFETY: a command that flies.
        let answer = unsafe { perform(self.state, &*command, fault) };
        self.answer(&answer);
    }

    fn take(&self, command: *mut xcopy_cmd) {
        // SAFETY: a command that flies.
        let fault = self.script.fault_of(unsafe { &*command });
        match fault {
            Fault::Lost if !self.script.is_released() => {
                self.script.held.fetch_add(1, Ordering::AcqRel);
                self.held.borrow_mut().push(command);
            }
            Fault::Late(ms) => {
                let due = Instant::now() + Duration::from_millis(ms);
                self.late.borrow_mut().push((due, command));
            }
            // SAFETY: `destroy` joins the thread.
            Fault::Elsewhere => unsafe { end_elsewhere(self.state, self.host, command) },
            fault => self.carry(command, &fault),
        }
    }

    fn advance(&self, max: u32) {
        let ghosts = std::mem::take(&mut *self.ghosts.borrow_mut());
        for cookie in ghosts {
            let result = xcopy_result {
                cookie,
                bytes: 512,
                ..xcopy_result::default()
            };
            // SAFETY: as in `answer`.
            unsafe { end(self.host, &[result], true) };
        }
        for _ in 0..max {
            let Some(command) = self.pending.borrow_mut().pop_front() else {
                break;
            };
            self.take(command);
        }
        let now = Instant::now();
        let mut due = Vec::new();
        self.late.borrow_mut().retain(|(at, command)| {
            if *at <= now {
                due.push(*command);
            }
            *at > now
        });
        if self.script.is_released() {
            let held = std::mem::take(&mut *self.held.borrow_mut());
            self.script
                .held
                .fetch_sub(held.len() as u32, Ordering::AcqRel);
            due.extend(held);
        }
        for command in due {
            self.carry(command, &Fault::None);
        }
    }
}

/// # Safety
/// `create` made it, and it was not destroyed.
unsafe fn queue_of<'a>(queue: *mut c_void) -> &'a Queue {
    // SAFETY: the caller's word.
    unsafe { &*queue.cast::<Queue>() }
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
        let made = Box::new(Queue {
            state,
            script,
            host,
            pending: RefCell::default(),
            held: RefCell::default(),
            late: RefCell::default(),
            ghosts: RefCell::default(),
            owner: Cell::new(std::thread::current().id()),
        });
        // SAFETY: the core's place for the queue.
        unsafe { *queue = Box::into_raw(made).cast() };
    }
    answer
}

pub(super) unsafe extern "C" fn destroy(queue: *mut c_void) {
    // SAFETY: `create` made it, and destroy is the last call with it.
    let queue = unsafe { Box::from_raw(queue.cast::<Queue>()) };
    queue.script.join();
    queue.script.queues.fetch_sub(1, Ordering::AcqRel);
    if !queue.held.borrow().is_empty() || !queue.pending.borrow().is_empty() {
        queue
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
        let (queue, commands) = unsafe {
            (
                queue_of(queue),
                std::slice::from_raw_parts(commands, n as usize),
            )
        };
        let me = std::thread::current().id();
        let idle = queue.pending.borrow().is_empty()
            && queue.held.borrow().is_empty()
            && queue.late.borrow().is_empty();
        if queue.owner.replace(me) != me && !idle {
            queue.script.violation("two threads use one queue".into());
        }
        let gate = queue.script.gate_of();
        let (taken, answer) = match gate {
            Submit::All => (n, n as c_int),
            Submit::Errno(errno) => (0, -errno),
            Submit::Some(some) => (some.min(n), some.min(n) as c_int),
            Submit::More(more) => (n, (n + more) as c_int),
            Submit::Ghost(errno) => {
                // SAFETY: commands that are offered.
                let cookies = commands.iter().map(|command| unsafe { (**command).cookie });
                queue.ghosts.borrow_mut().extend(cookies);
                (0, -errno)
            }
        };
        let taken = &commands[..taken as usize];
        if queue.script.setup().inside_submit {
            // The slice is the core's and may change once a command ends.
            let taken = taken.to_vec();
            for command in taken {
                queue.take(command);
            }
        } else {
            queue.pending.borrow_mut().extend(taken);
        }
        answer
    })
}

pub(super) unsafe extern "C" fn poll(queue: *mut c_void, max: u32) -> c_int {
    guard(PANICKED, || {
        // SAFETY: this queue.
        unsafe { queue_of(queue) }.advance(max);
        0
    })
}

pub(super) unsafe extern "C" fn cancel(queue: *mut c_void, command: *mut xcopy_cmd) -> c_int {
    guard(PANICKED, || {
        // SAFETY: this queue.
        let queue = unsafe { queue_of(queue) };
        queue.script.cancels.fetch_add(1, Ordering::AcqRel);
        let mut held = queue.held.borrow_mut();
        let Some(at) = held.iter().position(|held| *held == command) else {
            return -libc::ENOENT;
        };
        if !queue.script.setup().cancels {
            return -libc::ENOTSUP;
        }
        held.remove(at);
        drop(held);
        queue.script.held.fetch_sub(1, Ordering::AcqRel);
        queue.carry(command, &Fault::fail(libc::ECANCELED, XCOPY_ACTION_DEFAULT));
        0
    })
}
