//! What a command does, and what is answered to it.

use super::device::{close, open, probe};
use super::draw;
use crate::input::Input;
use std::ffi::{c_int, c_void};
use std::ptr;
use xcopy::abi::*;

const SENSE: [u8; XCOPY_SENSE_MAX] = [0x70; XCOPY_SENSE_MAX];

/// What is done and answered for a command.
///
/// # Safety
/// `command` is the core's, not ended yet.
pub(super) unsafe fn carry_out(command: *mut xcopy_cmd) -> xcopy_result {
    // SAFETY: the caller's word; what it points to lives as long.
    let cmd = unsafe { &*command };
    let mut result = xcopy_result {
        cookie: cmd.cookie,
        bytes: cmd.bytes,
        ..xcopy_result::default()
    };
    match cmd.op {
        // SAFETY: `bytes` bytes of buffer, by the contract.
        XCOPY_CMD_READ => unsafe {
            ptr::write_bytes(cmd.buffer.cast::<u8>(), 0x5a, cmd.bytes as usize)
        },
        XCOPY_CMD_WRITE => {
            // SAFETY: as above.
            let bytes =
                unsafe { std::slice::from_raw_parts(cmd.buffer.cast::<u8>(), cmd.bytes as usize) };
            std::hint::black_box(bytes.iter().fold(0u8, |sum, byte| sum ^ byte));
        }
        XCOPY_CMD_TOKEN_CREATE => {
            // SAFETY: `token_size` bytes of token, by the contract.
            unsafe { ptr::write_bytes(cmd.token, 7, cmd.token_size as usize) };
            result.token_size = cmd.token_size.min(64);
        }
        XCOPY_CMD_TOKEN_WRITE | XCOPY_CMD_TOKEN_RELEASE => {
            // SAFETY: as above.
            let token = unsafe { std::slice::from_raw_parts(cmd.token, cmd.token_size as usize) };
            std::hint::black_box(token.iter().fold(0u8, |sum, byte| sum ^ byte));
        }
        // SAFETY: their arguments are what the contract says.
        XCOPY_CMD_OPEN => unsafe {
            let args = &mut *cmd.arg.cast::<xcopy_open_args>();
            result.status = open(
                ptr::null_mut(),
                args.desc,
                &mut args.device,
                &mut args.props,
            );
        },
        // SAFETY: as above.
        XCOPY_CMD_PROBE => unsafe {
            let args = &*cmd.arg.cast::<xcopy_probe_args>();
            result.status = probe(
                ptr::null_mut(),
                cmd.src,
                cmd.dst,
                args.verdicts,
                args.stride,
                args.n,
            );
        },
        // SAFETY: `open` made it.
        XCOPY_CMD_CLOSE => unsafe { close(ptr::null_mut(), cmd.src) },
        _ => {
            // SAFETY: `nranges` ranges, by the contract.
            let sum =
                (0..cmd.nranges as usize).map(|index| unsafe { (*cmd.ranges.add(index)).length });
            assert_eq!(
                sum.sum::<u64>(),
                cmd.bytes,
                "ranges and bytes of a command differ"
            );
        }
    }
    if !matches!(cmd.op, XCOPY_CMD_OPEN | XCOPY_CMD_CLOSE | XCOPY_CMD_PROBE) {
        draw(|input| spoil(&mut result, input));
    }
    result
}

fn spoil(result: &mut xcopy_result, input: &mut Input) {
    if input.one_in(2) {
        return;
    }
    result.status = match input.u8() % 8 {
        0 => input.u32() as i32,
        1 => 0,
        _ => -i32::from(input.u8() % 134),
    };
    result.action = (input.u8() % 6).into();
    result.reason = input.u8().into();
    result.bytes = match input.u8() % 4 {
        0 => input.number(),
        1 => 0,
        2 => result.bytes / 2,
        _ => result.bytes,
    };
    result.detail = input.u64();
    result.flags = input.u8().into();
    if input.one_in(3) {
        result.sense_len = input.u16().into();
        result.sense = if input.one_in(4) {
            ptr::null()
        } else {
            SENSE.as_ptr()
        };
    }
    if input.one_in(4) {
        (result.token_size, result.token_type) = (input.number() as u32, input.u32());
    }
}

pub(super) unsafe extern "C" fn execute(
    _state: *mut c_void,
    command: *mut xcopy_cmd,
    result: *mut xcopy_result,
) -> c_int {
    // SAFETY: the core's command and place for the result.
    unsafe {
        let size_led = carry_out(command);
        *result = size_led;
    }
    draw(|input| {
        if input.one_in(16) {
            input.u32() as i32
        } else {
            0
        }
    })
    .unwrap_or(0)
}
