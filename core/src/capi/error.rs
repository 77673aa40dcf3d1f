//! The text of a thread's last failure.

use crate::error::Error;
use core::ffi::{c_char, c_int};
use std::cell::RefCell;
use std::ffi::CString;

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}

/// Remembers an error's text and answers its -errno.
#[cold]
pub(super) fn refuse(error: Error) -> c_int {
    remember(&error);
    -error.errno
}

/// Remembers an error's text.
#[cold]
pub(super) fn remember(error: &Error) {
    let text = if error.message.is_empty() {
        "the library stopped a panic of its own; please report it"
    } else {
        &error.message
    };
    let text = CString::new(text.replace('\0', " ")).unwrap_or_default();
    // A thread that is ending has no place for it any more.
    let _ = LAST.try_with(|last| {
        if let Ok(mut last) = last.try_borrow_mut() {
            *last = text;
        }
    });
}

/// Text of the calling thread's last failed call: what went wrong and what to
/// do next. Wording may change between versions; decide by the error number.
/// Calls that succeed leave it as it is; xcopy_submit and xcopy_poll also set it
/// when they do a part.
///
/// @return NUL-terminated text owned by the library, "" if no call of this
///   thread failed. Valid until this thread's next failing call, or its end: copy
///   what has to live longer.
#[unsafe(no_mangle)]
pub extern "C" fn xcopy_last_error() -> *const c_char {
    xcopy_abi::guard::guard(c"".as_ptr(), || {
        LAST.try_with(|last| last.try_borrow().map_or(c"".as_ptr(), |l| l.as_ptr()))
            .unwrap_or(c"".as_ptr())
    })
}
