//! What the lane and the bell stand on, and what loom replaces to explore
//! them: atomics, `Arc`, and the counter that makes the fd readable.

#[cfg(not(loom))]
pub(super) use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

#[cfg(loom)]
pub(super) use loom::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

#[cfg(loom)]
pub(super) use modelled::Counter;
#[cfg(not(loom))]
pub(super) use real::{Counter, Fd};

#[cfg(not(loom))]
mod real {
    use std::os::fd::RawFd;

    use crate::error::{Error, Result};

    /// A descriptor of ours. Not `OwnedFd`, whose drop calls close(2) through
    /// libc: a cancellation point, and pthread_cancel must not unwind Rust.
    #[derive(Debug)]
    pub struct Fd(RawFd);

    impl Fd {
        /// Takes what a creating call returned; `what` names it in the error.
        pub fn take(returned: RawFd, what: &str) -> Result<Fd> {
            if returned < 0 {
                let hint = "raise the limit on open files, or use fewer queues";
                return Err(Error::last_os(format_args!(
                    "cannot create {what} ({hint})"
                )));
            }
            Ok(Fd(returned))
        }

        /// Its number.
        pub fn raw(&self) -> RawFd {
            self.0
        }
    }

    impl Drop for Fd {
        fn drop(&mut self) {
            // SAFETY: close takes no memory; the number is ours alone since
            // `take`, and nothing can use it after this.
            unsafe { libc::syscall(libc::SYS_close, libc::c_long::from(self.0)) };
        }
    }

    /// An eventfd: readable while more was added than taken.
    #[derive(Debug)]
    pub struct Counter(Fd);

    impl Counter {
        /// A new one, at zero.
        pub fn new() -> Result<Counter> {
            // SAFETY: eventfd takes no memory; its result is checked by `take`.
            let raw = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
            Ok(Counter(Fd::take(raw, "an eventfd")?))
        }

        /// The eventfd's number.
        pub fn raw(&self) -> RawFd {
            self.0.raw()
        }

        /// Adds one. A full counter refuses, and is readable all the same.
        pub fn add(&self) {
            let one = 1u64;
            // SAFETY: `one` lives through the call and is the 8 bytes that the
            // kernel reads; the fd is open as long as `self`.
            unsafe {
                libc::syscall(
                    libc::SYS_write,
                    libc::c_long::from(self.raw()),
                    &raw const one,
                    size_of::<u64>(),
                )
            };
        }

        /// Takes all that was added; 0 if nothing.
        pub fn take(&self) -> u64 {
            let mut count = 0u64;
            // SAFETY: `count` is ours for the call and has the 8 bytes that the
            // kernel writes; the fd is open as long as `self`.
            let n = unsafe {
                libc::syscall(
                    libc::SYS_read,
                    libc::c_long::from(self.raw()),
                    &raw mut count,
                    size_of::<u64>(),
                )
            };
            if n < 0 { 0 } else { count }
        }
    }
}

#[cfg(loom)]
mod modelled {
    use loom::sync::{Condvar, Mutex};

    use crate::error::Result;

    /// The eventfd under loom. The kernel serialises reads and writes of one
    /// eventfd by its lock, so a mutex has just the ordering of the real one.
    #[derive(Debug)]
    pub struct Counter {
        count: Mutex<u64>,
        readable: Condvar,
    }

    impl Counter {
        /// A new one, at zero.
        pub fn new() -> Result<Counter> {
            Ok(Counter {
                count: Mutex::new(0),
                readable: Condvar::new(),
            })
        }

        /// Adds one.
        pub fn add(&self) {
            if let Ok(mut count) = self.count.lock() {
                *count += 1;
                self.readable.notify_all();
            }
        }

        /// Takes all that was added.
        pub fn take(&self) -> u64 {
            self.count
                .lock()
                .map_or(0, |mut count| std::mem::take(&mut *count))
        }

        /// Whether poll(2) would say POLLIN.
        pub fn is_readable(&self) -> bool {
            self.count.lock().is_ok_and(|count| *count > 0)
        }

        /// Sleeps in poll(2). A wake-up that is lost is a deadlock to loom.
        pub fn sleep(&self) {
            let mut guard = self.count.lock();
            while let Ok(count) = guard {
                if *count > 0 {
                    return;
                }
                guard = self.readable.wait(count);
            }
        }
    }
}
