//! Queues: life, waiting, and what other threads may ask.

use super::context::context_of;
use super::{call, call_shielded, give, null, take_options, xcopy_context};
use crate::engine::shared::QueueShared;
use crate::engine::{Context, Latch, Queue, Shut, context::forked, queue};
use crate::error::{Error, Result};
use core::ffi::c_int;
use std::cell::UnsafeCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use xcopy_abi::*;

/// Where requests go in and completions come out. Opaque. One thread at a time
/// owns a queue and makes the calls that have no other word about threads; an
/// idle queue may change its owner.
pub struct xcopy_queue {
    pub(super) latch: Latch,
    pub(super) shared: Arc<QueueShared>,
    pub(super) context: Arc<Context>,
    pub(super) owner: UnsafeCell<Queue>,
    fd: c_int,
}

/// The queue behind a pointer, for calls of any thread.
///
/// # Safety
/// `queue` is NULL or came from xcopy_queue_create and was not destroyed.
#[inline]
pub(super) unsafe fn queue_of<'a>(queue: *const xcopy_queue) -> Result<&'a xcopy_queue> {
    // SAFETY: the caller's word.
    let queue = unsafe { queue.as_ref() }.ok_or_else(|| null("queue"))?;
    queue.context.check_process()?;
    Ok(queue)
}

/// Runs one of the owner's calls.
///
/// # Safety
/// As for `queue_of`.
#[inline]
pub(super) unsafe fn as_owner<T>(
    queue: *const xcopy_queue,
    body: impl FnOnce(&mut Queue) -> Result<T>,
) -> Result<T> {
    // SAFETY: the caller's word.
    body(unsafe { enter(queue) }?.owner())
}

/// Begins one of the owner's calls. Two at once are a bug of the caller's; most
/// are seen here.
///
/// # Safety
/// As for `queue_of`.
pub(super) unsafe fn enter<'a>(queue: *const xcopy_queue) -> Result<Entered<'a>> {
    // SAFETY: the caller's word.
    let queue = unsafe { queue_of(queue) }?;
    Entered::new(queue).ok_or_else(|| match queue.latch.why() {
        Shut::Entered => Error::new(
            libc::EBUSY,
            "another call of this queue is running: one thread owns a queue, one call at a time",
        ),
        Shut::Forked => forked(),
    })
}

/// A call of the owner's under way; it is over when this is dropped.
pub(super) struct Entered<'a>(&'a xcopy_queue);

impl<'a> Entered<'a> {
    /// Begins a call, unless one is under way or this is a forked child.
    #[inline(always)]
    pub(super) fn new(queue: &'a xcopy_queue) -> Option<Entered<'a>> {
        // Not then_some: an Entered that was never entered would leave when dropped.
        queue.latch.enter().then(|| Entered(queue))
    }

    /// The owner side.
    #[inline]
    pub(super) fn owner(&mut self) -> &mut Queue {
        // SAFETY: one thread owns the queue and is in one call at a time, by the
        // contract of xcopy_queue, and the latch refuses re-entry from a callback.
        unsafe { &mut *self.0.owner.get() }
    }

    /// The side that other threads use too.
    #[inline(always)]
    pub(super) fn shared(&self) -> &QueueShared {
        &self.0.shared
    }
}

impl Drop for Entered<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.0.latch.leave();
    }
}

/// Fills options with their defaults: 256 requests, as many commands, size and
/// depth left to the adaptive policy.
///
/// @param options Receives the defaults; `options->size` becomes `size`.
/// @param size sizeof(struct xcopy_queue_options) as the caller was compiled.
/// @return 0, or -EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xcopy_queue_options_init(
    options: *mut xcopy_queue_options,
    size: usize,
) -> c_int {
    call(|| {
        let mut defaults = queue::default_options();
        defaults.size = size.min(4096) as u32;
        // SAFETY: NULL or `size` writable bytes, by the contract above.
        unsafe { give(options, size, &defaults, "options") }?;
        Ok(0)
    })
}

/// Creates a queue. Bounded: nothing is probed and no thread is started.
///
/// @param context The context; must outlive the queue.
/// @param options NULL for the defaults. Copied.
/// @param queue Receives the queue. The caller destroys it.
/// @return 0, or -errno: -EINVAL, -ENOMEM, -EMFILE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xcopy_queue_create(
    context: *mut xcopy_context,
    options: *const xcopy_queue_options,
    queue: *mut *mut xcopy_queue,
) -> c_int {
    call_shielded(|| {
        // SAFETY: NULL, or the caller's place for the queue.
        let place = unsafe { queue.as_mut() }.ok_or_else(|| null("queue"))?;
        // SAFETY: the caller's pointers; see above.
        let (context, options) = unsafe {
            (
                context_of(context)?,
                take_options(options, queue::default_options(), "options")?,
            )
        };
        let latch = Latch::new()?;
        let owner = Queue::new(context.clone(), options)?;
        *place = Box::into_raw(Box::new(xcopy_queue {
            latch,
            shared: owner.shared().clone(),
            context: context.clone(),
            fd: owner.fd(),
            owner: UnsafeCell::new(owner),
        }));
        Ok(0)
    })
}

/// Destroys a queue.
///
/// @param queue May be NULL. Not to be used afterwards, unless refused.
/// @param flags XCOPY_DESTROY_FORCE, or 0. By force, completions that were not
///   taken are lost, commands in flight are asked to end, and what a backend
///   may still write to is left to it: the caller must not reuse buffers or
///   devices of such requests.
/// @return 0, or -errno: -EBUSY while a request is in flight or not taken;
///   -ECHILD in a forked child, where it only leaks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xcopy_queue_destroy(queue: *mut xcopy_queue, flags: u32) -> c_int {
    call_shielded(|| {
        if queue.is_null() {
            return Ok(0);
        }
        if flags & !XCOPY_DESTROY_FORCE != 0 {
            return Err(Error::new(libc::EINVAL, "unknown destroy flags"));
        }
        // SAFETY: the caller's pointer; see above.
        let busy = unsafe { as_owner(queue, |owner| Ok(owner.busy())) }?;
        if let Some(error) = busy.filter(|_| flags & XCOPY_DESTROY_FORCE == 0) {
            return Err(error);
        }
        // SAFETY: made by xcopy_queue_create, given up by the caller.
        let queue = unsafe { Box::from_raw(queue) };
        queue.owner.into_inner().destroy();
        Ok(0)
    })
}

/// The queue's file descriptor, the same for its life: readable, while armed,
/// when poll has something to do. Never to be read or closed by the caller. A
/// wake-up may find nothing. Any thread.
///
/// @param queue The queue.
/// @return The fd, or -errno.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xcopy_queue_fd(queue: *const xcopy_queue) -> c_int {
    // SAFETY: the caller's pointer; see above.
    call(|| unsafe { Ok(queue_of(queue)?.fd) })
}

/// Makes the queue's fd readable whenever something is ready, until
/// xcopy_queue_disarm. Idempotent. Not armed, a queue costs no system call.
///
/// @param queue The queue.
/// @return 1 if something is ready already (do not sleep), 0 if not, or -errno.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xcopy_queue_arm(queue: *mut xcopy_queue) -> c_int {
    // SAFETY: the caller's pointer; see above.
    call(|| unsafe { as_owner(queue, |owner| Ok(c_int::from(owner.arm()))) })
}

/// Ends what xcopy_queue_arm began.
///
/// @param queue The queue.
/// @return 0, or -errno.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xcopy_queue_disarm(queue: *mut xcopy_queue) -> c_int {
    call(|| {
        // SAFETY: the caller's pointer; see above.
        unsafe {
            as_owner(queue, |owner| {
                owner.disarm();
                Ok(0)
            })
        }
    })
}

/// Advances polled backends and counts the completions that xcopy_poll would
/// take without waiting; takes none.
///
/// @param queue The queue.
/// @return The number, or -errno.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xcopy_queue_ready(queue: *mut xcopy_queue) -> c_int {
    // SAFETY: the caller's pointer; see above.
    call(|| unsafe { as_owner(queue, |owner| Ok(owner.count_ready() as c_int)) })
}

/// Requests accepted and not yet taken by xcopy_poll. Any thread.
///
/// @param queue The queue.
/// @return The number, or -errno.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xcopy_queue_in_flight(queue: *const xcopy_queue) -> c_int {
    call(|| {
        // SAFETY: the caller's pointer; see above.
        let queue = unsafe { queue_of(queue) }?;
        Ok(queue.shared.in_flight() as c_int)
    })
}

/// Closes the door: from now on xcopy_submit answers -ESHUTDOWN. What is in
/// flight goes on and is taken by xcopy_poll. Never blocks. Any thread.
///
/// @param queue The queue.
/// @return Requests in flight or not yet taken, or -errno.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xcopy_queue_drain(queue: *mut xcopy_queue) -> c_int {
    call(|| {
        // SAFETY: the caller's pointer; see above.
        let queue = unsafe { queue_of(queue) }?;
        queue.shared.drain();
        Ok(queue.shared.in_flight() as c_int)
    })
}

/// Opens the door that xcopy_queue_drain closed. Any thread.
///
/// @param queue The queue.
/// @return 0, or -errno.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xcopy_queue_resume(queue: *mut xcopy_queue) -> c_int {
    call(|| {
        // SAFETY: the caller's pointer; see above.
        unsafe { queue_of(queue) }?
            .shared
            .draining
            .store(false, Ordering::SeqCst);
        Ok(0)
    })
}

/// Counters of a queue. Any thread.
///
/// @param queue The queue.
/// @param stats Receives them.
/// @param size sizeof(struct xcopy_queue_stats) as the caller was compiled.
/// @return 0, or -errno.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xcopy_queue_stats(
    queue: *const xcopy_queue,
    stats: *mut xcopy_queue_stats,
    size: usize,
) -> c_int {
    call(|| {
        // SAFETY: the caller's pointers; see above.
        unsafe { give(stats, size, &queue_of(queue)?.shared.stats(), "stats") }?;
        Ok(0)
    })
}
