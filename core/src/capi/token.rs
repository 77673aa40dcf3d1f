//! Tokens.

use super::{call_shielded, context_of, give, null, xcopy_context};
use crate::engine::tokens::{self, Token};
use crate::error::Error;
use core::ffi::{c_int, c_void};
use xcopy_abi::xcopy_token_info;

/// Makes an empty token. XCOPY_OP_TOKEN_CREATE fills it, after which
/// XCOPY_OP_TOKEN_WRITE writes from it. A token is a bearer secret: whoever has
/// it can read the data.
///
/// @param context The context.
/// @param token Receives the handle. The caller frees it.
/// @return 0, or -errno: -EMFILE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xcopy_token_create(context: *mut xcopy_context, token: *mut u32) -> c_int {
    call_shielded(|| {
        if token.is_null() {
            return Err(null("token"));
        }
        // SAFETY: the caller's pointer; see above.
        let context = unsafe { context_of(context) }?;
        let made = context.tokens.insert(|handle| Ok(Token::new(handle)))?;
        // SAFETY: not NULL; the caller's place.
        unsafe { token.write_unaligned(made.handle) };
        Ok(0)
    })
}

/// Forgets a token and overwrites it. The device may keep it until it expires;
/// XCOPY_OP_TOKEN_RELEASE tells it not to.
///
/// @param context The context.
/// @param token The handle.
/// @return 0, or -errno: -EBADF, -EBUSY while a request uses it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xcopy_token_free(context: *mut xcopy_context, token: u32) -> c_int {
    call_shielded(|| {
        // SAFETY: the caller's pointer; see above.
        let context = unsafe { context_of(context) }?;
        let found = context.token(token)?;
        let Some(_alone) = found.take() else {
            return Err(Error::new(
                libc::EBUSY,
                "a request in flight uses the token",
            ));
        };
        context.tokens.remove(token);
        Ok(0)
    })
}

/// Describes a token, without its secret.
///
/// @param context The context.
/// @param token The handle.
/// @param info Receives the description.
/// @param size sizeof(struct xcopy_token_info) as the caller was compiled.
/// @return 0, or -errno: -EBADF.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xcopy_token_info(
    context: *const xcopy_context,
    token: u32,
    info: *mut xcopy_token_info,
    size: usize,
) -> c_int {
    call_shielded(|| {
        // SAFETY: the caller's pointer; see above.
        let context = unsafe { context_of(context) }?;
        let told = tokens::info(&*context.token(token)?, &context.registry);
        // SAFETY: NULL or `size` writable bytes, by the contract above.
        unsafe { give(info, size, &told, "info") }?;
        Ok(0)
    })
}

/// Writes a filled token into the caller's buffer, for another process or host.
/// The buffer is then a secret of the caller's. A checksum finds damage, not
/// malice.
///
/// @param context The context.
/// @param token The handle.
/// @param buffer Receives the serialised token.
/// @param size Bytes at `buffer`.
/// @param used Receives the bytes written, or needed.
/// @return 0, or -errno: -EBADF, -EINVAL (empty token), -ENOBUFS (`*used` says
///   how many bytes it takes).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xcopy_token_export(
    context: *const xcopy_context,
    token: u32,
    buffer: *mut c_void,
    size: usize,
    used: *mut usize,
) -> c_int {
    call_shielded(|| {
        if used.is_null() || (buffer.is_null() && size > 0) {
            return Err(null("buffer or used"));
        }
        // SAFETY: the caller's pointer; see above.
        let found = unsafe { context_of(context) }?.token(token)?;
        let out = if size == 0 {
            &mut []
        } else {
            // SAFETY: `size` writable bytes, by the contract above.
            unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), size) }
        };
        let (n, fits) = match tokens::export(&found, out)? {
            Ok(n) => (n, true),
            Err(n) => (n, false),
        };
        // SAFETY: not NULL; the caller's place.
        unsafe { used.write_unaligned(n) };
        if fits {
            Ok(0)
        } else {
            Err(Error::new(
                libc::ENOBUFS,
                format!("the token takes {n} bytes"),
            ))
        }
    })
}

/// Makes a token from what xcopy_token_export wrote.
///
/// @param context The context.
/// @param buffer The serialised token.
/// @param size Its length in bytes.
/// @param token Receives the handle.
/// @return 0, or -errno: -EINVAL; the text says whether it is foreign, cut off,
///   damaged, or of another version.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xcopy_token_import(
    context: *mut xcopy_context,
    buffer: *const c_void,
    size: usize,
    token: *mut u32,
) -> c_int {
    call_shielded(|| {
        if token.is_null() || buffer.is_null() {
            return Err(null("buffer or token"));
        }
        // SAFETY: the caller's pointer; see above.
        let context = unsafe { context_of(context) }?;
        // SAFETY: `size` readable bytes, by the contract above.
        let bytes = unsafe { std::slice::from_raw_parts(buffer.cast::<u8>(), size) };
        let content = tokens::import(bytes)?;
        let made = context.tokens.insert(|handle| Ok(Token::new(handle)))?;
        *made.content() = content;
        // SAFETY: not NULL; the caller's place.
        unsafe { token.write_unaligned(made.handle) };
        Ok(0)
    })
}
