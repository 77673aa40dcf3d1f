//! What one command does, with its fault.

use super::{Device, PANICKED, close, end, open, probe, script_of};
use crate::script::{Failing, Fault, Script};
use std::ffi::{c_int, c_void};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use xcopy::abi::guard::guard;
use xcopy::abi::*;

/// Bytes that sense data stays valid for: until the core's call returns.
pub(super) struct Answer {
    pub results: Vec<xcopy_result>,
    _sense: Vec<u8>,
}

/// Carries a command out and says what to answer.
///
/// # Safety
/// The command flies, and its devices are open.
pub(super) unsafe fn perform(state: *mut c_void, command: &xcopy_cmd, fault: &Fault) -> Answer {
    // SAFETY: the queue's state is the context's.
    let script = unsafe { script_of(state) };
    let good = xcopy_result {
        cookie: command.cookie,
        bytes: command.bytes,
        ..xcopy_result::default()
    };
    let answer = |results| Answer {
        results,
        _sense: Vec::new(),
    };
    if matches!(
        command.op,
        XCOPY_CMD_OPEN | XCOPY_CMD_PROBE | XCOPY_CMD_CLOSE
    ) {
        let status = match fault {
            Fault::Panic => PANICKED,
            Fault::Fail(failing) => -failing.errno,
            // SAFETY: the caller's word.
            _ => unsafe { control(state, command) },
        };
        return answer(vec![xcopy_result { status, ..good }]);
    }
    check_contract(script, command);
    if command.op == XCOPY_CMD_TOKEN_CREATE && !matches!(fault, Fault::Fail(_)) {
        // SAFETY: room for token_size bytes, by the contract.
        unsafe {
            command
                .token
                .write_bytes(7, command.token_size.min(64) as usize)
        };
        return answer(vec![xcopy_result {
            token_size: command.token_size.min(64),
            ..good
        }]);
    }
    let whole = |script: &Script| {
        // SAFETY: the caller's word.
        if !unsafe { carry(command, 0, command.bytes, false) } {
            script.violation(format!("a command leaves its device: op {}", command.op));
        }
    };
    match fault {
        Fault::Lie => answer(vec![good]),
        Fault::Panic => answer(vec![xcopy_result {
            status: PANICKED,
            bytes: 0,
            ..good
        }]),
        // SAFETY: the caller's word.
        Fault::Fail(failing) => unsafe { fail(command, failing, good) },
        _ => {
            whole(script);
            match fault {
                Fault::Claim(bytes) => answer(vec![xcopy_result {
                    bytes: *bytes,
                    ..good
                }]),
                Fault::Status(status) => answer(vec![xcopy_result {
                    status: *status,
                    ..good
                }]),
                Fault::Twice => answer(vec![good, good]),
                Fault::Foreign => answer(vec![xcopy_result { cookie: 77, ..good }]),
                Fault::Cookies => {
                    let foreign = |cookie| xcopy_result { cookie, ..good };
                    answer(vec![
                        foreign(u64::MAX),
                        foreign(command.cookie ^ 1 << 40),
                        foreign(command.cookie & 0xffff_ffff),
                        foreign(command.cookie | 0xffff),
                        good,
                    ])
                }
                _ => answer(vec![good]),
            }
        }
    }
}

/// # Safety
/// As for `perform`.
unsafe fn fail(command: &xcopy_cmd, failing: &Failing, good: xcopy_result) -> Answer {
    let known = failing.known.min(command.bytes);
    let spoilt = failing.spoilt.min(command.bytes - known);
    // SAFETY: the caller's word.
    unsafe {
        carry(command, 0, known, false);
        carry(command, known, spoilt, true);
    }
    let sense = failing.sense.clone();
    let result = xcopy_result {
        status: -failing.errno,
        action: failing.action,
        reason: failing.reason,
        bytes: failing.known,
        detail: failing.detail,
        flags: failing.flags,
        sense_len: sense.len() as u32,
        sense: if sense.is_empty() {
            std::ptr::null()
        } else {
            sense.as_ptr()
        },
        ..good
    };
    Answer {
        results: vec![result],
        _sense: sense,
    }
}

/// What the core promises of every command.
fn check_contract(script: &Script, command: &xcopy_cmd) {
    let wrong = |text: &str| {
        script.violation(format!(
            "{text}: op {} method {} ranges {} bytes {}",
            command.op, command.method, command.nranges, command.bytes
        ));
    };
    if command.op == XCOPY_CMD_FLUSH {
        return;
    }
    if command.op == XCOPY_CMD_TOKEN_RELEASE {
        if command.dst.is_null() || command.token.is_null() || command.nranges != 0 {
            wrong("a release without a device or a token, or with ranges");
        }
        return;
    }
    let ranges = ranges_of(command);
    if ranges.is_empty() || ranges.iter().any(|range| range.length == 0) {
        return wrong("an empty range");
    }
    if ranges.iter().map(|range| range.length).sum::<u64>() != command.bytes {
        wrong("bytes is not the sum of the ranges");
    }
    if matches!(command.op, XCOPY_CMD_READ | XCOPY_CMD_WRITE)
        && (command.buffer.is_null() || !(command.buffer as usize).is_multiple_of(4096))
    {
        wrong("a buffer that is not aligned to 4,096");
    }
    if command.op != XCOPY_CMD_COPY {
        return;
    }
    let limits = script.setup().limits;
    let over = |value: u64, limit: u64| limit != 0 && value > limit;
    if over(command.bytes, limits.max_bytes) {
        wrong("more than max_bytes");
    }
    if command.nranges > limits.max_ranges.max(1) || command.nranges > super::MAX_RANGES {
        wrong("more than max_ranges");
    }
    let off = |value: u64, grain: u32| !value.is_multiple_of(u64::from(grain.max(1)));
    for range in ranges {
        if over(range.length, limits.max_range_bytes) {
            wrong("more than max_range_bytes");
        }
        if off(range.src_offset, limits.src_granularity)
            || off(range.dst_offset, limits.dst_granularity)
            || off(range.length, limits.length_granularity)
        {
            wrong("a range against the granularity");
        }
    }
    let contiguous =
        |pair: &[xcopy_range]| pair[0].dst_offset + pair[0].length == pair[1].dst_offset;
    if limits.contiguous_dst == 1 && !ranges.windows(2).all(contiguous) {
        wrong("a destination in pieces");
    }
}

fn ranges_of(command: &xcopy_cmd) -> &[xcopy_range] {
    if command.ranges.is_null() {
        return &[];
    }
    // SAFETY: nranges of them, stable until the command is completed.
    unsafe { std::slice::from_raw_parts(command.ranges, command.nranges as usize) }
}

/// Does `length` of the command's bytes from `skip` on, or spoils them; false if
/// they leave a disk.
///
/// # Safety
/// As for `perform`.
unsafe fn carry(command: &xcopy_cmd, mut skip: u64, mut length: u64, spoil: bool) -> bool {
    // SAFETY: NULL or devices that `open` made.
    let (src, dst) = unsafe {
        (
            command.src.cast::<Device>().as_ref(),
            command.dst.cast::<Device>().as_ref(),
        )
    };
    let mut at = 0usize;
    for range in ranges_of(command) {
        let skipped = skip.min(range.length);
        let bytes = (range.length - skipped).min(length);
        (skip, length) = (skip - skipped, length - bytes);
        at += skipped as usize;
        if bytes == 0 {
            continue;
        }
        let place = range.dst_offset + skipped;
        let buffer = command.buffer.cast::<u8>();
        let content = match (command.op, src) {
            _ if spoil => Some(vec![0xee; bytes as usize]),
            (XCOPY_CMD_COPY | XCOPY_CMD_READ, Some(src)) => {
                src.disk.read(range.src_offset + skipped, bytes)
            }
            (XCOPY_CMD_ZERO, _) => Some(vec![0; bytes as usize]),
            (XCOPY_CMD_WRITE, _) => {
                // SAFETY: the buffer holds the command's bytes.
                Some(unsafe { std::slice::from_raw_parts(buffer.add(at), bytes as usize).to_vec() })
            }
            _ => None,
        };
        let Some(content) = content else { return false };
        let written = match (command.op, dst) {
            (XCOPY_CMD_READ, _) => {
                // SAFETY: the buffer has room for the command's bytes.
                unsafe {
                    std::ptr::copy_nonoverlapping(content.as_ptr(), buffer.add(at), content.len());
                }
                true
            }
            (_, Some(dst)) => dst.disk.write(place, &content),
            _ => false,
        };
        if !written {
            return false;
        }
        at += bytes as usize;
    }
    true
}

/// OPEN, PROBE and CLOSE of the AFFINE model.
///
/// # Safety
/// As for `perform`.
unsafe fn control(state: *mut c_void, command: &xcopy_cmd) -> c_int {
    // SAFETY: `arg` is what the operation's documentation says.
    unsafe {
        match command.op {
            XCOPY_CMD_OPEN => {
                let args = &mut *command.arg.cast::<xcopy_open_args>();
                open(state, args.desc, &mut args.device, &mut args.props)
            }
            XCOPY_CMD_PROBE => {
                let args = &mut *command.arg.cast::<xcopy_probe_args>();
                probe(
                    state,
                    command.src,
                    command.dst,
                    args.verdicts,
                    args.stride,
                    args.n,
                )
            }
            _ => {
                close(state, command.src);
                0
            }
        }
    }
}

/// A pointer that crosses to another thread.
#[derive(Clone, Copy)]
pub(super) struct Cross<T>(pub *mut T);
// SAFETY: what it points to is only touched by one thread at a time: a command
// belongs to whoever holds it until it is completed.
unsafe impl<T> Send for Cross<T> {}

/// Ends a command on a thread of its own.
///
/// # Safety
/// As for `perform`; the host queue lives until the script's `join`.
pub(super) unsafe fn end_elsewhere(
    state: *mut c_void,
    queue: *mut xcopy_host_queue,
    command: *mut xcopy_cmd,
) {
    // SAFETY: the queue's state is the context's.
    let script: Arc<Script> = unsafe { script_of(state) }.clone();
    let all = (Cross(state), Cross(queue), Cross(command));
    script.add_thread(std::thread::spawn(move || {
        let all = all;
        let (state, queue, command) = (all.0.0, all.1.0, all.2.0);
        std::thread::sleep(Duration::from_millis(1));
        // SAFETY: the caller's word, handed on.
        unsafe {
            let answer = perform(state, &*command, &Fault::None);
            end(queue, &answer.results, false);
        }
    }));
}

/// Table entry of the BLOCKING model.
pub(super) unsafe extern "C" fn execute(
    state: *mut c_void,
    command: *mut xcopy_cmd,
    result: *mut xcopy_result,
) -> c_int {
    guard(PANICKED, || {
        // SAFETY: the context's state, and a command that flies.
        let (script, command) = unsafe { (script_of(state), &*command) };
        let fault = script.fault_of(command);
        match fault {
            Fault::Panic => std::panic::resume_unwind(Box::new(())),
            Fault::Late(ms) => std::thread::sleep(Duration::from_millis(ms)),
            Fault::Lost => {
                script.held.fetch_add(1, Ordering::AcqRel);
                while !script.is_released() {
                    std::thread::sleep(Duration::from_millis(1));
                }
                script.held.fetch_sub(1, Ordering::AcqRel);
            }
            _ => {}
        }
        // SAFETY: a command that flies; the core's place for the result. Sense
        // data outlives the call: it is copied to memory that is never freed.
        unsafe {
            let answer = perform(state, command, &fault);
            let Some(last) = answer.results.last() else {
                return 0;
            };
            *result = *last;
            if last.sense_len > 0 {
                (*result).sense = Box::leak(answer._sense.into_boxed_slice()).as_ptr();
            }
        }
        0
    })
}
