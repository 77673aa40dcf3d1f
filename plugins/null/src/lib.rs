//! The null plugin: it completes every command and moves nothing.
//!
//! Its POLLED form is the instrument that measures the core's empty path, so
//! nothing on that form's submit and poll allocates, locks, reads a clock or
//! enters the kernel. The other three forms run the same commands under the
//! other execution models, for tests.
//!
//! | file | holds |
//! |---|---|
//! | `lib.rs` | the four tables and their entry points |
//! | `device.rs` | `null:SIZE[,key=value...]` devices: open, close, probe |
//! | `command.rs` | what one command does |
//! | `polled.rs` | the queue of the POLLED and AFFINE forms |
//! | `threaded.rs` | the queue of the THREADED form |
//! | `blocking.rs` | `execute` of the BLOCKING form |

mod blocking;
mod command;
mod device;
mod polled;
#[cfg(test)]
mod tests;
mod threaded;

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::offset_of;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use xcopy_abi::guard::guard;
use xcopy_abi::*;

/// Answer of a function that stopped a panic of its own.
const PANICKED: c_int = -libc::EFAULT;
/// Ranges of one command at most.
const MAX_RANGES: u32 = 256;
/// Where the null methods without a number of their own stand: with `null`.
const WORTH: u32 = 950;

static NULL_METHOD: [xcopy_plugin_method; 1] = [method(c"null", 0)];
static THREADED_METHOD: [xcopy_plugin_method; 1] = [method(c"null_threaded", WORTH)];
static BLOCKING_METHOD: [xcopy_plugin_method; 1] = [method(c"null_blocking", WORTH)];
static AFFINE_METHOD: [xcopy_plugin_method; 1] = [method(c"null_affine", WORTH)];

static POLLED: xcopy_plugin = table::<XCOPY_MODEL_POLLED>(
    c"null",
    c"completes every command and moves nothing; ends commands in poll",
    &NULL_METHOD,
);
static THREADED: xcopy_plugin = table::<XCOPY_MODEL_THREADED>(
    c"null_threaded",
    c"completes every command and moves nothing; ends commands on its own thread",
    &THREADED_METHOD,
);
static BLOCKING: xcopy_plugin = table::<XCOPY_MODEL_BLOCKING>(
    c"null_blocking",
    c"completes every command and moves nothing; blocks in execute",
    &BLOCKING_METHOD,
);
static AFFINE: xcopy_plugin = table::<XCOPY_MODEL_AFFINE>(
    c"null_affine",
    c"completes every command and moves nothing; insists on one thread per queue",
    &AFFINE_METHOD,
);

/// Entry point of `null`, the POLLED form.
///
/// # Safety
/// `host` is NULL or a core's table, valid for the life of the process.
pub unsafe extern "C" fn init(host: *const xcopy_host) -> *const xcopy_plugin {
    // SAFETY: the caller's promise on `host`, handed on.
    unsafe { accept(host, &POLLED) }
}

/// Entry point of `null_threaded`.
///
/// # Safety
/// As for [`init`].
pub unsafe extern "C" fn init_threaded(host: *const xcopy_host) -> *const xcopy_plugin {
    // SAFETY: the caller's promise on `host`, handed on.
    unsafe { accept(host, &THREADED) }
}

/// Entry point of `null_blocking`.
///
/// # Safety
/// As for [`init`].
pub unsafe extern "C" fn init_blocking(host: *const xcopy_host) -> *const xcopy_plugin {
    // SAFETY: the caller's promise on `host`, handed on.
    unsafe { accept(host, &BLOCKING) }
}

/// Entry point of `null_affine`.
///
/// # Safety
/// As for [`init`].
pub unsafe extern "C" fn init_affine(host: *const xcopy_host) -> *const xcopy_plugin {
    // SAFETY: the caller's promise on `host`, handed on.
    unsafe { accept(host, &AFFINE) }
}

const fn method(name: &'static CStr, worth: u32) -> xcopy_plugin_method {
    xcopy_plugin_method {
        name: name.as_ptr(),
        flags: XCOPY_METHOD_OFFLOADS,
        worth,
    }
}

const VERSION: *const c_char = concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast();

const fn table<const MODEL: u32>(
    name: &'static CStr,
    description: &'static CStr,
    methods: &'static [xcopy_plugin_method; 1],
) -> xcopy_plugin {
    let mut table = xcopy_plugin {
        struct_size: size_of::<xcopy_plugin>() as u32,
        abi_version: XCOPY_ABI_VERSION,
        name: name.as_ptr(),
        version: VERSION,
        description: description.as_ptr(),
        model: MODEL,
        flags: XCOPY_PLUGIN_NATIVE,
        commands: XCOPY_CAN_COPY
            | XCOPY_CAN_ZERO
            | XCOPY_CAN_FLUSH
            | XCOPY_CAN_READ
            | XCOPY_CAN_WRITE
            | XCOPY_CAN_TOKEN,
        cmd_private: 0,
        max_ranges: MAX_RANGES,
        nmethods: methods.len() as u32,
        methods: methods.as_ptr(),
        method_stride: size_of::<xcopy_plugin_method>(),
        start: Some(start),
        stop: Some(stop),
        open: None,
        close: None,
        probe: None,
        queue_create: None,
        queue_destroy: None,
        submit: None,
        poll: None,
        queue_fd: None,
        arm: None,
        cancel: None,
        execute: None,
        describe: None,
    };
    // An AFFINE plugin gets these three as commands, on its own thread.
    if MODEL != XCOPY_MODEL_AFFINE {
        table.open = Some(device::open::<MODEL>);
        table.close = Some(device::close);
        table.probe = Some(device::probe);
    }
    match MODEL {
        XCOPY_MODEL_POLLED | XCOPY_MODEL_AFFINE => {
            table.queue_create = Some(polled::create);
            table.queue_destroy = Some(polled::destroy::<MODEL>);
            table.submit = Some(polled::submit::<MODEL>);
            table.poll = Some(polled::poll::<MODEL>);
            table.queue_fd = Some(polled::queue_fd);
            table.arm = Some(polled::arm);
        }
        XCOPY_MODEL_THREADED => {
            table.queue_create = Some(threaded::create);
            table.queue_destroy = Some(threaded::destroy);
            table.submit = Some(threaded::submit);
            table.cancel = Some(threaded::cancel);
        }
        _ => table.execute = Some(blocking::execute),
    }
    table
}

/// The core's table, as `init` last got it; one core serves a process.
static HOST: AtomicPtr<xcopy_host> = AtomicPtr::new(ptr::null_mut());

/// Keeps the host if it is one that this plugin can work with.
///
/// # Safety
/// `host` is NULL or valid for the life of the process.
unsafe fn accept(host: *const xcopy_host, table: &'static xcopy_plugin) -> *const xcopy_plugin {
    guard(ptr::null(), || {
        if host.is_null() {
            return ptr::null();
        }
        // A core older than a field has a table that ends before it.
        let needed = offset_of!(xcopy_host, complete_local) + size_of::<usize>();
        // SAFETY: not NULL, so valid; every version's table holds these two.
        let (size, version) = unsafe { ((*host).struct_size, (*host).abi_version) };
        if (size as usize) < needed || version >> 16 != XCOPY_ABI_VERSION >> 16 {
            return ptr::null();
        }
        // SAFETY: valid, and long enough for both fields as just checked.
        let complete = unsafe { (*host).complete.is_some() && (*host).complete_local.is_some() };
        if !complete {
            return ptr::null();
        }
        HOST.store(host.cast_mut(), Ordering::Release);
        ptr::from_ref(table)
    })
}

/// `complete` or `complete_local` of the host.
type Complete = unsafe extern "C" fn(*mut xcopy_host_queue, *const xcopy_result, usize, u32);

/// The host's (complete, complete_local); `None` before any `init`.
fn host_complete() -> Option<(Complete, Complete)> {
    let host = HOST.load(Ordering::Acquire);
    if host.is_null() {
        return None;
    }
    // SAFETY: only `accept` stores there, after it checked that the table is
    // long enough for both fields; it is valid for the life of the process.
    unsafe { Some(((*host).complete?, (*host).complete_local?)) }
}

/// One context's state.
struct State {
    host_ctx: *mut c_void,
}

unsafe extern "C" fn start(host_ctx: *mut c_void, state: *mut *mut c_void) -> c_int {
    guard(PANICKED, || {
        if state.is_null() {
            return -libc::EINVAL;
        }
        // SAFETY: the core's pointer to where the state goes, not NULL.
        unsafe { *state = Box::into_raw(Box::new(State { host_ctx })).cast() };
        0
    })
}

unsafe extern "C" fn stop(state: *mut c_void) {
    guard((), || {
        if !state.is_null() {
            // SAFETY: `start` made it with Box::into_raw, and stop is the last
            // call with it.
            drop(unsafe { Box::from_raw(state.cast::<State>()) });
        }
    })
}

/// Writes an error to the context's log, if the host has one.
///
/// # Safety
/// `state` is NULL or what `start` made.
unsafe fn log_error(state: *const State, message: &CStr) {
    let host = HOST.load(Ordering::Acquire);
    if host.is_null() || state.is_null() {
        return;
    }
    // SAFETY: the table is longer than `log`, as `accept` checked; the state is
    // alive by the caller's promise.
    unsafe {
        if let Some(log) = (*host).log {
            log((*state).host_ctx, XCOPY_LOG_ERROR, message.as_ptr());
        }
    }
}
