//! The queue of the POLLED and AFFINE forms.
//!
//! submit writes a command's answer straight to the end of a list of answers, poll
//! hands the list's front to the core: a command is touched once and copied nowhere,
//! but for those that wait when the list is full. The owner's thread is the only one
//! here, but the core may submit from inside complete_local, so nothing is borrowed
//! across that call.

use crate::{Complete, PANICKED, State, command, host_complete, log_error};
use std::cell::{Cell, UnsafeCell};
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicU64, Ordering};
use xcopy_abi::guard::guard;
use xcopy_abi::*;

struct Queue {
    /// Twice the window, so that what is submitted while poll hands a full
    /// window over still has room.
    answers: Box<[UnsafeCell<xcopy_result>]>,
    /// The first answer that the core does not have.
    head: Cell<u32>,
    /// The end of the answers.
    tail: Cell<u32>,
    polling: Cell<bool>,
    armed: Cell<bool>,
    signalled: Cell<bool>,
    complete: Complete,
    host_queue: *mut xcopy_host_queue,
    /// AFFINE: number of the thread that created the queue.
    owner: u64,
    event: Cell<c_int>,
    state: *const State,
}

/// A number of the calling thread that no other thread ever has, without a
/// system call.
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

impl Queue {
    /// Place of an answer, at most as many as there are.
    fn slot(&self, position: u32) -> *mut xcopy_result {
        // Through the base pointer, so that a run of slots can be handed over as one
        // array (UnsafeCell has the layout of its content).
        let first = self.answers.as_ptr().cast::<xcopy_result>().cast_mut();
        first.wrapping_add(position as usize)
    }

    fn pending(&self) -> u32 {
        self.tail.get() - self.head.get()
    }

    /// How many of `n` answers can be written at the end.
    fn room(&self, n: u32) -> u32 {
        let room = self.answers.len() as u32 - self.tail.get();
        if n <= room { n } else { self.make_room(n) }
    }

    /// The same after pending answers were moved to the front.
    #[cold]
    fn make_room(&self, n: u32) -> u32 {
        let (head, pending) = (self.head.get(), self.pending());
        // The core looks at them.
        if !self.polling.get() {
            // SAFETY: both ranges are inside; only the owner's thread is here.
            unsafe {
                std::ptr::copy(self.slot(head), self.slot(0), pending as usize);
            }
            self.head.set(0);
            self.tail.set(pending);
        }
        n.min(self.answers.len() as u32 - self.tail.get())
    }

    /// A submit, from its begin, of which not all is plain or has room at once, or
    /// while armed; how many are taken.
    ///
    /// # Safety
    /// `commands` holds `n` of them.
    #[cold]
    #[inline(never)]
    unsafe fn submit_slowly<const MODEL: u32>(
        &self,
        commands: *const *mut xcopy_cmd,
        n: u32,
        astray: bool,
    ) -> c_int {
        let taken = self.room(n);
        let tail = self.tail.get();
        for at in 0..taken {
            // SAFETY: the caller's word.
            unsafe { perform::<MODEL>(&**commands.add(at as usize), self.slot(tail + at), astray) };
        }
        self.tail.set(tail + taken);
        if self.armed.get() && self.pending() > 0 {
            self.signal();
        }
        taken as c_int
    }

    /// Hands the first `n` pending answers to the core.
    fn hand_over(&self, n: u32) {
        // SAFETY: the slots hold answers written by submit, and stay unchanged
        // during the call because head moves only afterwards; the host queue is
        // valid until `destroy`, and this is its owner's thread.
        unsafe {
            let first = self.slot(self.head.get());
            (self.complete)(self.host_queue, first, size_of::<xcopy_result>(), n);
        }
    }

    #[cold]
    fn event_fd(&self) -> c_int {
        if self.event.get() < 0 {
            // SAFETY: takes no pointers.
            let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
            if fd < 0 {
                return -std::io::Error::last_os_error()
                    .raw_os_error()
                    .unwrap_or(libc::EMFILE);
            }
            self.event.set(fd);
        }
        self.event.get()
    }

    /// Makes the fd readable. The raw call is no cancellation point.
    #[cold]
    fn signal(&self) {
        if self.event.get() >= 0 && !self.signalled.replace(true) {
            let one = 1u64;
            // SAFETY: writes 8 bytes from a live u64 to our own fd.
            unsafe { libc::syscall(libc::SYS_write, self.event.get(), &raw const one, 8usize) };
        }
    }

    #[cold]
    fn clear(&self) {
        if self.signalled.replace(false) {
            let mut count = 0u64;
            // SAFETY: reads 8 bytes into a live u64 from our own fd, which does
            // not block.
            unsafe { libc::syscall(libc::SYS_read, self.event.get(), &raw mut count, 8usize) };
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        if self.event.get() >= 0 {
            // SAFETY: our own fd, closed once.
            unsafe { libc::close(self.event.get()) };
        }
    }
}

/// Table entry.
pub(crate) unsafe extern "C" fn create(
    state: *mut c_void,
    host_queue: *mut xcopy_host_queue,
    options: *const xcopy_plugin_queue_options,
    queue: *mut *mut c_void,
) -> c_int {
    guard(PANICKED, || {
        let Some((_, complete)) = host_complete() else {
            return -libc::EINVAL;
        };
        if options.is_null() || queue.is_null() {
            return -libc::EINVAL;
        }
        // SAFETY: not NULL, and valid during the call by the contract.
        let window = unsafe { (*options).window };
        if window == 0 || window > 65_536 {
            return -libc::EINVAL;
        }
        let slots = window as usize * 2;
        // SAFETY: a result of zeroes is a valid one: integers and a NULL.
        let empty: xcopy_result = unsafe { std::mem::zeroed() };
        let made = Box::new(Queue {
            answers: (0..slots).map(|_| UnsafeCell::new(empty)).collect(),
            head: Cell::new(0),
            tail: Cell::new(0),
            polling: Cell::new(false),
            armed: Cell::new(false),
            signalled: Cell::new(false),
            complete,
            host_queue,
            owner: thread_number(),
            event: Cell::new(-1),
            state: state.cast(),
        });
        // SAFETY: the core's pointer to where the queue goes, not NULL.
        unsafe { *queue = Box::into_raw(made).cast() };
        0
    })
}

/// Table entry.
pub(crate) unsafe extern "C" fn destroy<const MODEL: u32>(queue: *mut c_void) {
    guard((), || {
        if queue.is_null() {
            return;
        }
        // SAFETY: `create` made it, and destroy is the last call with it.
        let queue = unsafe { Box::from_raw(queue.cast::<Queue>()) };
        if MODEL == XCOPY_MODEL_AFFINE && queue.owner != thread_number() {
            // SAFETY: the context's state outlives its queues.
            unsafe {
                log_error(
                    queue.state,
                    c"null_affine: queue destroyed on another thread",
                )
            };
        }
    })
}

/// Table entry.
pub(crate) unsafe extern "C" fn submit<const MODEL: u32>(
    queue: *mut c_void,
    commands: *const *mut xcopy_cmd,
    n: u32,
) -> c_int {
    guard(PANICKED, || {
        if queue.is_null() || commands.is_null() {
            return -libc::EINVAL;
        }
        // SAFETY: `create` made it; only the owner's thread is here, and the
        // queue is only ever borrowed shared.
        let queue = unsafe { &*queue.cast::<Queue>() };
        let astray = MODEL == XCOPY_MODEL_AFFINE && queue.owner != thread_number();
        let tail = queue.tail.get();
        let fits = n <= queue.answers.len() as u32 - tail;
        let mut done = 0;
        while done < n && fits && !astray {
            // SAFETY: `commands` holds n pointers to commands that stay valid until
            // they are completed; the slot is free, because there is room.
            unsafe {
                let command = &**commands.add(done as usize);
                if !command::is_plain(command) {
                    break;
                }
                queue.slot(tail + done).write(command::success(command));
            }
            done += 1;
        }
        if done < n || queue.armed.get() {
            // SAFETY: as above.
            return unsafe { queue.submit_slowly::<MODEL>(commands, n, astray) };
        }
        queue.tail.set(tail + n);
        n as c_int
    })
}

/// Carries out a command that is not plain, or came on another thread.
///
/// # Safety
/// As for `command::perform`.
#[cold]
unsafe fn perform<const MODEL: u32>(command: &xcopy_cmd, slot: *mut xcopy_result, astray: bool) {
    // SAFETY: the caller's word.
    unsafe {
        match MODEL {
            XCOPY_MODEL_AFFINE if astray => {
                slot.write(command::failure(command, libc::EPERM, XCOPY_REASON_FAILED));
            }
            XCOPY_MODEL_AFFINE => command::perform::<true>(command, slot),
            _ => command::perform::<false>(command, slot),
        }
    }
}

/// Table entry.
pub(crate) unsafe extern "C" fn poll<const MODEL: u32>(queue: *mut c_void, max: u32) -> c_int {
    guard(PANICKED, || {
        if queue.is_null() {
            return -libc::EINVAL;
        }
        // SAFETY: as in `submit`.
        let queue = unsafe { &*queue.cast::<Queue>() };
        let n = queue.pending().min(max);
        // From inside complete_local the same answers would be handed over twice.
        if n == 0 || queue.polling.get() {
            return 0;
        }
        if MODEL == XCOPY_MODEL_AFFINE && queue.owner != thread_number() {
            for i in 0..n {
                // SAFETY: a pending slot, written by submit; nobody else looks.
                let answer = unsafe { &mut *queue.slot(queue.head.get() + i) };
                (answer.status, answer.bytes) = (-libc::EPERM, 0);
            }
        }
        queue.polling.set(true);
        queue.hand_over(n);
        queue.polling.set(false);
        queue.head.set(queue.head.get() + n);
        if queue.pending() == 0 {
            // Starting over keeps small batches in the same few cache lines.
            queue.head.set(0);
            queue.tail.set(0);
            if queue.signalled.get() {
                queue.clear();
            }
        }
        0
    })
}

/// Table entry.
pub(crate) unsafe extern "C" fn queue_fd(queue: *mut c_void) -> c_int {
    guard(PANICKED, || {
        if queue.is_null() {
            return -libc::EINVAL;
        }
        // SAFETY: as in `submit`.
        unsafe { &*queue.cast::<Queue>() }.event_fd()
    })
}

/// Table entry.
pub(crate) unsafe extern "C" fn arm(queue: *mut c_void, on: u32) -> c_int {
    guard(PANICKED, || {
        if queue.is_null() {
            return -libc::EINVAL;
        }
        // SAFETY: as in `submit`.
        let queue = unsafe { &*queue.cast::<Queue>() };
        if on == 0 {
            queue.armed.set(false);
            queue.clear();
            return 0;
        }
        let fd = queue.event_fd();
        if fd < 0 {
            return fd;
        }
        queue.armed.set(true);
        if queue.pending() == 0 {
            return 0;
        }
        queue.signal();
        1
    })
}

const _: () = assert!(size_of::<UnsafeCell<xcopy_result>>() == size_of::<xcopy_result>());
