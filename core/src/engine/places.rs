//! The caller's places for completions, as long as its poll lasts.

use super::shared::QueueShared;
use super::straight::Straight;
use std::cell::Cell;
use std::ptr;
use xcopy_abi::*;

/// Places for completions. The next is aligned to 8; there are `left`, `stride`
/// bytes apart, at least 64 writable bytes each (`stride` bytes if it is longer).
pub struct Places {
    at: Cell<*mut u8>,
    stride: Cell<usize>,
    left: Cell<u32>,
}

impl Places {
    /// No place.
    pub fn none() -> Places {
        Places {
            at: Cell::new(ptr::null_mut()),
            stride: Cell::new(0),
            left: Cell::new(0),
        }
    }

    /// How many are left.
    #[inline(always)]
    pub fn left(&self) -> u32 {
        self.left.get()
    }

    /// The next place. To be written only while one is left, and then `fill`ed.
    #[inline(always)]
    pub fn next(&self) -> *mut xcopy_completion {
        self.at.get().cast()
    }

    /// The place after the one at `at`, which was written. Zeroes the tail of that
    /// one which the caller knows and we do not.
    ///
    /// # Safety
    /// `at` is a place of these.
    #[inline(always)]
    pub unsafe fn after(&self, at: *mut xcopy_completion) -> *mut xcopy_completion {
        let stride = self.stride.get();
        // SAFETY: the place is there, `stride` bytes long.
        unsafe {
            if stride != size_of::<xcopy_completion>() {
                zero_tail(at, stride);
            }
            at.byte_add(stride)
        }
    }

    /// Places up to `next` were written, and `left` are left.
    #[inline(always)]
    pub fn fill(&self, next: *mut xcopy_completion, left: u32) {
        self.at.set(next.cast());
        self.left.set(left);
    }

    /// Writes a completion to the next place, if one is left.
    pub fn put(&self, completion: xcopy_completion) {
        let (at, left) = (self.next(), self.left());
        if left == 0 {
            return;
        }
        // SAFETY: a place is left.
        unsafe {
            at.write(completion);
            self.fill(self.after(at), left - 1);
        }
    }
}

#[cold]
unsafe fn zero_tail(at: *mut xcopy_completion, stride: usize) {
    let known = size_of::<xcopy_completion>();
    // SAFETY: the caller's word that the place is `stride` bytes long.
    unsafe { ptr::write_bytes(at.cast::<u8>().add(known), 0, stride.saturating_sub(known)) };
}

/// A poll under way: as long as it lasts, completions go to the caller's places.
pub struct Polling<'a> {
    straight: &'a Straight,
    max: u32,
}

impl<'a> Polling<'a> {
    /// Begins a poll.
    ///
    /// # Safety
    /// The owner's thread; `out` points to `max` places, `stride` bytes apart, as
    /// `Places` needs them, for as long as the poll lasts.
    #[inline(always)]
    pub unsafe fn begin(
        shared: &'a QueueShared,
        out: *mut u8,
        stride: usize,
        max: u32,
    ) -> Polling<'a> {
        let straight = shared.straight();
        straight.places.at.set(out);
        straight.places.stride.set(stride);
        straight.places.left.set(max);
        Polling { straight, max }
    }

    /// How many places were filled.
    #[inline(always)]
    pub fn taken(&self) -> u32 {
        self.max - self.straight.places.left()
    }

    /// The same, at the end.
    #[inline(always)]
    pub fn end(self) -> u32 {
        self.taken()
    }
}

impl Drop for Polling<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        // The places are the caller's again.
        self.straight.places.left.set(0);
    }
}
