//! The caller's places for completions, as long as its poll lasts.

use super::shared::QueueShared;
use super::straight::Straight;
use std::cell::Cell;
use std::ptr;
use xcopy_abi::*;

/// Places for completions. The next is aligned to 8; there are `left`, `stride`
/// bytes apart, at least 64 writable bytes each (`stride` bytes if it is longer).
/// While plugins end commands they are just 64.
pub struct Places {
    at: Cell<*mut u8>,
    /// Of the last poll that may take what is not on the straight way: nobody else
    /// looks at it.
    stride: Cell<usize>,
    left: Cell<u32>,
}

impl Places {
    /// No place.
    pub fn none() -> Places {
        Places {
            at: Cell::new(ptr::null_mut()),
            stride: Cell::new(size_of::<xcopy_completion>()),
            left: Cell::new(0),
        }
    }

    /// From now on there are `max`, of the size of a completion.
    ///
    /// # Safety
    /// `out` points to so many, writable until `close`.
    #[inline(always)]
    pub unsafe fn open(&self, out: *mut xcopy_completion, max: u32) {
        self.at.set(out.cast());
        self.left.set(max);
    }

    /// From now on there is none; how many were left.
    #[inline(always)]
    pub fn close(&self) -> u32 {
        self.left.replace(0)
    }

    /// How many are left.
    #[inline(always)]
    pub fn left(&self) -> u32 {
        self.left.get()
    }

    /// Leaves none while plugins end commands, if they are larger than a completion:
    /// then all completions become ready first. The number to `show` again.
    pub fn hide(&self) -> Option<u32> {
        let larger = self.stride.get() != size_of::<xcopy_completion>();
        larger.then(|| self.left.replace(0))
    }

    /// Ends what `hide` began.
    pub fn show(&self, hidden: Option<u32>) {
        if let Some(left) = hidden {
            self.left.set(left);
        }
    }

    /// The next place. To be written only while one is left, and then `fill`ed.
    #[inline(always)]
    pub fn next(&self) -> *mut xcopy_completion {
        self.at.get().cast()
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
        let (known, stride) = (size_of::<xcopy_completion>(), self.stride.get());
        // SAFETY: a place is left, `stride` bytes long.
        unsafe {
            at.write(completion);
            // What the caller knows and we do not.
            let tail = at.cast::<u8>().add(known);
            ptr::write_bytes(tail, 0, stride.saturating_sub(known));
            self.fill(at.byte_add(stride), left - 1);
        }
    }
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
        straight.places.stride.set(stride);
        // SAFETY: the caller's word.
        unsafe { straight.places.open(out.cast(), max) };
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
        self.straight.places.close();
    }
}
