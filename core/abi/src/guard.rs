//! The panic guard: what a Rust plugin wraps around every function that C calls.
//!
//! A host cannot catch a foreign panic (the process aborts), so each shared
//! object has to stop its own.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `body` and answers what it returns, or `on_panic` if it panics.
///
/// The panic's payload is forgotten, not dropped: a payload whose destructor
/// panics would get past the guard.
#[inline]
pub fn guard<T>(on_panic: T, body: impl FnOnce() -> T) -> T {
    guard_or(|| on_panic, body)
}

/// Runs `body` and answers what it returns, or what `on_panic` does if it panics.
#[inline]
pub fn guard_or<T>(on_panic: impl FnOnce() -> T, body: impl FnOnce() -> T) -> T {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(value) => value,
        Err(payload) => {
            core::mem::forget(payload);
            on_panic()
        }
    }
}
