//! A THREADED plugin whose thread spins, so that the lane is measured and not
//! the kernel's wake-ups. Commands go to the thread through a ring of pointers.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};
use std::thread::JoinHandle;
use xcopy_abi::*;

/// The plugin's name.
pub const NAME: &str = "bench_spin";
/// Places of the ring: at least a queue's window.
const PLACES: usize = 65_536;
/// Commands that are ended with one call at most.
const BATCH: usize = 32;

/// Keeps what one side writes off the other side's lines.
#[repr(align(128))]
struct Apart<T>(T);

struct Ring {
    places: Box<[AtomicPtr<xcopy_cmd>]>,
    /// Commands put in; the owner writes.
    put: Apart<AtomicU32>,
    stop: AtomicBool,
    complete: unsafe extern "C" fn(*mut xcopy_host_queue, *const xcopy_result, usize, u32),
    host_queue: AtomicPtr<xcopy_host_queue>,
}

struct Queue {
    ring: Arc<Ring>,
    worker: Option<JoinHandle<()>>,
}

static HOST: AtomicPtr<xcopy_host> = AtomicPtr::new(ptr::null_mut());

static METHODS: [xcopy_plugin_method; 1] = [xcopy_plugin_method {
    name: c"bench_spin".as_ptr(),
    flags: XCOPY_METHOD_OFFLOADS,
    worth: 950,
}];

static TABLE: xcopy_plugin = xcopy_plugin {
    struct_size: size_of::<xcopy_plugin>() as u32,
    abi_version: XCOPY_ABI_VERSION,
    name: c"bench_spin".as_ptr(),
    version: c"0".as_ptr(),
    description: c"completes every command on a thread that spins".as_ptr(),
    model: XCOPY_MODEL_THREADED,
    flags: XCOPY_PLUGIN_NATIVE,
    commands: XCOPY_CAN_COPY,
    cmd_private: 0,
    max_ranges: 1,
    nmethods: 1,
    methods: METHODS.as_ptr(),
    method_stride: size_of::<xcopy_plugin_method>(),
    start: Some(start),
    stop: Some(stop),
    open: Some(open),
    close: Some(close),
    probe: Some(probe),
    queue_create: Some(create),
    queue_destroy: Some(destroy),
    submit: Some(submit),
    poll: None,
    queue_fd: None,
    arm: None,
    cancel: None,
    execute: None,
    describe: None,
};

/// Entry point.
///
/// # Safety
/// `host` is a core's table, valid for the life of the process.
pub unsafe extern "C" fn init(host: *const xcopy_host) -> *const xcopy_plugin {
    HOST.store(host.cast_mut(), Ordering::Release);
    &TABLE
}

unsafe extern "C" fn start(_host_ctx: *mut c_void, _state: *mut *mut c_void) -> c_int {
    0
}

unsafe extern "C" fn stop(_state: *mut c_void) {}

unsafe extern "C" fn open(
    _state: *mut c_void,
    _desc: *const xcopy_device_desc,
    device: *mut *mut c_void,
    props: *mut xcopy_device_props,
) -> c_int {
    // SAFETY: the core's places, valid during the call. A device is no more
    // than a pointer that is not NULL.
    unsafe {
        *device = ptr::without_provenance_mut(8);
        (*props).block_size = 512;
        (*props).size_bytes = 1 << 30;
    }
    0
}

unsafe extern "C" fn close(_state: *mut c_void, _device: *mut c_void) {}

unsafe extern "C" fn probe(
    _state: *mut c_void,
    _src: *mut c_void,
    _dst: *mut c_void,
    verdicts: *mut xcopy_verdict,
    _stride: usize,
    n: u32,
) -> c_int {
    if n == 0 {
        return -libc::EINVAL;
    }
    // SAFETY: the core's `n` verdicts, valid during the call.
    let verdict = unsafe { &mut *verdicts };
    verdict.usable = 1;
    verdict.limits = xcopy_limits {
        src_granularity: 512,
        dst_granularity: 512,
        length_granularity: 512,
        max_ranges: 1,
        ..xcopy_limits::default()
    };
    0
}

unsafe extern "C" fn create(
    _state: *mut c_void,
    host_queue: *mut xcopy_host_queue,
    _options: *const xcopy_plugin_queue_options,
    queue: *mut *mut c_void,
) -> c_int {
    // SAFETY: the table that `init` got, valid for the life of the process.
    let Some(complete) =
        (unsafe { HOST.load(Ordering::Acquire).as_ref() }).and_then(|host| host.complete)
    else {
        return -libc::EINVAL;
    };
    let ring = Arc::new(Ring {
        places: (0..PLACES)
            .map(|_| AtomicPtr::new(ptr::null_mut()))
            .collect(),
        put: Apart(AtomicU32::new(0)),
        stop: AtomicBool::new(false),
        complete,
        host_queue: AtomicPtr::new(host_queue),
    });
    let shared = ring.clone();
    let Ok(worker) = std::thread::Builder::new().spawn(move || shared.run()) else {
        return -libc::EAGAIN;
    };
    let made = Box::new(Queue {
        ring,
        worker: Some(worker),
    });
    // SAFETY: the core's place for the queue.
    unsafe { *queue = Box::into_raw(made).cast() };
    0
}

unsafe extern "C" fn destroy(queue: *mut c_void) {
    // SAFETY: `create` made it, and this is the last call with it.
    let mut queue = unsafe { Box::from_raw(queue.cast::<Queue>()) };
    queue.ring.stop.store(true, Ordering::Relaxed);
    if let Some(worker) = queue.worker.take() {
        let _ = worker.join();
    }
}

unsafe extern "C" fn submit(queue: *mut c_void, commands: *const *mut xcopy_cmd, n: u32) -> c_int {
    // SAFETY: `create` made it; `commands` holds n pointers. At most a window
    // of commands is in flight, so the ring has room for all.
    unsafe {
        let ring = &(*queue.cast::<Queue>()).ring;
        let put = ring.put.0.load(Ordering::Relaxed);
        for k in 0..n {
            let place = &ring.places[(put.wrapping_add(k)) as usize % PLACES];
            place.store(*commands.add(k as usize), Ordering::Relaxed);
        }
        ring.put.0.store(put.wrapping_add(n), Ordering::Release);
    }
    n as c_int
}

impl Ring {
    fn run(&self) {
        let mut answers = [xcopy_result::default(); BATCH];
        let mut taken = 0u32;
        let mut idle = 0u32;
        while !self.stop.load(Ordering::Relaxed) {
            let put = self.put.0.load(Ordering::Acquire);
            let n = (put.wrapping_sub(taken) as usize).min(BATCH);
            if n == 0 {
                // Other cases of the run must not compete with this thread.
                idle = idle.saturating_add(1);
                if idle > 1 << 20 {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                } else {
                    std::hint::spin_loop();
                }
                continue;
            }
            idle = 0;
            for (k, answer) in answers[..n].iter_mut().enumerate() {
                let place = &self.places[taken.wrapping_add(k as u32) as usize % PLACES];
                // SAFETY: published by `submit`, valid until completed below.
                let command = unsafe { &*place.load(Ordering::Relaxed) };
                answer.cookie = command.cookie;
                answer.bytes = command.bytes;
            }
            taken = taken.wrapping_add(n as u32);
            // SAFETY: the host queue is valid until `destroy`, which joins this
            // thread first; the answers live during the call.
            unsafe {
                (self.complete)(
                    self.host_queue.load(Ordering::Relaxed),
                    answers.as_ptr(),
                    size_of::<xcopy_result>(),
                    n as u32,
                );
            }
        }
    }
}
