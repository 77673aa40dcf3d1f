//! Tells a forked child from the process that made a context.
//!
//! A page that the kernel wipes in a child (MADV_WIPEONFORK) costs one load per
//! call and sees forks that bypass pthread_atfork.

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
        // SAFETY: the mapping lives as long as `self`.
        unsafe { self.page.as_ref() }.load(Ordering::Relaxed) == 0
    }
}

impl Drop for ForkGuard {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `new` and nobody else knows it.
        unsafe { libc::munmap(self.page.as_ptr().cast(), 4096) };
    }
}
