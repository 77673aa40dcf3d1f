//! The C surface, one file for each noun. Every function stops panics, checks
//! its pointers, and turns errors into -errno plus a text for the thread.
#![allow(non_camel_case_types, clippy::missing_safety_doc)]

mod context;
mod device;
mod error;
mod plugin;
mod queue;
mod request;
mod text;
mod token;

pub use context::*;
pub use device::*;
pub use error::*;
pub use plugin::*;
pub use queue::*;
pub use request::*;
pub use text::*;
pub use token::*;

use crate::error::{Error, Result};
use core::ffi::{CStr, c_char, c_int};

/// Runs a call: panics become -EFAULT, errors become -errno and their text.
#[inline]
fn call(body: impl FnOnce() -> Result<c_int>) -> c_int {
    match xcopy_abi::guard::guard(Err(panicked()), body) {
        Ok(value) => value,
        Err(error) => refuse(error),
    }
}

/// Runs a call that may enter libc functions where a thread can be cancelled:
/// cancellation waits until it is over, since it must not unwind through Rust.
fn call_shielded(body: impl FnOnce() -> Result<c_int>) -> c_int {
    let shield = CancelShield::new();
    let value = call(body);
    drop(shield);
    value
}

struct CancelShield(c_int);

unsafe extern "C" {
    fn pthread_setcancelstate(state: c_int, old: *mut c_int) -> c_int;
}

const PTHREAD_CANCEL_DISABLE: c_int = 1;

impl CancelShield {
    fn new() -> CancelShield {
        let mut old = 0;
        // SAFETY: POSIX; a valid place for the old state.
        unsafe { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &mut old) };
        CancelShield(old)
    }
}

impl Drop for CancelShield {
    fn drop(&mut self) {
        let mut old = 0;
        // SAFETY: as above.
        unsafe { pthread_setcancelstate(self.0, &mut old) };
    }
}

// Made without an allocation: `call` builds it before it knows that it is needed.
fn panicked() -> Error {
    Error {
        errno: libc::EFAULT,
        message: String::new(),
    }
}

fn null(what: &str) -> Error {
    Error::new(libc::EINVAL, format!("{what} is NULL"))
}

/// A string of the caller's.
///
/// # Safety
/// `text` is NULL or NUL-terminated and outlives the use.
unsafe fn c_str<'a>(text: *const c_char, what: &str) -> Result<&'a CStr> {
    if text.is_null() {
        return Err(null(what));
    }
    // SAFETY: the caller's word.
    Ok(unsafe { CStr::from_ptr(text) })
}

/// The same as UTF-8.
///
/// # Safety
/// As for `c_str`.
unsafe fn utf8<'a>(text: *const c_char, what: &str) -> Result<&'a str> {
    // SAFETY: the caller's word.
    unsafe { c_str(text, what) }?
        .to_str()
        .map_err(|_| Error::new(libc::EINVAL, format!("{what} is not UTF-8")))
}

/// Writes a struct to a caller who may know a shorter or a longer one.
///
/// # Safety
/// `out` is NULL or `size` writable bytes.
unsafe fn give<T: Copy>(out: *mut T, size: usize, value: &T, what: &str) -> Result<()> {
    if out.is_null() {
        return Err(null(what));
    }
    if size < 8 {
        return Err(Error::new(
            libc::EINVAL,
            format!("the size of {what} is too small"),
        ));
    }
    let known = size.min(size_of::<T>());
    // SAFETY: `size` bytes are writable by the caller's word; T is plain data.
    unsafe {
        std::ptr::copy_nonoverlapping((value as *const T).cast::<u8>(), out.cast::<u8>(), known);
        std::ptr::write_bytes(out.cast::<u8>().add(known), 0, size - known);
    }
    Ok(())
}

/// Reads a size-led options struct over defaults.
///
/// # Safety
/// `options` is NULL or points to as many bytes as its first field says.
unsafe fn take_options<T: Copy>(options: *const T, defaults: T, what: &str) -> Result<T> {
    if options.is_null() {
        return Ok(defaults);
    }
    // SAFETY: every options struct begins with its size.
    let size = unsafe { options.cast::<u32>().read_unaligned() } as usize;
    if size < 8 {
        return Err(Error::new(
            libc::EINVAL,
            format!("{what}.size is not set: fill it with its _init function first"),
        ));
    }
    let known = size_of::<T>();
    if size > known {
        if size > 4096 {
            return Err(Error::new(
                libc::E2BIG,
                format!("{what}.size is larger than 4,096"),
            ));
        }
        // SAFETY: the struct's own word.
        let tail =
            unsafe { std::slice::from_raw_parts(options.cast::<u8>().add(known), size - known) };
        if tail.iter().any(|byte| *byte != 0) {
            return Err(Error::new(
                libc::E2BIG,
                format!("{what} has fields that this version does not know: leave them 0"),
            ));
        }
    }
    let mut value = defaults;
    // SAFETY: both sides have at least that many bytes; T is plain data.
    unsafe {
        std::ptr::copy_nonoverlapping(
            options.cast::<u8>(),
            (&raw mut value).cast::<u8>(),
            size.min(known),
        );
    }
    Ok(value)
}
