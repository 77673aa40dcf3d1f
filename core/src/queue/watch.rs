//! The kernel's side of the bell: the epoll instance, the timer, the wait.
//!
//! Calls that are cancellation points (read, write, close, epoll_wait) are made
//! by `libc::syscall`, which is none: pthread_cancel cannot unwind Rust here.

use std::os::fd::RawFd;

use super::sync::Fd;
use crate::error::{Error, Result};

const NS: u64 = 1_000_000_000;

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
        // All zeroes stop the timer.
        let value = timespec(want.map_or(0, |at| at.max(1)));
        let spec = libc::itimerspec {
            it_interval: timespec(0),
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

    /// Waits for the epoll instance by ppoll, since Linux 2.6.16. The kernel ends a
    /// ring's operations, and takes rings apart, on the thread that used them, and
    /// interrupts its sleep for that: epoll_pwait2 would answer EINTR, ppoll goes
    /// on, and only a signal handler ends it.
    pub(super) fn wait(&self, timeout_ns: i64) -> Result<Wait> {
        let mut place = libc::pollfd {
            fd: self.epoll.raw(),
            events: libc::POLLIN,
            revents: 0,
        };
        // The kernel leaves in it what is left, for when it goes on.
        let mut left = u64::try_from(timeout_ns).map(timespec).ok();
        let left = left
            .as_mut()
            .map_or(std::ptr::null_mut(), |left| &raw mut *left);
        // SAFETY: one pollfd and a timespec, or none, that live through the call; a
        // null mask leaves the signals alone, and its size is then not looked at.
        let rc = unsafe {
            libc::syscall(
                libc::SYS_ppoll,
                &raw mut place,
                1 as libc::c_ulong,
                left,
                std::ptr::null::<libc::sigset_t>(),
                0 as libc::size_t,
            )
        };
        outcome(rc).map_err(refused)
    }
}

fn timespec(ns: u64) -> libc::timespec {
    libc::timespec {
        // The sum of years fits any type that it may have.
        tv_sec: (ns / NS) as _,
        tv_nsec: (ns % NS) as _,
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
    fn a_wait_lasts_as_long_as_it_should() {
        let counter = Counter::new().unwrap();
        let watch = Watch::new(counter.raw()).unwrap();
        let begin = Instant::now();
        assert_eq!(watch.wait(2_000_001).unwrap(), Wait::TimedOut);
        assert!(begin.elapsed() >= Duration::from_nanos(2_000_001));
        assert_eq!(watch.wait(0).unwrap(), Wait::TimedOut);
        counter.add();
        for timeout in [-1, i64::MIN, 0, 1, i64::MAX] {
            assert_eq!(watch.wait(timeout).unwrap(), Wait::Ready);
        }
    }

    /// The kernel takes a ring apart later, on the thread that used it, and interrupts
    /// its sleep for that. No signal came, so the sleep goes on.
    #[test]
    fn the_end_of_a_ring_is_no_signal() {
        let counter = Counter::new().unwrap();
        let watch = Watch::new(counter.raw()).unwrap();
        for _ in 0..100 {
            let Ok(mut ring) = io_uring::IoUring::new(8) else {
                println!("SKIP: no io_uring here");
                return;
            };
            let nop = io_uring::opcode::Nop::new().build();
            // SAFETY: a NOP touches no memory.
            unsafe { ring.submission().push(&nop).unwrap() };
            ring.submit_and_wait(1).unwrap();
            drop(ring);
            assert_eq!(watch.wait(3_000_000).unwrap(), Wait::TimedOut);
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
