//! Tells a forked child from the process that made a context or a queue.
//!
//! A page that the kernel wipes in a child (MADV_WIPEONFORK) costs one load per
//! call and sees forks that bypass pthread_atfork. A queue's page tells with the
//! same load whether a call of its owner's is under way.

use crate::error::{Error, Result};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// One page that reads 1 in this process and 0 in every child.
pub struct ForkGuard {
    page: NonNull<AtomicU32>,
}

// SAFETY: the page is only read, atomically, after construction.
unsafe impl Send for ForkGuard {}
// SAFETY: as above.
unsafe impl Sync for ForkGuard {}

impl ForkGuard {
    /// Maps the page; fails on kernels before 4.14.
    pub fn new() -> Result<ForkGuard> {
        // SAFETY: an anonymous mapping of one page touches no memory of ours.
        let page = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                4096,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if page == libc::MAP_FAILED {
            return Err(Error::last_os("cannot map a page"));
        }
        // SAFETY: the page was just mapped and is ours.
        if unsafe { libc::madvise(page, 4096, libc::MADV_WIPEONFORK) } != 0 {
            let error = Error::last_os("MADV_WIPEONFORK (Linux 4.14 or later is needed)");
            // SAFETY: the mapping above, not used again.
            unsafe { libc::munmap(page, 4096) };
            return Err(error);
        }
        let page = NonNull::new(page.cast::<AtomicU32>()).expect("mmap never answers 0 here");
        // SAFETY: mapped, aligned, and large enough.
        unsafe { page.as_ref() }.store(1, Ordering::Relaxed);
        Ok(ForkGuard { page })
    }

    /// Whether this is a child of the process that made the guard.
    #[inline]
    pub fn forked(&self) -> bool {
        self.word().load(Ordering::Relaxed) == 0
    }

    #[inline(always)]
    fn word(&self) -> &AtomicU32 {
        // SAFETY: the mapping lives as long as `self`.
        unsafe { self.page.as_ref() }
    }
}

impl Drop for ForkGuard {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `new` and nobody else knows it.
        unsafe { libc::munmap(self.page.as_ptr().cast(), 4096) };
    }
}

/// Nobody is inside. 0 is a forked child's.
const OPEN: u32 = 1;
/// A call is under way.
const ENTERED: u32 = 2;

/// The way into a queue: one call of its owner's at a time, and none in a forked
/// child. Plain loads and stores, so that it costs next to nothing; two threads
/// at once, a bug of the caller's, are mostly seen and not always.
pub struct Latch(ForkGuard);

/// Why a latch was not passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shut {
    /// A call is under way.
    Entered,
    /// This is a forked child.
    Forked,
}

impl Latch {
    /// An open one.
    pub fn new() -> Result<Latch> {
        ForkGuard::new().map(Latch)
    }

    /// Begins a call; false if it must not be.
    #[inline(always)]
    pub fn enter(&self) -> bool {
        let word = self.0.word();
        if word.load(Ordering::Relaxed) != OPEN {
            return false;
        }
        word.store(ENTERED, Ordering::Relaxed);
        true
    }

    /// Ends the call that `enter` began. Counted down, so that the latch of a child
    /// that was forked inside of the call stays shut.
    #[inline(always)]
    pub fn leave(&self) {
        let word = self.0.word();
        let left = word.load(Ordering::Relaxed).wrapping_sub(1);
        word.store(left, Ordering::Relaxed);
    }

    /// Why `enter` said no.
    #[cold]
    pub fn why(&self) -> Shut {
        match self.0.word().load(Ordering::Relaxed) {
            OPEN | ENTERED => Shut::Entered,
            _ => Shut::Forked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_call_at_a_time() {
        let latch = Latch::new().unwrap();
        assert!(latch.enter());
        assert!(!latch.enter());
        assert_eq!(latch.why(), Shut::Entered);
        latch.leave();
        assert!(latch.enter());
        latch.leave();
    }

    #[test]
    fn none_in_a_child() {
        let (latch, inside) = (Latch::new().unwrap(), Latch::new().unwrap());
        assert!(inside.enter());
        // SAFETY: the child only looks at its memory and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            inside.leave();
            let shut = !latch.enter() && !inside.enter();
            let why = latch.why() == Shut::Forked && inside.why() == Shut::Forked;
            // SAFETY: ends the child without running the parent's exit handlers.
            unsafe { libc::_exit(i32::from(!(shut && why))) };
        }
        assert!(child > 0);
        let mut status = -1;
        // SAFETY: our own child, and a place for its status.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert_eq!(status, 0, "the child passed a latch of its parent's");
        inside.leave();
        assert!(latch.enter() && inside.enter());
    }
}
