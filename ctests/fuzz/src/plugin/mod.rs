//! A plugin that answers what the fuzzer's bytes say, in every model. It breaks
//! the contract only in what a core can check: numbers, texts, counts, ids.
//! Pointers are good, and every command is answered once the script is over.

mod command;
mod device;
mod queue;

use crate::input::Input;
use command::execute;
use device::{close, open, probe};
use queue::{cancel, poll, queue_create, queue_destroy, submit};
use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use xcopy::abi::*;

/// The fuzzer's bytes. All threads take from them.
struct Script {
    bytes: Vec<u8>,
    at: usize,
    /// Answer truly and hold nothing from now on.
    over: bool,
}

static SCRIPT: Mutex<Script> = Mutex::new(Script {
    bytes: Vec::new(),
    at: 0,
    over: true,
});
static HOST: AtomicPtr<xcopy_host> = AtomicPtr::new(ptr::null_mut());
static TABLE: AtomicPtr<u64> = AtomicPtr::new(ptr::null_mut());
/// Devices that are open.
pub static DEVICES: AtomicU32 = AtomicU32::new(0);
/// Commands taken and not yet ended.
pub static HELD: AtomicU32 = AtomicU32::new(0);
/// Queues that exist.
pub static QUEUES: AtomicU32 = AtomicU32::new(0);
static DEVICE_PLACE: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Draws from the script; None when it is over.
fn draw<T>(take: impl FnOnce(&mut Input) -> T) -> Option<T> {
    let mut script = lock(&SCRIPT);
    if script.over || script.at >= script.bytes.len() {
        return None;
    }
    let mut input = Input(&script.bytes[script.at..]);
    let value = take(&mut input);
    let left = input.0.len();
    script.at = script.bytes.len() - left;
    Some(value)
}

/// Begins a script.
pub fn begin(bytes: &[u8]) {
    HELD.store(0, Ordering::Release);
    // One that was never closed belongs to a context that is gone.
    DEVICE_PLACE.store(ptr::null_mut(), Ordering::Release);
    *lock(&SCRIPT) = Script {
        bytes: bytes.to_vec(),
        at: 0,
        over: false,
    };
}

/// From now on every answer is true, and what was held ends.
pub fn settle() {
    lock(&SCRIPT).over = true;
}

/// The plugin's model.
pub fn model() -> u32 {
    // SAFETY: written before the context was made.
    unsafe { (*TABLE.load(Ordering::Acquire).cast::<xcopy_plugin>()).model }
}

/// Raises an event of the device opened last, if it is open.
pub fn event(events: u32, size: u64) {
    let (host, device) = (
        HOST.load(Ordering::Acquire),
        DEVICE_PLACE.load(Ordering::Acquire),
    );
    if host.is_null() || device.is_null() {
        return;
    }
    // SAFETY: a core's table; the device is open until `close` clears the place.
    unsafe {
        if let Some(raise) = (*host).device_event {
            raise(device, events, size);
        }
    }
}

struct Names {
    plugin: [u8; 16],
    methods: [[u8; 16]; 3],
    list: [xcopy_plugin_method; 3],
}

/// Fills the table from `input`. Only between contexts. It is never given back:
/// a table is static.
pub fn make_table(input: &mut Input) {
    let table = TABLE.load(Ordering::Acquire);
    let words = size_of::<xcopy_plugin>() / 8;
    let memory = if table.is_null() {
        let memory = Box::leak(vec![0u64; words + 64].into_boxed_slice());
        TABLE.store(memory.as_mut_ptr(), Ordering::Release);
        memory.as_mut_ptr()
    } else {
        table
    };
    static NAMES: AtomicPtr<Names> = AtomicPtr::new(ptr::null_mut());
    if NAMES.load(Ordering::Acquire).is_null() {
        // SAFETY: plain data, for which zeroes are valid.
        let names: Box<Names> = Box::new(unsafe { std::mem::zeroed() });
        NAMES.store(Box::into_raw(names), Ordering::Release);
    }
    // SAFETY: made above and never freed; no context uses it now.
    let names = unsafe { &mut *NAMES.load(Ordering::Acquire) };
    let name = |field: &mut [u8; 16], input: &mut Input, good: &[u8]| {
        *field = [0; 16];
        field[..good.len()].copy_from_slice(good);
        if input.one_in(16) {
            let n = input.below(15);
            let odd = input.bytes(n);
            field[..odd.len()].copy_from_slice(odd);
        }
    };
    name(&mut names.plugin, input, b"fuzzed");
    for (index, method) in names.methods.iter_mut().enumerate() {
        name(
            method,
            input,
            [&b"fuzzed_a"[..], b"fuzzed_b", b"reflink"][index],
        );
        names.list[index] = xcopy_plugin_method {
            name: method.as_ptr().cast(),
            flags: if input.one_in(3) {
                input.u8().into()
            } else {
                XCOPY_METHOD_OFFLOADS
            },
            worth: input.u16().into(),
        };
    }
    let model = 1 + u32::from(input.u8() % 4);
    let maybe = |input: &mut Input| !input.one_in(24);
    let affine = model == XCOPY_MODEL_AFFINE;
    let mut table = xcopy_plugin {
        struct_size: size_of::<xcopy_plugin>() as u32,
        abi_version: XCOPY_ABI_VERSION,
        name: names.plugin.as_ptr().cast(),
        version: c"1".as_ptr(),
        description: c"answers anything".as_ptr(),
        model,
        flags: XCOPY_PLUGIN_NATIVE,
        commands: XCOPY_CAN_COPY
            | XCOPY_CAN_ZERO
            | XCOPY_CAN_FLUSH
            | XCOPY_CAN_READ
            | XCOPY_CAN_WRITE
            | XCOPY_CAN_TOKEN,
        cmd_private: input.u8().into(),
        max_ranges: 1 + u32::from(input.u8() % 20),
        nmethods: 1 + u32::from(input.u8() % 3),
        methods: names.list.as_ptr(),
        method_stride: size_of::<xcopy_plugin_method>(),
        start: Some(start),
        stop: Some(stop),
        open: (!affine && maybe(input)).then_some(open),
        close: (!affine && maybe(input)).then_some(close),
        probe: (!affine && maybe(input)).then_some(probe),
        queue_create: maybe(input).then_some(queue_create),
        queue_destroy: maybe(input).then_some(queue_destroy),
        submit: maybe(input).then_some(submit),
        poll: maybe(input).then_some(poll),
        queue_fd: None,
        arm: None,
        cancel: maybe(input).then_some(cancel),
        execute: maybe(input).then_some(execute),
        describe: None,
    };
    match input.u8() {
        0 => table.struct_size = u32::from(input.u16()) % (words as u32 * 8 + 512),
        1 => table.abi_version = input.u32(),
        2 => table.model = input.u8().into(),
        3 => table.flags = input.u32(),
        4 => table.commands = input.u32(),
        5 => table.cmd_private = input.u32(),
        6 => table.max_ranges = input.u32(),
        7 => table.method_stride = 8 * usize::from(input.u8() % 2),
        8 => table.nmethods = 0,
        9 => (table.version, table.description) = (ptr::null(), ptr::null()),
        _ => table.commands &= u32::from(input.u8()) | XCOPY_CAN_COPY,
    }
    // SAFETY: the memory holds the struct and 512 bytes more.
    unsafe { memory.cast::<xcopy_plugin>().write(table) };
}

/// The plugin's entry point.
pub unsafe extern "C" fn init(host: *const xcopy_host) -> *const xcopy_plugin {
    HOST.store(host.cast_mut(), Ordering::Release);
    TABLE.load(Ordering::Acquire).cast()
}

unsafe extern "C" fn start(_: *mut c_void, state: *mut *mut c_void) -> c_int {
    // SAFETY: the core's place for the state.
    unsafe { *state = ptr::null_mut() };
    match draw(|input| input.one_in(32)) {
        Some(true) => -libc::EIO,
        _ => 0,
    }
}

unsafe extern "C" fn stop(_: *mut c_void) {}
