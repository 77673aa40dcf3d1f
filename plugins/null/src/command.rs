//! What one command does: nothing, but with the answer that doing it would have.

use crate::device;
use std::ptr;
use xcopy_abi::*;

const TOKEN_MAGIC: u64 = u64::from_le_bytes(*b"xcnulTOK");
/// A token is the magic and its length in bytes, both little-endian.
pub(crate) const TOKEN_SIZE: u32 = 16;
/// The type of a token for which the caller wanted none in particular.
const TOKEN_TYPE: u32 = 1;

/// The answer to a command that succeeded.
#[inline(always)]
pub(crate) fn success(command: &xcopy_cmd) -> xcopy_result {
    xcopy_result {
        cookie: command.cookie,
        status: 0,
        action: XCOPY_ACTION_DEFAULT,
        reason: XCOPY_REASON_NONE,
        bytes: command.bytes,
        detail: 0,
        flags: 0,
        sense_len: 0,
        sense: ptr::null(),
        token_size: 0,
        token_type: 0,
        token_lifetime_s: 0,
        reserved: 0,
    }
}

/// The answer to a command that failed before it touched anything; `errno` is
/// positive.
#[cold]
pub(crate) fn failure(command: &xcopy_cmd, errno: i32, reason: u16) -> xcopy_result {
    xcopy_result {
        status: -errno,
        reason,
        bytes: 0,
        flags: XCOPY_RESULT_UNTOUCHED,
        ..success(command)
    }
}

/// Whether doing nothing is all that a command needs.
#[inline(always)]
pub(crate) fn is_plain(command: &xcopy_cmd) -> bool {
    matches!(
        command.op,
        XCOPY_CMD_COPY | XCOPY_CMD_ZERO | XCOPY_CMD_FLUSH | XCOPY_CMD_WRITE
    )
}

/// Carries a command out and writes its answer. With `AFFINE`, devices are
/// opened, closed and probed by commands too.
///
/// The answer goes straight to its place: one that is made elsewhere and copied
/// waits for its own small stores, which costs several times the rest.
///
/// # Safety
/// The command keeps the contract of xcopy_cmd, with devices that this plugin
/// opened; `answer` can be written.
#[inline(always)]
pub(crate) unsafe fn perform<const AFFINE: bool>(command: &xcopy_cmd, answer: *mut xcopy_result) {
    if is_plain(command) {
        // SAFETY: the caller's promise on `answer`.
        unsafe { answer.write(success(command)) };
    } else {
        // SAFETY: the caller's promises, handed on.
        unsafe { answer.write(perform_rare::<AFFINE>(command)) };
    }
}

/// # Safety
/// As for [`perform`].
#[cold]
unsafe fn perform_rare<const AFFINE: bool>(command: &xcopy_cmd) -> xcopy_result {
    match command.op {
        XCOPY_CMD_READ => {
            let Ok(len) = usize::try_from(command.bytes) else {
                return failure(command, libc::EINVAL, XCOPY_REASON_LIMITS);
            };
            if command.buffer.is_null() {
                return failure(command, libc::EINVAL, XCOPY_REASON_FAILED);
            }
            // SAFETY: READ's buffer is `bytes` long and ours until completed.
            unsafe { ptr::write_bytes(command.buffer.cast::<u8>(), 0, len) };
            success(command)
        }
        XCOPY_CMD_TOKEN_CREATE => {
            if command.token.is_null() || command.token_size < TOKEN_SIZE {
                return failure(command, libc::ENOBUFS, XCOPY_REASON_TOKEN);
            }
            let mut token = [0u8; TOKEN_SIZE as usize];
            token[..8].copy_from_slice(&TOKEN_MAGIC.to_le_bytes());
            token[8..].copy_from_slice(&command.bytes.to_le_bytes());
            // SAFETY: `token` has room for token_size bytes, checked to suffice.
            unsafe { ptr::copy_nonoverlapping(token.as_ptr(), command.token, token.len()) };
            xcopy_result {
                token_size: TOKEN_SIZE,
                token_type: match command.token_type {
                    0 => TOKEN_TYPE,
                    wanted => wanted,
                },
                ..success(command)
            }
        }
        XCOPY_CMD_TOKEN_WRITE => {
            // SAFETY: the caller's promise on the command's pointers.
            let (length, range) = unsafe { (token_length(command), first_range(command)) };
            let within = range.and_then(|r| r.src_offset.checked_add(r.length));
            match (length, within) {
                (Some(length), Some(end)) if end <= length => success(command),
                (Some(_), _) => failure(command, libc::EINVAL, XCOPY_REASON_BOUNDS),
                (None, _) => failure(command, libc::ESTALE, XCOPY_REASON_TOKEN),
            }
        }
        // SAFETY: the caller's promise on the command's pointers.
        XCOPY_CMD_TOKEN_RELEASE => match unsafe { token_length(command) } {
            Some(_) => success(command),
            None => failure(command, libc::ESTALE, XCOPY_REASON_TOKEN),
        },
        XCOPY_CMD_OPEN | XCOPY_CMD_CLOSE | XCOPY_CMD_PROBE if AFFINE => {
            // SAFETY: the caller's promise, handed on.
            match unsafe { device_command(command) } {
                0 => success(command),
                error => failure(command, -error, XCOPY_REASON_WRONG_DEVICE),
            }
        }
        _ => failure(command, libc::ENOTSUP, XCOPY_REASON_NOT_SUPPORTED),
    }
}

/// OPEN, CLOSE and PROBE by the functions that the other models are called at.
///
/// # Safety
/// As for [`perform`].
unsafe fn device_command(command: &xcopy_cmd) -> i32 {
    // SAFETY: `arg` is NULL, which is tested, or the struct that the operation
    // has; `src` and `dst` are NULL or devices that `open` made.
    unsafe {
        match command.op {
            XCOPY_CMD_OPEN => {
                let args = command.arg.cast::<xcopy_open_args>();
                if args.is_null() {
                    return -libc::EINVAL;
                }
                let (device, props) = (&raw mut (*args).device, &raw mut (*args).props);
                device::open::<XCOPY_MODEL_AFFINE>(ptr::null_mut(), (*args).desc, device, props)
            }
            XCOPY_CMD_PROBE => {
                let args = command.arg.cast::<xcopy_probe_args>();
                if args.is_null() {
                    return -libc::EINVAL;
                }
                let (verdicts, stride, n) = ((*args).verdicts, (*args).stride, (*args).n);
                device::probe(
                    ptr::null_mut(),
                    command.src,
                    command.dst,
                    verdicts,
                    stride,
                    n,
                )
            }
            _ => {
                device::close(ptr::null_mut(), command.src);
                0
            }
        }
    }
}

/// The length that the command's token states, if it is one of ours.
///
/// # Safety
/// `token` is NULL or `token_size` bytes long.
unsafe fn token_length(command: &xcopy_cmd) -> Option<u64> {
    if command.token.is_null() || command.token_size < TOKEN_SIZE {
        return None;
    }
    // SAFETY: at least TOKEN_SIZE readable bytes by the caller's promise; a u64
    // may be read from any of them unaligned.
    let (magic, length) = unsafe {
        let words = command.token.cast::<u64>();
        (words.read_unaligned(), words.add(1).read_unaligned())
    };
    (u64::from_le(magic) == TOKEN_MAGIC).then_some(u64::from_le(length))
}

/// # Safety
/// `ranges` is NULL or `nranges` long.
unsafe fn first_range(command: &xcopy_cmd) -> Option<xcopy_range> {
    if command.ranges.is_null() || command.nranges == 0 {
        return None;
    }
    // SAFETY: not NULL and at least one range long.
    Some(unsafe { *command.ranges })
}
