//! The BLOCKING form: the core's pool calls, this blocks.

use crate::{PANICKED, command, device};
use std::ffi::{c_int, c_void};
use std::thread;
use xcopy_abi::guard::guard;
use xcopy_abi::{xcopy_cmd, xcopy_result};

/// Table entry: carries one command out.
pub(crate) unsafe extern "C" fn execute(
    _state: *mut c_void,
    command: *mut xcopy_cmd,
    result: *mut xcopy_result,
) -> c_int {
    guard(PANICKED, || {
        if command.is_null() || result.is_null() {
            return -libc::EINVAL;
        }
        // SAFETY: not NULL, and by the contract a command that stays valid and
        // unchanged until it is completed, with devices that `open` made.
        let (command, delay) = unsafe { (&*command, device::delay(command)) };
        if !delay.is_zero() {
            thread::sleep(delay);
        }
        // SAFETY: as above for the command; `result` is the core's to be filled.
        unsafe { command::perform::<false>(command, result) };
        0
    })
}
