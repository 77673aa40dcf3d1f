//! libcopy_manager_library.so: a copy manager in memory for tests in C and
//! Python. `copy_manager.h` in ctests/c declares what is here.

use copy_manager::fault::TokenFate;
use copy_manager::{Connection, CopyManager, DiskOptions, Personality, ServiceTimes};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use xcopy_scsi_protocol::native::{xcopy_scsi_command, xcopy_scsi_transport};

/// A copy manager with the connections to it.
pub struct Target {
    manager: Arc<CopyManager>,
    /// From Box::into_raw: what callers hold points into them.
    ways: Mutex<Vec<*mut Way>>,
    /// Nanoseconds of processor that its commands took.
    cpu_ns: AtomicU64,
}

/// A connection, with the time that its commands take counted.
struct Way {
    outer: xcopy_scsi_transport,
    inner: Connection,
    target: *const Target,
}

impl Drop for Target {
    fn drop(&mut self) {
        let ways = self.ways.get_mut().unwrap_or_else(PoisonError::into_inner);
        for way in ways.drain(..) {
            // SAFETY: made by into_raw, and no device uses it any more.
            drop(unsafe { Box::from_raw(way) });
        }
    }
}

/// The processor's time of this thread.
fn thread_cpu_ns() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a valid place for the answer.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

unsafe extern "C" fn counted(ctx: *mut c_void, command: *mut xcopy_scsi_command) -> c_int {
    // SAFETY: the Way that owns the transport whose ctx this is.
    let way = unsafe { &*ctx.cast::<Way>() };
    // SAFETY: the connection's own struct, alive with it.
    let inner = unsafe { &*way.inner.native().cast::<xcopy_scsi_transport>() };
    let begun = thread_cpu_ns();
    let answer = match inner.execute {
        // SAFETY: the connection's function with its ctx and the caller's command.
        Some(execute) => unsafe { execute(inner.ctx, command) },
        None => -libc::ENOSYS,
    };
    let took = thread_cpu_ns() - begun;
    // SAFETY: the target outlives its ways.
    let cpu_ns = unsafe { &(*way.target).cpu_ns };
    cpu_ns.fetch_add(took, Ordering::Relaxed);
    answer
}

/// A copy manager of a personality (`ctl`, `array`, `windows`, `lio`...), or NULL.
///
/// # Safety
/// `personality` is NUL-terminated.
// SAFETY: no other library has the name; it is loaded by tests only.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn copy_manager_new(personality: *const c_char) -> *mut Target {
    // SAFETY: the caller's word.
    let name = unsafe { CStr::from_ptr(personality) }.to_string_lossy();
    match Personality::by_name(&name) {
        Some(personality) => Box::into_raw(Box::new(Target {
            manager: CopyManager::new(personality),
            ways: Mutex::default(),
            cpu_ns: AtomicU64::new(0),
        })),
        None => std::ptr::null_mut(),
    }
}

/// Adds a disk of so many bytes; its unit.
///
/// # Safety
/// `target` is what copy_manager_new gave.
// SAFETY: as above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn copy_manager_add_disk(
    target: *const Target,
    block_size: u32,
    bytes: u64,
) -> usize {
    // SAFETY: the caller's word.
    let target = unsafe { &*target };
    target.manager.add_disk(DiskOptions::new(block_size, bytes))
}

/// A native handle for a unit, a `struct xcopy_scsi_transport *`, as an initiator
/// of this name; valid until copy_manager_free.
///
/// # Safety
/// `target` is what copy_manager_new gave, `initiator` is NUL-terminated.
// SAFETY: as above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn copy_manager_connect(
    target: *const Target,
    initiator: *const c_char,
    unit: usize,
) -> *mut c_void {
    // SAFETY: the caller's word.
    let (known, name) = unsafe { (&*target, CStr::from_ptr(initiator).to_string_lossy()) };
    let inner = known.manager.connect(known.manager.nexus(&name), unit);
    // SAFETY: the connection's own struct, alive with it.
    let outer = unsafe { *inner.native().cast::<xcopy_scsi_transport>() };
    let way = Box::into_raw(Box::new(Way {
        outer,
        inner,
        target,
    }));
    let mut ways = known.ways.lock().unwrap_or_else(PoisonError::into_inner);
    ways.push(way);
    // SAFETY: made above, and given to nobody yet.
    unsafe {
        (*way).outer.ctx = way.cast();
        (*way).outer.execute = Some(counted);
        (&raw mut (*way).outer).cast()
    }
}

/// Microseconds that every command takes from now on.
///
/// # Safety
/// `target` is what copy_manager_new gave.
// SAFETY: as above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn copy_manager_service(target: *const Target, microseconds: u64) {
    // SAFETY: the caller's word.
    unsafe { &*target }.manager.set_service(ServiceTimes {
        other: Duration::from_micros(microseconds),
        ..ServiceTimes::default()
    });
}

/// Nanoseconds of processor that its commands took so far.
///
/// # Safety
/// `target` is what copy_manager_new gave.
// SAFETY: as above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn copy_manager_cpu_ns(target: *const Target) -> u64 {
    // SAFETY: the caller's word.
    unsafe { &*target }.cpu_ns.load(Ordering::Relaxed)
}

/// Reads the medium.
///
/// # Safety
/// `target` is what copy_manager_new gave; `into` has room for `bytes`.
// SAFETY: as above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn copy_manager_peek(
    target: *const Target,
    unit: usize,
    at: u64,
    into: *mut u8,
    bytes: usize,
) {
    // SAFETY: the caller's word; zeroed first, so that it is initialised.
    unsafe {
        into.write_bytes(0, bytes);
        let into = std::slice::from_raw_parts_mut(into, bytes);
        (*target).manager.peek(unit, at, into);
    }
}

/// Writes the medium.
///
/// # Safety
/// `target` is what copy_manager_new gave; `from` has `bytes`.
// SAFETY: as above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn copy_manager_poke(
    target: *const Target,
    unit: usize,
    at: u64,
    from: *const u8,
    bytes: usize,
) {
    // SAFETY: the caller's word.
    unsafe {
        let from = std::slice::from_raw_parts(from, bytes);
        (*target).manager.poke(unit, at, from);
    }
}

/// Tokens that live.
///
/// # Safety
/// `target` is what copy_manager_new gave.
// SAFETY: as above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn copy_manager_live_tokens(target: *const Target) -> usize {
    // SAFETY: the caller's word.
    unsafe { &*target }.manager.live_tokens()
}

/// Ends all tokens: 4 as if they had never been, 6 revoked, 7 expired, 8
/// cancelled, 9 deleted (SPC-4, the qualifiers of 23h). 0, or -1.
///
/// # Safety
/// `target` is what copy_manager_new gave.
// SAFETY: as above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn copy_manager_end_tokens(target: *const Target, fate: c_int) -> c_int {
    let fate = match fate {
        4 => TokenFate::Unknown,
        6 => TokenFate::Revoked,
        7 => TokenFate::Expired,
        8 => TokenFate::Cancelled,
        9 => TokenFate::Deleted,
        _ => return -1,
    };
    // SAFETY: the caller's word.
    unsafe { &*target }.manager.end_tokens(fate);
    0
}

/// Frees a copy manager and its connections; no device may use them any more.
///
/// # Safety
/// `target` is what copy_manager_new gave, given up here.
// SAFETY: as above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn copy_manager_free(target: *mut Target) {
    // SAFETY: the caller's word.
    drop(unsafe { Box::from_raw(target) });
}
