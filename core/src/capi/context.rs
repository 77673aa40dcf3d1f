//! Contexts.

use super::{call, call_shielded, give, null, take_options};
use crate::engine::{Context, context};
use crate::error::Result;
use core::ffi::c_int;
use std::sync::Arc;
use xcopy_abi::xcopy_context_options;

/// Plugins, devices, tokens, a pool of threads, and what is known of pairs of
/// devices. Opaque. Any thread may use a context at any time.
pub struct xcopy_context {
    pub(super) inner: Arc<Context>,
}

/// The context behind a pointer.
///
/// # Safety
/// `context` is NULL or came from xcopy_context_create and was not freed.
pub(super) unsafe fn context_of<'a>(context: *const xcopy_context) -> Result<&'a Arc<Context>> {
    // SAFETY: the caller's word.
    let context = unsafe { context.as_ref() }.ok_or_else(|| null("context"))?;
    context.inner.check_process()?;
    Ok(&context.inner)
}

/// Fills options with their defaults: a pool of 8 threads, silence, malloc, a
/// memory budget of 128 MiB, all methods, 180 s before a failed method is tried
/// again.
///
/// @param options Receives the defaults; `options->size` becomes `size`.
/// @param size sizeof(struct xcopy_context_options) as the caller was compiled.
/// @return 0, or -EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xcopy_context_options_init(
    options: *mut xcopy_context_options,
    size: usize,
) -> c_int {
    call(|| {
        let mut defaults = context::default_options();
        defaults.size = size.min(4096) as u32;
        // SAFETY: NULL or `size` writable bytes, by the contract above.
        unsafe { give(options, size, &defaults, "options") }?;
        Ok(0)
    })
}

/// Creates a context. No thread is started and no plugin is loaded yet.
///
/// @param options NULL for the defaults. Copied. Functions and their arguments
///   must stay valid while the context lives.
/// @param context Receives the context; the caller frees it.
/// @return 0, or -errno: -EINVAL (options), -E2BIG (options of a newer version
///   that are not 0), -ENOMEM, -ENOSYS (Linux before 4.14).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xcopy_context_create(
    options: *const xcopy_context_options,
    context: *mut *mut xcopy_context,
) -> c_int {
    call_shielded(|| {
        // SAFETY: NULL, or the caller's place for the context.
        let place = unsafe { context.as_mut() }.ok_or_else(|| null("context"))?;
        // SAFETY: NULL or size-led, by the contract above.
        let options = unsafe { take_options(options, context::default_options(), "options") }?;
        let inner = Context::new(options)?;
        *place = Box::into_raw(Box::new(xcopy_context { inner }));
        Ok(0)
    })
}

/// Frees a context: its devices are closed, its tokens wiped, its threads end.
/// In a forked child it only leaks. Waits up to 5 s for what its threads still do.
/// One that then hangs in a plugin or in the kernel is left behind, with the
/// plugins and the memory that it may use; the same holds for what backends kept
/// of a queue that was destroyed by force. In no case are the functions in
/// xcopy_context_options called afterwards.
///
/// @param context May be NULL. Not to be used afterwards, unless refused.
/// @return 0, or -EBUSY while a queue of it exists; -ECHILD in a forked child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xcopy_context_free(context: *mut xcopy_context) -> c_int {
    call_shielded(|| {
        if context.is_null() {
            return Ok(0);
        }
        // SAFETY: the caller's pointer; see above.
        unsafe { context_of(context) }?.shut_down()?;
        // SAFETY: made by xcopy_context_create, given up by the caller.
        drop(unsafe { Box::from_raw(context) });
        Ok(0)
    })
}
