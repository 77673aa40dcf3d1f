//! A plugin that answers what the fuzzer's bytes say, in every model. It breaks
//! the contract only in what a core can check: numbers, texts, counts, ids.
//! Pointers are good, and every command is answered once the script is over.

use crate::input::Input;
use std::ffi::{c_char, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
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

/* ------------------------------------------------------------------- table */

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

/* ----------------------------------------------------------------- devices */

/// Text, not always with an end.
fn text(field: &mut [c_char], input: &mut Input) {
    match input.u8() % 8 {
        0 => field.fill(input.u8() as c_char),
        1 => {
            let n = input.below(20);
            for (to, from) in field.iter_mut().zip(input.bytes(n)) {
                *to = *from as c_char;
            }
        }
        _ => {}
    }
}

unsafe extern "C" fn open(
    _state: *mut c_void,
    desc: *const xcopy_device_desc,
    device: *mut *mut c_void,
    props: *mut xcopy_device_props,
) -> c_int {
    // SAFETY: the core's descriptor and places, live during the call.
    let (desc, props) = unsafe { (&*desc, &mut *props) };
    (props.block_size, props.size_bytes) = (512, 1 << 20);
    let status = draw(|input| {
        if input.one_in(4) {
            props.block_size = input.number() as u32;
            props.size_bytes = input.number();
            props.preferred_io_bytes = input.number();
            props.max_io_bytes = input.number();
            props.identity = input.u8().into();
            props.identity_offset = input.number();
            props.read_only = input.u8() as u32 % 3;
            text(&mut props.text, input);
        }
        match input.u8() {
            0 => -i32::from(input.u8()),
            1 => input.u32() as i32,
            _ => 0,
        }
    });
    let status = status.unwrap_or(0);
    if status == 0 {
        DEVICE_PLACE.store(desc.host_device, Ordering::Release);
        DEVICES.fetch_add(1, Ordering::AcqRel);
        // SAFETY: the core's place for the handle.
        unsafe { *device = Box::into_raw(Box::new(desc.host_device)).cast() };
    }
    status
}

unsafe extern "C" fn close(_state: *mut c_void, device: *mut c_void) {
    // SAFETY: `open` made it, and close is the last call with it.
    let place = unsafe { Box::from_raw(device.cast::<*mut c_void>()) };
    let _ =
        DEVICE_PLACE.compare_exchange(*place, ptr::null_mut(), Ordering::AcqRel, Ordering::Relaxed);
    DEVICES.fetch_sub(1, Ordering::AcqRel);
}

unsafe extern "C" fn probe(
    _state: *mut c_void,
    _src: *mut c_void,
    _dst: *mut c_void,
    verdicts: *mut xcopy_verdict,
    stride: usize,
    n: u32,
) -> c_int {
    for index in 0..n as usize {
        // SAFETY: n verdicts, stride bytes apart, by the contract.
        let verdict = unsafe {
            &mut *verdicts
                .cast::<u8>()
                .add(stride * index)
                .cast::<xcopy_verdict>()
        };
        verdict.usable = 1;
        draw(|input| {
            if input.one_in(2) {
                return;
            }
            verdict.usable = input.u8() as u32 % 3;
            verdict.reason = input.u8().into();
            verdict.ttl_s = input.u8() as u16 % 2;
            verdict.limits = xcopy_limits {
                preferred_bytes: input.number(),
                max_bytes: input.number(),
                max_range_bytes: input.number(),
                src_granularity: input.number() as u32,
                dst_granularity: input.number() as u32,
                length_granularity: input.number() as u32,
                max_ranges: input.number() as u32,
                max_concurrent: input.u8().into(),
                contiguous_dst: input.u8() as u32 % 3,
            };
            verdict.bytes_per_us = input.u16().into();
            verdict.flags = if input.one_in(8) { input.u32() } else { 0 };
            text(&mut verdict.text, input);
        });
    }
    draw(|input| {
        if input.one_in(16) {
            -i32::from(input.u8())
        } else {
            0
        }
    })
    .unwrap_or(0)
}

/* ---------------------------------------------------------------- commands */

const SENSE: [u8; XCOPY_SENSE_MAX] = [0x70; XCOPY_SENSE_MAX];

/// What is done and answered for a command.
///
/// # Safety
/// `command` is the core's, not ended yet.
unsafe fn carry_out(command: *mut xcopy_cmd) -> xcopy_result {
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

unsafe extern "C" fn execute(
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

/* ------------------------------------------------------------------ queues */

struct Held(Vec<*mut xcopy_cmd>);
// SAFETY: commands are stable until they are ended, and ended once.
unsafe impl Send for Held {}

struct Queue {
    host: *mut xcopy_host_queue,
    held: Mutex<(Held, bool)>,
    wake: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}
// SAFETY: the host queue may be completed to from any thread.
unsafe impl Send for Queue {}
// SAFETY: as above; the rest is behind locks.
unsafe impl Sync for Queue {}

impl Queue {
    /// Ends what the script says, or all when it is over.
    fn advance(&self, local: bool) {
        let held = std::mem::take(&mut lock(&self.held).0.0);
        let mut kept = Vec::new();
        for command in held {
            if draw(|input| input.one_in(4)).unwrap_or(false) {
                kept.push(command);
                continue;
            }
            // SAFETY: held, so not ended yet.
            let result = unsafe { carry_out(command) };
            self.end(&result, local);
        }
        lock(&self.held).0.0.extend(kept);
    }

    fn end(&self, result: &xcopy_result, local: bool) {
        let (mut list, mut n) = (vec![*result], 1);
        draw(|input| match input.u8() % 16 {
            0 => list.push(*result),
            1 => {
                let mut stranger = *result;
                stranger.cookie = match input.u8() % 3 {
                    0 => input.u64(),
                    1 => stranger.cookie ^ 1 << input.below(64),
                    _ => 0,
                };
                list.insert(0, stranger);
            }
            2 => n = 0,
            _ => {}
        });
        if n == 0 {
            // An answer of no results first.
            self.call(&[], local);
        }
        self.call(&list, local);
    }

    fn call(&self, results: &[xcopy_result], local: bool) {
        let host = HOST.load(Ordering::Acquire);
        // SAFETY: a core's table, valid for the life of the process; the host
        // queue is valid until queue_destroy.
        unsafe {
            let complete = if local {
                (*host).complete_local
            } else {
                (*host).complete
            };
            if let Some(complete) = complete {
                complete(
                    self.host,
                    results.as_ptr(),
                    size_of::<xcopy_result>(),
                    results.len() as u32,
                );
            }
        }
    }

    fn serve(&self) {
        let mut held = lock(&self.held);
        loop {
            while held.0.0.is_empty() && !held.1 {
                held = self.wake.wait(held).unwrap_or_else(PoisonError::into_inner);
            }
            if held.1 {
                return;
            }
            drop(held);
            self.advance(false);
            std::thread::yield_now();
            held = lock(&self.held);
        }
    }
}

fn threaded() -> bool {
    model() == XCOPY_MODEL_THREADED
}

unsafe extern "C" fn queue_create(
    _state: *mut c_void,
    host: *mut xcopy_host_queue,
    _options: *const xcopy_plugin_queue_options,
    queue: *mut *mut c_void,
) -> c_int {
    let status = draw(|input| {
        if input.one_in(16) {
            -i32::from(input.u8())
        } else {
            0
        }
    });
    if let Some(status) = status.filter(|status| *status != 0) {
        return status;
    }
    let made = Arc::new(Queue {
        host,
        held: Mutex::new((Held(Vec::new()), false)),
        wake: Condvar::new(),
        thread: Mutex::new(None),
    });
    if threaded() {
        let served = made.clone();
        *lock(&made.thread) = Some(std::thread::spawn(move || served.serve()));
    }
    QUEUES.fetch_add(1, Ordering::AcqRel);
    // SAFETY: the core's place for the handle.
    unsafe { *queue = Arc::into_raw(made).cast_mut().cast() };
    0
}

unsafe extern "C" fn queue_destroy(queue: *mut c_void) {
    // SAFETY: `queue_create` made it; this is the last call with it.
    let queue = unsafe { Arc::from_raw(queue.cast::<Queue>()) };
    lock(&queue.held).1 = true;
    queue.wake.notify_all();
    if let Some(thread) = lock(&queue.thread).take() {
        thread.join().expect("the plugin's thread");
    }
    QUEUES.fetch_sub(1, Ordering::AcqRel);
}

unsafe extern "C" fn submit(queue: *mut c_void, commands: *const *mut xcopy_cmd, n: u32) -> c_int {
    // SAFETY: `queue_create` made it.
    let queue = unsafe { &*queue.cast::<Queue>() };
    let (taken, answer) = draw(|input| match input.u8() % 32 {
        0 => (0, -i32::from(input.u8() % 134)),
        1 => (input.u32() % (n + 1), -1),
        2 => (n, n.wrapping_add(input.u8().into()) as i32),
        3 => (0, 0),
        _ => (n, n as i32),
    })
    .unwrap_or((n, n as i32));
    // Where it takes a part, it says so.
    let answer = if answer == -1 && taken > 0 {
        taken as i32
    } else {
        answer
    };
    if answer > 0 {
        // SAFETY: n commands, by the contract.
        let given = (0..taken as usize).map(|index| unsafe { *commands.add(index) });
        lock(&queue.held).0.0.extend(given);
        queue.wake.notify_all();
        if !threaded() && draw(|input| input.one_in(4)).unwrap_or(false) {
            queue.advance(true);
        }
    }
    answer
}

unsafe extern "C" fn poll(queue: *mut c_void, _max: u32) -> c_int {
    if queue.is_null() {
        // BLOCKING has no queue.
        return 0;
    }
    // SAFETY: `queue_create` made it.
    let queue = unsafe { &*queue.cast::<Queue>() };
    if !threaded() {
        queue.advance(true);
    }
    draw(|input| {
        if input.one_in(8) {
            input.u32() as i32
        } else {
            0
        }
    })
    .unwrap_or(0)
}

unsafe extern "C" fn cancel(_queue: *mut c_void, _command: *mut xcopy_cmd) -> c_int {
    draw(|input| input.u8()).map_or(0, |value| -i32::from(value % 40))
}
