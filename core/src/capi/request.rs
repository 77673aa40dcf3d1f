//! Requests: submit, poll, and what can be asked of one in flight.

use super::error::{refuse, remember};
use super::queue::{Entered, enter, queue_of, xcopy_queue};
use super::{CancelShield, call, give, null, panicked};
use crate::error::Error;
use core::ffi::c_int;
use std::sync::atomic::Ordering;
use xcopy_abi::*;

/// Submits requests, in order, up to the first that is refused. Each accepted
/// one ends in exactly one completion; a refused one was never started. Never
/// blocks.
///
/// A request is copied; its ext, ranges and report stay the caller's memory,
/// unchanged, until its completion was taken. Requests have no order among each
/// other, nor have the ranges of one, and nothing is atomic.
///
/// @param queue The queue.
/// @param requests `n` requests, aligned to 8 bytes.
/// @param stride Bytes from one to the next: a multiple of 8, at least 64.
/// @param n Number of requests.
/// @return How many were accepted. If fewer than `n`, xcopy_last_error says why
///   the next one was not, and submitting it again answers its -errno. If the
///   first is refused, -errno: -EAGAIN (no place is free; only while requests
///   are in flight: poll), -EBADF (handle), -EINVAL (what the text says),
///   -E2BIG (fields of a newer version), -EACCES or -EROFS (opened without READ
///   or WRITE), -ENODEV (removed), -ENOTCONN (not prepared, and there is no
///   pool), -ESHUTDOWN (drained), -EBUSY (concurrent call), -ECHILD (forked).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xcopy_submit(
    queue: *mut xcopy_queue,
    requests: *const xcopy_request,
    stride: usize,
    n: u32,
) -> c_int {
    xcopy_abi::guard::guard_or(
        || refuse(panicked()),
        || {
            // SAFETY: the caller's pointer; see above.
            let entered = match unsafe { queue.as_ref() } {
                Some(queue) if is_plain::<xcopy_request>(requests, stride, n) => {
                    Entered::new(queue)
                }
                _ => None,
            };
            let Some(mut entered) = entered else {
                // SAFETY: the caller's pointers; see above.
                return unsafe { submit_checked(queue, requests, stride, n) };
            };
            let shared = entered.shared();
            // SAFETY: the caller's array, and the queue's owner.
            let done = unsafe { shared.submit(requests, n) };
            if done < n {
                // SAFETY: as above.
                return unsafe { submit_rest(entered, requests, stride, n, done) };
            }
            if !shared.flush() {
                entered.owner().after_submit();
            }
            n as c_int
        },
    )
}

/// A submit of which something has to be refused, or looked at longer.
#[cold]
unsafe fn submit_checked(
    queue: *mut xcopy_queue,
    requests: *const xcopy_request,
    stride: usize,
    n: u32,
) -> c_int {
    let check = || {
        if n > i32::MAX as u32 {
            return Err(Error::new(libc::EINVAL, "n is larger than 2,147,483,647"));
        }
        check_array(requests, stride, n, "requests")?;
        // SAFETY: the caller's pointer.
        unsafe { enter(queue) }
    };
    match check() {
        // SAFETY: the caller's array, checked.
        Ok(entered) => unsafe { submit_rest(entered, requests, stride, n, 0) },
        Err(error) => refuse(error),
    }
}

/// The rest of a submit that took `done` requests so far.
#[cold]
unsafe fn submit_rest(
    mut entered: Entered<'_>,
    requests: *const xcopy_request,
    stride: usize,
    n: u32,
    done: u32,
) -> c_int {
    let mut error = None;
    let owner = entered.owner();
    // SAFETY: the caller's array, checked.
    let done = unsafe { owner.submit(requests.cast(), stride, n, done, &mut error) };
    answer(done, error)
}

/// Takes completions, waiting for them if asked to.
///
/// @param queue The queue.
/// @param completions Receives up to `max`.
/// @param stride Bytes from one to the next, at least 64; what this version does
///   not know is zeroed.
/// @param min Wait until so many are taken; 0 never waits. More than `max` counts
///   as `max`. A wait ends early when nothing is in flight.
/// @param max Take at most so many.
/// @param timeout_ns Nanoseconds to wait at most; negative is for ever.
/// @return How many were taken, 0 after the timeout; or -errno: -EINTR (a signal
///   came and there was nothing), -EINVAL, -EBUSY, -ECHILD.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xcopy_poll(
    queue: *mut xcopy_queue,
    completions: *mut xcopy_completion,
    stride: usize,
    min: u32,
    max: u32,
    timeout_ns: i64,
) -> c_int {
    xcopy_abi::guard::guard_or(
        || refuse(panicked()),
        || {
            let waits = min != 0 && timeout_ns != 0;
            // SAFETY: the caller's pointer; see above.
            let entered = match unsafe { queue.as_ref() } {
                Some(queue) if !waits && is_plain::<xcopy_completion>(completions, stride, max) => {
                    Entered::new(queue)
                }
                _ => None,
            };
            let Some(entered) = entered else {
                // SAFETY: the caller's pointers; see above.
                return unsafe { poll_checked(queue, completions, stride, min, max, timeout_ns) };
            };
            // SAFETY: the caller's array, and the queue's owner.
            match unsafe { entered.shared().glance(completions, max) } {
                Ok(taken) => taken as c_int,
                // SAFETY: as above.
                Err(taken) => unsafe { poll_rest(entered, max, taken) },
            }
        },
    )
}

/// A poll that may wait, or of which something has to be refused.
#[cold]
unsafe fn poll_checked(
    queue: *mut xcopy_queue,
    completions: *mut xcopy_completion,
    stride: usize,
    min: u32,
    max: u32,
    timeout_ns: i64,
) -> c_int {
    let max = max.min(i32::MAX as u32);
    // A wait may run long, and a plugin's poll may be a cancellation point.
    let _shield = (min > 0 && timeout_ns != 0).then(CancelShield::new);
    let mut error = None;
    // SAFETY: the caller's pointer.
    let entered =
        check_array(completions, stride, max, "completions").and_then(|()| unsafe { enter(queue) });
    match entered {
        Ok(mut entered) => {
            let owner = entered.owner();
            // SAFETY: the caller's array, checked.
            let taken =
                unsafe { owner.poll(completions.cast(), stride, min, max, timeout_ns, &mut error) };
            answer(taken, error)
        }
        Err(error) => refuse(error),
    }
}

/// The rest of a poll without a wait that took `taken` of `max` completions so far.
#[cold]
unsafe fn poll_rest(mut entered: Entered<'_>, max: u32, taken: u32) -> c_int {
    let stride = size_of::<xcopy_completion>();
    let mut error = None;
    let rest = entered.shared().next_place();
    // SAFETY: the places after those that were filled.
    let more = unsafe {
        let owner = entered.owner();
        owner.poll(rest.cast(), stride, 0, max - taken, 0, &mut error)
    };
    answer(taken + more, error)
}

/// The answer of a call that did so much.
fn answer(done: u32, error: Option<Error>) -> c_int {
    match error {
        Some(error) if done > 0 => {
            remember(&error);
            done as c_int
        }
        Some(error) => refuse(error),
        None => done as c_int,
    }
}

/// Whether an array is as most are: our own size of its items, aligned, not empty.
#[inline(always)]
fn is_plain<T>(array: *const T, stride: usize, n: u32) -> bool {
    stride == size_of::<T>()
        && !array.is_null()
        && array.addr().is_multiple_of(8)
        && (1..=i32::MAX as u32).contains(&n)
}

fn check_array<T>(array: *const T, stride: usize, n: u32, what: &str) -> crate::error::Result<()> {
    let least = size_of::<T>();
    if n == 0 {
        return Ok(());
    }
    if array.is_null() {
        return Err(null(what));
    }
    if stride < least || !stride.is_multiple_of(8) || !array.addr().is_multiple_of(8) {
        return Err(Error::new(
            libc::EINVAL,
            format!("{what}: the stride is {least} or a larger multiple of 8, aligned to 8"),
        ));
    }
    if stride.checked_mul(n as usize).is_none() {
        return Err(Error::new(
            libc::EINVAL,
            format!("{what}: stride times n overflows"),
        ));
    }
    Ok(())
}

/// Asks requests to end early. What was not dispatched is dropped, commands in
/// flight are asked to end; each request still ends in its completion, once
/// nothing of it can write any more. Any thread.
///
/// @param queue The queue.
/// @param user_data Of the requests.
/// @return How many were asked, or -errno: -ENOENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xcopy_cancel(queue: *mut xcopy_queue, user_data: u64) -> c_int {
    call(|| {
        // SAFETY: the caller's pointer; see above.
        let queue = unsafe { queue_of(queue) }?;
        let asked = queue
            .shared
            .ask_cancel(|face| face.user_data.load(Ordering::Relaxed) == user_data);
        found(asked)
    })
}

/// Asks all requests of a queue that touch a device to end early. Any thread.
///
/// @param queue The queue.
/// @param device The handle.
/// @return How many were asked, or -errno: -ENOENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xcopy_cancel_device(queue: *mut xcopy_queue, device: u32) -> c_int {
    call(|| {
        // SAFETY: the caller's pointer; see above.
        let queue = unsafe { queue_of(queue) }?;
        let asked = queue.shared.ask_cancel(|face| {
            let pair = face.pair.load(Ordering::Relaxed);
            device != 0 && (pair as u32 == device || (pair >> 32) as u32 == device)
        });
        found(asked)
    })
}

fn found(asked: u32) -> crate::error::Result<c_int> {
    match asked {
        0 => Err(Error::new(libc::ENOENT, "no request in flight fits")),
        asked => Ok(asked as c_int),
    }
}

/// How far a request in flight is. Any thread.
///
/// @param queue The queue.
/// @param user_data Of the request; the first that fits, if there are several.
/// @param progress Receives the answer.
/// @param size sizeof(struct xcopy_progress) as the caller was compiled.
/// @return 0, or -errno: -ENOENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xcopy_progress(
    queue: *const xcopy_queue,
    user_data: u64,
    progress: *mut xcopy_progress,
    size: usize,
) -> c_int {
    call(|| {
        // SAFETY: the caller's pointer; see above.
        let queue = unsafe { queue_of(queue) }?;
        let found = queue
            .shared
            .progress(user_data)
            .ok_or_else(|| Error::new(libc::ENOENT, "no request in flight has this user_data"))?;
        // SAFETY: NULL or `size` writable bytes, by the contract above.
        unsafe { give(progress, size, &found, "progress") }?;
        Ok(0)
    })
}
