//! The clocks, read without a system call: CLOCK_MONOTONIC_COARSE for what may be a
//! tick late, CLOCK_MONOTONIC for what must not be early.

/// The time at which `timeout_ms` will have passed. The coarse clock may lag by more
/// than its resolution says, where a tick comes late: it would give an earlier time.
pub fn deadline_ns(timeout_ms: u32) -> u64 {
    precise_ns().saturating_add(u64::from(timeout_ms) * 1_000_000)
}

/// Nanoseconds of the coarse monotonic clock (a tick of 1 to 10 ms).
pub fn coarse_ns() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a valid place for the answer; the clock exists on every kernel
    // since 2.6.32.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Nanoseconds of CLOCK_MONOTONIC, which the coarse clock follows.
pub fn precise_ns() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a valid place for the answer.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
