//! The one clock: CLOCK_MONOTONIC_COARSE, read without a system call.

use once_cell::sync::Lazy;

/// How far the coarse clock may lag behind: one tick.
static TICK_NS: Lazy<u64> = Lazy::new(|| {
    let mut tick = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a valid place for the answer.
    unsafe { libc::clock_getres(libc::CLOCK_MONOTONIC_COARSE, &mut tick) };
    tick.tv_sec as u64 * 1_000_000_000 + tick.tv_nsec as u64
});

/// The coarse time at which at least `timeout_ms` will have passed.
pub fn deadline_ns(timeout_ms: u32) -> u64 {
    coarse_ns() + *TICK_NS + u64::from(timeout_ms) * 1_000_000
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
