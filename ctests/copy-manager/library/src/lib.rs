//! libcopy_manager_library.so: a copy manager in memory for tests in C and
//! Python. `copy_manager.h` in ctests/c declares what is here.

use copy_manager::fault::TokenFate;
use copy_manager::{Connection, CopyManager, DiskOptions, Personality};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::{Arc, Mutex, PoisonError};

/// A copy manager with the connections to it.
pub struct Target {
    manager: Arc<CopyManager>,
    ways: Mutex<Vec<Connection>>,
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
/// of this name; valid for ever.
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
    let (target, name) = unsafe { (&*target, CStr::from_ptr(initiator).to_string_lossy()) };
    let way = target.manager.connect(target.manager.nexus(&name), unit);
    let native = way.native();
    let mut ways = target.ways.lock().unwrap_or_else(PoisonError::into_inner);
    ways.push(way);
    native
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
