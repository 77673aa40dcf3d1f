//! The C side of the model BLOCKING.

use crate::command::Command;
use crate::errno::EINVAL;
use crate::failure::result_of;
use crate::plugin::Blocking;
use crate::table::{PANICKED, answer, state_of, table};
use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::marker::PhantomData;
use std::ptr::NonNull;
use xcopy_abi::guard::guard;
use xcopy_abi::*;

struct Table<P>(PhantomData<P>);

impl<P: Blocking> Table<P> {
    const TABLE: &'static xcopy_plugin = &xcopy_plugin {
        execute: Some(execute::<P>),
        ..table::<P>(XCOPY_MODEL_BLOCKING)
    };
}

/// The entry point of a [`Blocking`] plugin.
///
/// # Safety
/// `host` is NULL or the core's table, valid for the life of the process.
pub unsafe extern "C" fn init_blocking<P: Blocking>(
    host: *const xcopy_host,
) -> *const xcopy_plugin {
    // SAFETY: the caller's word.
    unsafe { answer(host, Table::<P>::TABLE) }
}

thread_local! {
    /// Sense data of this thread's last command: the core reads it after the
    /// call returned, before it makes the next one.
    static SENSE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

unsafe extern "C" fn execute<P: Blocking>(
    state: *mut c_void,
    command: *mut xcopy_cmd,
    result: *mut xcopy_result,
) -> c_int {
    guard(PANICKED, || {
        // SAFETY: the context's state.
        let state = unsafe { state_of::<P>(state) };
        let (Some(state), Some(command)) = (state, NonNull::new(command)) else {
            return -EINVAL;
        };
        if result.is_null() {
            return -EINVAL;
        }
        // SAFETY: in flight until the call returns, with devices of `open`.
        let mut command = unsafe { Command::<P::Device>::new(command) };
        let mut outcome = state.plugin.execute(&mut command);
        let mut ended = result_of(command.raw(), &outcome);
        if let Err(failure) = &mut outcome
            && !failure.sense.is_empty()
        {
            SENSE.with(|kept| {
                // Moving the vector leaves its bytes where they are.
                let mut kept = kept.borrow_mut();
                *kept = std::mem::take(&mut failure.sense);
                ended.sense = kept.as_ptr();
            });
        }
        // SAFETY: the core's place for one result.
        unsafe { result.write(ended) };
        0
    })
}
