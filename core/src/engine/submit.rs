//! submit: requests go the straight way, or are admitted one by one.

use super::queue::Queue;
use super::shared::{QueueShared, add};
use crate::error::{Error, Result};
use std::sync::atomic::Ordering;
use xcopy_abi::*;

impl QueueShared {
    /// Takes requests up to the first that does not go the straight way at once;
    /// how many. The plugins do not have them yet.
    ///
    /// # Safety
    /// The owner's thread; `requests` points to `n` requests.
    #[inline(always)]
    pub unsafe fn submit(&self, requests: *const xcopy_request, n: u32) -> u32 {
        // SAFETY: the caller's word.
        let taken = unsafe { self.straight().submit(requests, n) };
        add(&self.stats.straight, u64::from(taken));
        taken
    }

    /// Gives the plugins what was submitted; whether that was all there is to do,
    /// since nothing but straight requests is under way.
    #[inline(always)]
    pub fn flush(&self) -> bool {
        self.straight().flush();
        self.straight().other.get() == 0
    }
}

impl Queue {
    /// Takes requests from number `done` on up to the first that is refused; how
    /// many of all. `error` says why the next one was not.
    ///
    /// # Safety
    /// `requests` points to `n` requests, `stride` bytes apart, aligned to 8, of
    /// which at least 64 bytes each are readable (`stride` bytes if it is longer).
    pub unsafe fn submit(
        &mut self,
        requests: *const u8,
        stride: usize,
        n: u32,
        mut done: u32,
        error: &mut Option<Error>,
    ) -> u32 {
        if self.shared.draining.load(Ordering::Acquire) {
            *error = Some(Error::new(
                libc::ESHUTDOWN,
                "the queue is drained: xcopy_queue_resume opens it",
            ));
        } else {
            let epoch = self.context.epoch.load(Ordering::Relaxed);
            if epoch != self.epoch {
                self.epoch = epoch;
                self.known = self.context.registry.known_methods();
                self.outdate_pairs();
            }
            while done < n {
                // SAFETY: the caller's array.
                if let Err(refused) = unsafe { self.submit_one(requests, stride, done) } {
                    *error = Some(refused);
                    break;
                }
                done += 1;
                if stride == size_of::<xcopy_request>() {
                    // SAFETY: as above.
                    done += unsafe {
                        let rest = requests.add(stride * done as usize);
                        self.shared.submit(rest.cast(), n - done)
                    };
                }
            }
        }
        self.after_submit();
        done
    }

    /// What a submit does at its end.
    #[cold]
    pub fn after_submit(&mut self) {
        self.dispatch();
        self.flush_ring();
        self.settle_bell();
    }

    /// Takes the request at `index` of an array, by the straight way if it can.
    ///
    /// # Safety
    /// As for `submit`.
    unsafe fn submit_one(&mut self, requests: *const u8, stride: usize, index: u32) -> Result<()> {
        // SAFETY: the caller's array.
        let at = unsafe { requests.add(stride * index as usize) };
        if stride > size_of::<xcopy_request>() {
            // SAFETY: a longer stride says that the bytes are there.
            unsafe { check_tail(at, stride) }?;
        }
        // SAFETY: as above; requests are plain data.
        let request = unsafe { &*at.cast::<xcopy_request>() };
        if self.submit_renewed(request) {
            add(&self.shared.stats.straight, 1);
        } else {
            self.admit_slowly(request)?;
            add(&self.shared.stats.requests, 1);
        }
        Ok(())
    }
}

/// Refuses a longer request whose unknown part is not 0.
///
/// # Safety
/// `stride` bytes at `at` are readable.
unsafe fn check_tail(at: *const u8, stride: usize) -> Result<()> {
    let known = size_of::<xcopy_request>();
    // SAFETY: the caller's word.
    let tail = unsafe { std::slice::from_raw_parts(at.add(known), stride - known) };
    if tail.iter().any(|byte| *byte != 0) {
        return Err(Error::new(
            libc::E2BIG,
            "the request has fields that this version does not know: leave them 0",
        ));
    }
    Ok(())
}
