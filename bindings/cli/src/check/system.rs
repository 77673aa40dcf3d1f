//! System calls of the check that have no safe wrapper.

use std::collections::BTreeSet;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

/// Writes to a raw descriptor.
pub fn write(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the bytes are readable for their length; a bad fd is an error.
    let written = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
    usize::try_from(written).map_err(|_| io::Error::last_os_error())
}

/// CLOCK_MONOTONIC in milliseconds.
pub fn monotonic_ms() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a live timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

/// The kernel's number of this thread.
pub fn thread_id() -> u64 {
    // SAFETY: takes no pointers.
    unsafe { libc::gettid() as u64 }
}

/// What a thread spent.
#[derive(Clone, Copy, Default)]
pub struct Effort {
    /// Times that it went to sleep by itself.
    pub waits: i64,
    /// Processor time.
    pub cpu: Duration,
}

/// What this thread spent so far.
pub fn thread_effort() -> Effort {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is to room for the struct; all zeroes is valid too.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr());
        usage.assume_init()
    };
    let time = |t: libc::timeval| {
        Duration::from_secs(t.tv_sec as u64) + Duration::from_micros(t.tv_usec as u64)
    };
    Effort {
        waits: usage.ru_nvcsw as i64,
        cpu: time(usage.ru_utime) + time(usage.ru_stime),
    }
}

/// Whether a descriptor is open.
pub fn is_open(fd: RawFd) -> bool {
    // SAFETY: takes no pointers; a bad fd is the answer that is asked for.
    unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
}

/// Waits until a descriptor can be read; None if it is no pollable one.
pub fn readable(fd: RawFd, timeout: Duration) -> Option<bool> {
    let mut poll = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    let timeout = timeout.as_millis().min(60_000) as i32;
    loop {
        // SAFETY: one live pollfd.
        let n = unsafe { libc::poll(&mut poll, 1, timeout) };
        if n < 0 && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted {
            continue;
        }
        if n < 0 || poll.revents & libc::POLLNVAL != 0 {
            return None;
        }
        return Some(poll.revents & libc::POLLIN != 0);
    }
}

fn names_in(directory: &str) -> BTreeSet<String> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return BTreeSet::new();
    };
    entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Descriptors that the process has open, but for the one that looks.
pub fn descriptors() -> usize {
    names_in("/proc/self/fd").len().saturating_sub(1)
}

/// Threads of the process.
pub fn threads() -> usize {
    names_in("/proc/self/task").len()
}

/// Bytes that malloc has given out, where the C library tells.
pub fn heap_bytes() -> Option<usize> {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: takes no pointers.
        let info = unsafe { libc::mallinfo2() };
        Some(info.uordblks + info.hblkhd)
    }
    #[cfg(not(target_env = "gnu"))]
    None
}

/// Takes standard output for the report; what the plugin prints goes to
/// standard error. Answers the report's descriptor.
pub fn take_standard_output() -> io::Result<RawFd> {
    let (out, err) = (io::stdout().as_raw_fd(), io::stderr().as_raw_fd());
    // SAFETY: takes no pointers.
    let report = unsafe { libc::fcntl(out, libc::F_DUPFD_CLOEXEC, 64) };
    if report < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as above.
    if unsafe { libc::dup2(err, out) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(report)
}

/// The child dies with its parent, and leaves no core file of a crash that is
/// expected.
pub fn be_a_child() {
    let none = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: a number and a live struct.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::setrlimit(libc::RLIMIT_CORE, &none);
    }
}

/// Ends the process at once, without the handlers of anybody.
pub fn end_now() -> ! {
    // SAFETY: takes no pointers and does not return.
    unsafe { libc::_exit(3) }
}
