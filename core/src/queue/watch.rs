//! The kernel's side of the bell: the epoll instance, the timer, the wait.
//!
//! Calls that are cancellation points (read, write, close, epoll_wait) are made
//! by `libc::syscall`, which is none: pthread_cancel cannot unwind Rust here.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};

use super::sync::Fd;
use crate::error::{Error, Result};

const NS: u64 = 1_000_000_000;

/// The kernel, or a sandbox, was seen to lack epoll_pwait2.
static NO_PWAIT2: AtomicBool = AtomicBool::new(false);

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// The fd is readable.
    Ready,
    /// The time is up.
    TimedOut,
    /// A signal handler ran.
    Interrupted,
}

/// The kernel's side: the epoll instance and the timer.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) epoll: Fd,
    timer: Option<Fd>,
    /// When to become readable.
    pub(super) deadline: Option<u64>,
    /// What the timer is set to.
    programmed: Option<u64>,
}

/// `struct __kernel_timespec`: 64-bit on every architecture.
#[repr(C)]
struct KernelTimespec {
    sec: i64,
    nsec: i64,
}

impl Watch {
    pub(super) fn new(counter: RawFd) -> Result<Watch> {
        // SAFETY: epoll_create1 takes no memory; its result is checked by `take`.
        let raw = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        let epoll = Fd::take(raw, "an epoll instance")?;
        let watch = Watch {
            epoll,
            timer: None,
            deadline: None,
            programmed: None,
        };
        watch.add(counter)?;
        Ok(watch)
    }

    pub(super) fn add(&self, fd: RawFd) -> Result<()> {
        let mut event = libc::epoll_event {
            events: libc::EPOLLIN as u32,
            u64: 0,
        };
        // SAFETY: `event` lives through the call, which copies it; both numbers
        // are checked by the kernel.
        let rc =
            unsafe { libc::epoll_ctl(self.epoll.raw(), libc::EPOLL_CTL_ADD, fd, &raw mut event) };
        if rc < 0 {
            return Err(Error::last_os(format_args!(
                "cannot watch fd {fd} (a queue's fd must be open, pollable, and added once)"
            )));
        }
        Ok(())
    }

    pub(super) fn program(&mut self, armed: bool) -> Result<()> {
        let want = if armed { self.deadline } else { None };
        if want == self.programmed {
            return Ok(());
        }
        let timer = match &self.timer {
            Some(timer) => timer.raw(),
            None => self.make_timer()?,
        };
        let value = want.map_or(
            libc::timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            |at| {
                // All zeroes would stop the timer. The sum of years fits any time_t
                // that the kernel's clock can reach.
                let at = at.max(1);
                libc::timespec {
                    tv_sec: libc::time_t::try_from(at / NS).unwrap_or(libc::time_t::MAX),
                    tv_nsec: (at % NS) as libc::c_long,
                }
            },
        );
        let spec = libc::itimerspec {
            it_interval: libc::timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: value,
        };
        // SAFETY: `spec` lives through the call and is only read; the old value
        // is not asked for; the timerfd is ours and open.
        let rc = unsafe {
            libc::timerfd_settime(
                timer,
                libc::TFD_TIMER_ABSTIME,
                &raw const spec,
                std::ptr::null_mut(),
            )
        };
        if rc < 0 {
            return Err(Error::last_os(
                "cannot set the deadline timer (poll instead of sleeping)",
            ));
        }
        self.programmed = want;
        Ok(())
    }

    fn make_timer(&mut self) -> Result<RawFd> {
        // SAFETY: timerfd_create takes no memory; its result is checked by `take`.
        let raw = unsafe {
            libc::timerfd_create(
                libc::CLOCK_MONOTONIC,
                libc::TFD_NONBLOCK | libc::TFD_CLOEXEC,
            )
        };
        let timer = Fd::take(raw, "a timerfd")?;
        self.add(timer.raw())?;
        Ok(self.timer.insert(timer).raw())
    }

    pub(super) fn wait(&self, timeout_ns: i64) -> Result<Wait> {
        match u64::try_from(timeout_ns) {
            timeout if NO_PWAIT2.load(Ordering::Relaxed) => self.wait_ms(timeout.ok()),
            Err(_) => self.wait_ns(None),
            Ok(ns) => self.wait_ns(Some(ns)),
        }
    }

    fn wait_ns(&self, timeout: Option<u64>) -> Result<Wait> {
        let spec = timeout.map(|ns| KernelTimespec {
            sec: (ns / NS) as i64,
            nsec: (ns % NS) as i64,
        });
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: `event` has room for the one event that is asked for; the
        // timespec is null or lives in `spec` through the call; a null mask
        // leaves the signals alone, and its size is then not looked at.
        let rc = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                libc::c_long::from(self.epoll.raw()),
                &raw mut event,
                1 as libc::c_long,
                spec.as_ref().map_or(std::ptr::null(), std::ptr::from_ref),
                std::ptr::null::<libc::sigset_t>(),
                0 as libc::c_long,
            )
        };
        match outcome(rc) {
            // Linux before 5.11, or a sandbox that does not know the call.
            Err(libc::ENOSYS | libc::EPERM) => {
                NO_PWAIT2.store(true, Ordering::Relaxed);
                self.wait_ms(timeout)
            }
            other => other.map_err(refused),
        }
    }

    /// The same in whole milliseconds, rounded up: a wait never ends early.
    fn wait_ms(&self, timeout: Option<u64>) -> Result<Wait> {
        let mut left = timeout.map(|ns| ns.div_ceil(1_000_000));
        loop {
            let slice = left.map_or(-1, |ms| i32::try_from(ms).unwrap_or(i32::MAX));
            let mut event = libc::epoll_event { events: 0, u64: 0 };
            // SAFETY: as in `wait_ns`; the timeout is a plain number.
            let rc = unsafe {
                libc::syscall(
                    libc::SYS_epoll_pwait,
                    libc::c_long::from(self.epoll.raw()),
                    &raw mut event,
                    1 as libc::c_long,
                    libc::c_long::from(slice),
                    std::ptr::null::<libc::sigset_t>(),
                    0 as libc::c_long,
                )
            };
            match outcome(rc) {
                Ok(Wait::TimedOut) => {
                    left = left.map(|ms| ms.saturating_sub(u64::from(slice.unsigned_abs())));
                    if left == Some(0) {
                        return Ok(Wait::TimedOut);
                    }
                }
                other => return other.map_err(refused),
            }
        }
    }
}

fn outcome(rc: libc::c_long) -> std::result::Result<Wait, i32> {
    match rc {
        0 => Ok(Wait::TimedOut),
        1.. => Ok(Wait::Ready),
        _ => match std::io::Error::last_os_error().raw_os_error() {
            Some(libc::EINTR) => Ok(Wait::Interrupted),
            errno => Err(errno.unwrap_or(libc::EIO)),
        },
    }
}

fn refused(errno: i32) -> Error {
    let what = "cannot wait for the queue (was its fd closed by someone else?)";
    Error::from_io(what, &std::io::Error::from_raw_os_error(errno))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{super::sync::Counter, *};

    #[test]
    fn the_millisecond_wait_rounds_up() {
        let counter = Counter::new().unwrap();
        let watch = Watch::new(counter.raw()).unwrap();
        let begin = Instant::now();
        assert_eq!(watch.wait_ms(Some(2_000_001)).unwrap(), Wait::TimedOut);
        assert!(begin.elapsed() >= Duration::from_nanos(2_000_001));
        assert_eq!(watch.wait_ms(Some(0)).unwrap(), Wait::TimedOut);
        counter.add();
        for timeout in [None, Some(0), Some(1), Some(u64::MAX)] {
            assert_eq!(watch.wait_ms(timeout).unwrap(), Wait::Ready);
        }
        for timeout in [-1, i64::MIN, 0, 1, i64::MAX] {
            assert_eq!(watch.wait(timeout).unwrap(), Wait::Ready);
        }
    }

    #[test]
    fn what_cannot_be_watched_is_told() {
        let counter = Counter::new().unwrap();
        let watch = Watch::new(counter.raw()).unwrap();
        let file = tempfile::tempfile().unwrap();
        let error = watch
            .add(std::os::fd::AsRawFd::as_raw_fd(&file))
            .unwrap_err();
        assert_eq!(error.errno, libc::EPERM);
        assert!(error.message.contains("pollable"));
        assert_eq!(
            watch.add(watch.epoll.raw()).unwrap_err().errno,
            libc::EINVAL
        );
    }
}
