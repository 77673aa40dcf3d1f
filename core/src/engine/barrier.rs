//! The fence between a submitter, who pays nothing for it, and a closer.

use crate::error::{Error, Result};
use std::sync::atomic::Ordering;

const MEMBARRIER_CMD_PRIVATE_EXPEDITED: i32 = 1 << 3;
const MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED: i32 = 1 << 4;

/// Closing a device relies on it: see `barrier_all_threads`.
pub(super) fn register_membarrier() -> Result<()> {
    // SAFETY: membarrier takes no pointers.
    let registered = unsafe {
        libc::syscall(
            libc::SYS_membarrier,
            MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED,
            0,
            0,
        )
    };
    if registered == 0 {
        return Ok(());
    }
    let why = std::io::Error::last_os_error();
    Err(Error::new(
        libc::ENOSYS,
        format!(
            "membarrier's private expedited command is missing ({why}): libxcopy needs Linux 4.14 \
             or later, and a sandbox that allows the call"
        ),
    ))
}

/// A full fence on every running thread of the process, so that a submitter's
/// plain "count, then look at the handle" is ordered against a closer's "kill
/// the handle, then look at the count" without a fence on the submit path.
pub(super) fn barrier_all_threads() {
    std::sync::atomic::fence(Ordering::SeqCst);
    // SAFETY: membarrier takes no pointers.
    unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) };
}
