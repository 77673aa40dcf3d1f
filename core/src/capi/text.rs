//! Pure functions: versions, names, and numbers in words.

use super::{call, utf8, xcopy_context};
use crate::engine::reasons;
use crate::error::Error;
use core::ffi::{c_char, c_int};
use xcopy_abi::guard::guard;
use xcopy_abi::*;

/// Version of the library in use: major << 16 | minor << 8 | patch.
#[unsafe(no_mangle)]
pub extern "C" fn xcopy_version() -> u32 {
    XCOPY_VERSION_MAJOR << 16 | XCOPY_VERSION_MINOR << 8 | XCOPY_VERSION_PATCH
}

/// A reason in words. Pure.
///
/// @param reason One of XCOPY_REASON_.
/// @return Static text, never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn xcopy_reason_string(reason: u16) -> *const c_char {
    reasons::c_text(reason).as_ptr()
}

/// Name of a method.
///
/// @param context A context, for methods that plugins brought; NULL knows the
///   fixed ones only.
/// @param method Number of the method.
/// @return NUL-terminated name, valid while the context lives; NULL if unknown.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xcopy_method_name(
    context: *const xcopy_context,
    method: u16,
) -> *const c_char {
    guard(std::ptr::null(), || {
        if let Some(name) = crate::plugin::fixed_name(method) {
            return name.as_ptr();
        }
        // SAFETY: NULL, or a context that xcopy_context_create gave.
        let Some(context) = (unsafe { context.as_ref() }) else {
            return std::ptr::null();
        };
        context
            .inner
            .registry
            .method_name(method)
            .unwrap_or(std::ptr::null())
    })
}

/// Turns names of methods into a mask.
///
/// @param context A context, or NULL for the fixed methods only.
/// @param names Names separated by commas.
/// @param mask Receives one bit for each.
/// @return 0, or -EINVAL; the text names what is unknown.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xcopy_method_mask(
    context: *const xcopy_context,
    names: *const c_char,
    mask: *mut u32,
) -> c_int {
    call(|| {
        // SAFETY: NULL or NUL-terminated, by the contract above.
        let names = unsafe { utf8(names, "names") }?;
        // SAFETY: NULL, or a context that xcopy_context_create gave.
        let context = unsafe { context.as_ref() };
        if let Some(context) = context {
            context.inner.check_process()?;
        }
        let mut bits = 0u32;
        for name in names
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
        {
            let fixed = (0..XCOPY_METHOD_DYNAMIC).find(|m| {
                crate::plugin::fixed_name(*m).is_some_and(|n| n.to_bytes() == name.as_bytes())
            });
            let found = fixed
                .or_else(|| context.and_then(|c| c.inner.registry.method_by_name(name)))
                .ok_or_else(|| {
                    Error::new(libc::EINVAL, format!("there is no method named {name}"))
                })?;
            bits |= 1 << found;
        }
        if bits == 0 {
            return Err(Error::new(libc::EINVAL, "no method is named"));
        }
        // SAFETY: NULL, or the caller's place for the mask.
        *unsafe { mask.as_mut() }.ok_or_else(|| super::null("mask"))? = bits;
        Ok(0)
    })
}

/// A detail word in words. Pure.
///
/// @param detail From a completion or a report.
/// @param buffer Receives NUL-terminated text, cut to `size` bytes; may be NULL
///   if `size` is 0.
/// @param size Bytes at `buffer`.
/// @return Bytes that the whole text has, without the NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xcopy_detail_string(
    detail: u64,
    buffer: *mut c_char,
    size: usize,
) -> c_int {
    call(|| {
        let text = reasons::detail_text(detail);
        if size > 0 {
            if buffer.is_null() {
                return Err(super::null("buffer"));
            }
            let n = text.len().min(size - 1);
            // SAFETY: `size` bytes are writable by the contract above.
            unsafe {
                std::ptr::copy_nonoverlapping(text.as_ptr(), buffer.cast::<u8>(), n);
                buffer.add(n).write(0);
            }
        }
        Ok(text.len() as c_int)
    })
}

/// Size of a public struct as this library was compiled, so that a binding in
/// another language can check its own.
///
/// @param name The struct's name, "xcopy_request" for example.
/// @return sizeof in bytes; 0 if there is no such struct.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xcopy_struct_size(name: *const c_char) -> usize {
    guard(0, || {
        // SAFETY: NULL or NUL-terminated, by the contract above.
        let Ok(name) = (unsafe { utf8(name, "name") }) else {
            return 0;
        };
        match name {
            "xcopy_context_options" => size_of::<xcopy_context_options>(),
            "xcopy_queue_options" => size_of::<xcopy_queue_options>(),
            "xcopy_range" => size_of::<xcopy_range>(),
            "xcopy_ext" => size_of::<xcopy_ext>(),
            "xcopy_request" => size_of::<xcopy_request>(),
            "xcopy_completion" => size_of::<xcopy_completion>(),
            "xcopy_method_share" => size_of::<xcopy_method_share>(),
            "xcopy_fallback" => size_of::<xcopy_fallback>(),
            "xcopy_report" => size_of::<xcopy_report>(),
            "xcopy_limits" => size_of::<xcopy_limits>(),
            "xcopy_method_info" => size_of::<xcopy_method_info>(),
            "xcopy_device_info" => size_of::<xcopy_device_info>(),
            "xcopy_plugin_info" => size_of::<xcopy_plugin_info>(),
            "xcopy_progress" => size_of::<xcopy_progress>(),
            "xcopy_queue_stats" => size_of::<xcopy_queue_stats>(),
            "xcopy_token_info" => size_of::<xcopy_token_info>(),
            "xcopy_cmd" => size_of::<xcopy_cmd>(),
            "xcopy_result" => size_of::<xcopy_result>(),
            "xcopy_device_desc" => size_of::<xcopy_device_desc>(),
            "xcopy_device_props" => size_of::<xcopy_device_props>(),
            "xcopy_verdict" => size_of::<xcopy_verdict>(),
            "xcopy_open_args" => size_of::<xcopy_open_args>(),
            "xcopy_probe_args" => size_of::<xcopy_probe_args>(),
            "xcopy_host" => size_of::<xcopy_host>(),
            "xcopy_plugin_method" => size_of::<xcopy_plugin_method>(),
            "xcopy_plugin_queue_options" => size_of::<xcopy_plugin_queue_options>(),
            "xcopy_plugin" => size_of::<xcopy_plugin>(),
            _ => 0,
        }
    })
}

/// Copies text into a NUL-terminated field, cut if it is longer.
pub(super) fn put_text(field: &mut [c_char], text: &str) {
    let room = field.len().saturating_sub(1);
    let mut cut = text.len().min(room);
    while !text.is_char_boundary(cut) {
        cut -= 1;
    }
    field.fill(0);
    for (to, from) in field.iter_mut().zip(text.as_bytes()[..cut].iter()) {
        *to = *from as c_char;
    }
}
