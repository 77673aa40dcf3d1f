//! The faulty plugin, in all four execution models: `faulty_polled`,
//! `faulty_threaded`, `faulty_blocking`, `faulty_affine`.
//!
//! Each offers two offloading methods, NAME_a before NAME_b, and READ, WRITE,
//! ZERO and FLUSH, over the disks of its script. `blocking`, `polled` and
//! `threaded` hold the queues, `command` what one command does.

mod command;
mod polled;
mod threaded;

use crate::disk::Disk;
use crate::rig::Rig;
use crate::script::{HostDevice, Script};
use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};
use xcopy::abi::guard::guard;
use xcopy::abi::*;

/// Ranges of one command at most.
pub const MAX_RANGES: u32 = 64;
const PANICKED: c_int = -libc::EFAULT;

/// An execution model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// XCOPY_MODEL_POLLED.
    Polled,
    /// XCOPY_MODEL_THREADED.
    Threaded,
    /// XCOPY_MODEL_BLOCKING.
    Blocking,
    /// XCOPY_MODEL_AFFINE.
    Affine,
}

/// All of them.
pub const MODELS: [Model; 4] = [
    Model::Polled,
    Model::Threaded,
    Model::Blocking,
    Model::Affine,
];

impl Model {
    /// The plugin's name.
    pub fn name(self) -> &'static str {
        match self {
            Model::Polled => "faulty_polled",
            Model::Threaded => "faulty_threaded",
            Model::Blocking => "faulty_blocking",
            Model::Affine => "faulty_affine",
        }
    }

    /// The name of a disk of this plugin.
    pub fn disk(self, name: &str) -> String {
        format!("{}:{name}", self.name())
    }

    /// Registers the plugin, which then does as `script` says.
    pub fn register(self, rig: &Rig, script: &Arc<Script>) -> i32 {
        NEXT.with(|next| *next.borrow_mut() = Some(script.clone()));
        rig.register(match self {
            Model::Polled => init_polled,
            Model::Threaded => init_threaded,
            Model::Blocking => init_blocking,
            Model::Affine => init_affine,
        })
    }
}

thread_local! {
    /// The script of the plugin that this thread registers now.
    static NEXT: RefCell<Option<Arc<Script>>> = const { RefCell::new(None) };
}

static HOST: AtomicPtr<xcopy_host> = AtomicPtr::new(ptr::null_mut());

static POLLED_METHODS: [xcopy_plugin_method; 2] = methods(c"faulty_polled_a", c"faulty_polled_b");
static THREADED_METHODS: [xcopy_plugin_method; 2] =
    methods(c"faulty_threaded_a", c"faulty_threaded_b");
static BLOCKING_METHODS: [xcopy_plugin_method; 2] =
    methods(c"faulty_blocking_a", c"faulty_blocking_b");
static AFFINE_METHODS: [xcopy_plugin_method; 2] = methods(c"faulty_affine_a", c"faulty_affine_b");

static POLLED: xcopy_plugin = table(c"faulty_polled", XCOPY_MODEL_POLLED, &POLLED_METHODS);
static THREADED: xcopy_plugin = table(c"faulty_threaded", XCOPY_MODEL_THREADED, &THREADED_METHODS);
static BLOCKING: xcopy_plugin = table(c"faulty_blocking", XCOPY_MODEL_BLOCKING, &BLOCKING_METHODS);
static AFFINE: xcopy_plugin = table(c"faulty_affine", XCOPY_MODEL_AFFINE, &AFFINE_METHODS);

unsafe extern "C" fn init_polled(host: *const xcopy_host) -> *const xcopy_plugin {
    keep(host, &POLLED)
}

unsafe extern "C" fn init_threaded(host: *const xcopy_host) -> *const xcopy_plugin {
    keep(host, &THREADED)
}

unsafe extern "C" fn init_blocking(host: *const xcopy_host) -> *const xcopy_plugin {
    keep(host, &BLOCKING)
}

unsafe extern "C" fn init_affine(host: *const xcopy_host) -> *const xcopy_plugin {
    keep(host, &AFFINE)
}

fn keep(host: *const xcopy_host, table: &'static xcopy_plugin) -> *const xcopy_plugin {
    HOST.store(host.cast_mut(), Ordering::Release);
    table
}

const fn methods(a: &'static CStr, b: &'static CStr) -> [xcopy_plugin_method; 2] {
    [
        xcopy_plugin_method {
            name: a.as_ptr(),
            flags: XCOPY_METHOD_OFFLOADS,
            worth: 940,
        },
        xcopy_plugin_method {
            name: b.as_ptr(),
            flags: XCOPY_METHOD_OFFLOADS,
            worth: 640,
        },
    ]
}

const fn table(
    name: &'static CStr,
    model: u32,
    methods: &'static [xcopy_plugin_method; 2],
) -> xcopy_plugin {
    let mut table = xcopy_plugin {
        struct_size: size_of::<xcopy_plugin>() as u32,
        abi_version: XCOPY_ABI_VERSION,
        name: name.as_ptr(),
        version: c"1".as_ptr(),
        description: c"fails as it is told to".as_ptr(),
        model,
        flags: XCOPY_PLUGIN_NATIVE,
        commands: XCOPY_CAN_COPY
            | XCOPY_CAN_ZERO
            | XCOPY_CAN_FLUSH
            | XCOPY_CAN_READ
            | XCOPY_CAN_WRITE
            | XCOPY_CAN_TOKEN,
        cmd_private: 24,
        max_ranges: MAX_RANGES,
        nmethods: 2,
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
    if model != XCOPY_MODEL_AFFINE {
        table.open = Some(open);
        table.close = Some(close);
        table.probe = Some(probe);
    }
    match model {
        XCOPY_MODEL_POLLED | XCOPY_MODEL_AFFINE => {
            table.queue_create = Some(polled::create);
            table.queue_destroy = Some(polled::destroy);
            table.submit = Some(polled::submit);
            table.poll = Some(polled::poll);
            table.cancel = Some(polled::cancel);
        }
        XCOPY_MODEL_THREADED => {
            table.queue_create = Some(threaded::create);
            table.queue_destroy = Some(threaded::destroy);
            table.submit = Some(threaded::submit);
            table.cancel = Some(threaded::cancel);
        }
        _ => table.execute = Some(command::execute),
    }
    table
}

/// Hands results to the core; `local` on the queue's owner only.
///
/// # Safety
/// `queue` is a host queue that was not destroyed.
unsafe fn end(queue: *mut xcopy_host_queue, results: &[xcopy_result], local: bool) {
    let host = HOST.load(Ordering::Acquire);
    // SAFETY: a core's table, valid for the life of the process; the queue by
    // the caller's word.
    unsafe {
        let complete = if local {
            (*host).complete_local
        } else {
            (*host).complete
        };
        if let Some(complete) = complete {
            let n = results.len() as u32;
            complete(queue, results.as_ptr(), size_of::<xcopy_result>(), n);
        }
    }
}

/// Raises an event of a device, as the plugin would.
pub fn raise(device: HostDevice, events: u32, size: u64) {
    let host = HOST.load(Ordering::Acquire);
    // SAFETY: a core's table; the device is open, by the test's word.
    unsafe {
        if let Some(event) = (*host).device_event {
            event(device.0, events, size);
        }
    }
}

/// The script behind a context's state.
///
/// # Safety
/// `start` made `state`, and `stop` was not called.
unsafe fn script_of<'a>(state: *mut c_void) -> &'a Arc<Script> {
    // SAFETY: the caller's word.
    unsafe { &*state.cast::<Arc<Script>>() }
}

unsafe extern "C" fn start(_host_ctx: *mut c_void, state: *mut *mut c_void) -> c_int {
    let script = NEXT
        .with(|next| next.borrow_mut().take())
        .unwrap_or_default();
    let answer = script.setup().start;
    if answer == 0 {
        // SAFETY: the core's place for the state.
        unsafe { *state = Box::into_raw(Box::new(script)).cast() };
    }
    answer
}

unsafe extern "C" fn stop(state: *mut c_void) {
    if !state.is_null() {
        // SAFETY: `start` made it; stop is the last call with it.
        drop(unsafe { Box::from_raw(state.cast::<Arc<Script>>()) });
    }
}

/// A device that is open.
struct Device {
    disk: Arc<Disk>,
    script: Arc<Script>,
}

unsafe extern "C" fn open(
    state: *mut c_void,
    desc: *const xcopy_device_desc,
    device: *mut *mut c_void,
    props: *mut xcopy_device_props,
) -> c_int {
    guard(PANICKED, || {
        // SAFETY: the core's state, descriptor and places, live during the call.
        let (script, desc, props) = unsafe { (script_of(state), &*desc, &mut *props) };
        let answer = script.setup().open;
        if answer == PANICKED {
            std::panic::resume_unwind(Box::new(()));
        }
        // SAFETY: NUL-terminated by the contract.
        let name = unsafe { CStr::from_ptr(desc.name) }
            .to_string_lossy()
            .into_owned();
        let found = script.disk(&name, HostDevice(desc.host_device));
        let (Some(disk), 0) = (found, answer) else {
            say(&mut props.text, "the script refuses to open it");
            return if answer == 0 { -libc::ENOENT } else { answer };
        };
        props.block_size = disk.block;
        props.size_bytes = disk.bytes().len() as u64;
        props.identity = disk.identity;
        props.max_io_bytes = script.setup().max_io;
        script.open.fetch_add(1, Ordering::AcqRel);
        let opened = Box::new(Device {
            disk,
            script: script.clone(),
        });
        // SAFETY: the core's place for the handle.
        unsafe { *device = Box::into_raw(opened).cast() };
        0
    })
}

unsafe extern "C" fn close(_state: *mut c_void, device: *mut c_void) {
    // SAFETY: `open` made it, and close is the last call with it.
    let device = unsafe { Box::from_raw(device.cast::<Device>()) };
    device.script.open.fetch_sub(1, Ordering::AcqRel);
}

unsafe extern "C" fn probe(
    state: *mut c_void,
    _src: *mut c_void,
    _dst: *mut c_void,
    verdicts: *mut xcopy_verdict,
    stride: usize,
    n: u32,
) -> c_int {
    guard(PANICKED, || {
        // SAFETY: `start` made the state.
        let script = unsafe { script_of(state) };
        script.probes.fetch_add(1, Ordering::AcqRel);
        let setup = script.setup();
        if setup.probe == PANICKED {
            std::panic::resume_unwind(Box::new(()));
        }
        for index in 0..n as usize {
            // SAFETY: n verdicts, stride bytes apart.
            let verdict = unsafe {
                &mut *verdicts
                    .cast::<u8>()
                    .add(stride * index)
                    .cast::<xcopy_verdict>()
            };
            verdict.limits = setup.limits;
            verdict.reason = setup.refuse[index % 2];
            verdict.usable = u32::from(verdict.reason == 0);
            verdict.flags = setup.flags[index % 2];
            verdict.ttl_s = setup.ttl_s;
            if verdict.reason != 0 {
                say(&mut verdict.text, "the script refuses it");
            }
        }
        setup.probe
    })
}

/// Puts a text into a NUL-terminated field.
fn say(field: &mut [c_char], text: &str) {
    for (to, from) in field.iter_mut().zip(text.bytes().chain([0])) {
        *to = from as c_char;
    }
}
