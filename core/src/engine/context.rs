//! The context: options, plugins, devices, tokens, the pool, and what is known
//! of pairs. Shared by all queues and threads.

use super::barrier::register_membarrier;
use super::devices::Device;
use super::fork::ForkGuard;
use super::gate::Gate;
use super::line::Lines;
use super::memory::PairMemory;
use super::pool::{Pool, ThreadHook};
use super::route::{Route, RouteMethod};
use super::services;
use super::shared::QueueShared;
use super::table::Table;
use super::tokens::{KIND_TOKEN, Token};
use crate::error::{Error, Result};
use crate::host::Buffers;
use crate::plugin::Registry;
use std::collections::HashMap;
use std::ffi::{CString, c_char, c_void};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use xcopy_abi::*;

/// Default number of pool threads.
const POOL_THREADS: u32 = 8;
/// Default budget of bounce buffers.
const MEMORY_BUDGET: u64 = 128 << 20;
/// Default rest of a failed method: Windows marks a failed pair for 3 minutes.
const RETRY_AFTER_S: u32 = 180;
/// Least budget of bounce buffers (xcopy_context_options): less would be slow.
const MEMORY_LEAST: u64 = 64 << 10;
/// Bytes of one bounce buffer; less where the budget is.
pub const BUFFER_BYTES: usize = 1 << 20;

/// The options that a context has when none are given.
pub fn default_options() -> xcopy_context_options {
    xcopy_context_options {
        size: size_of::<xcopy_context_options>() as u32,
        flags: 0,
        pool_threads: POOL_THREADS,
        log_level: XCOPY_LOG_WARNING,
        log: None,
        log_ctx: std::ptr::null_mut(),
        alloc: None,
        free: None,
        alloc_ctx: std::ptr::null_mut(),
        thread_start: None,
        thread_ctx: std::ptr::null_mut(),
        memory_budget: MEMORY_BUDGET,
        methods: 0,
        retry_after_s: RETRY_AFTER_S,
    }
}

/// Handles of source and destination.
pub(super) type PairKey = (u32, u32);

/// A context.
pub struct Context {
    options: xcopy_context_options,
    fork: ForkGuard,
    /// Loaded and registered plugins.
    pub registry: Registry,
    /// Open devices.
    pub devices: Table<Device>,
    /// Tokens.
    pub tokens: Table<Token>,
    /// What blocks runs here.
    pub pool: Pool,
    /// Bounce buffers.
    pub buffers: Buffers,
    /// What was learnt of pairs.
    pub memory: PairMemory,
    /// What waits before targets that take so many commands at once.
    pub lines: Lines,
    pub(super) routes: Mutex<HashMap<PairKey, Arc<Route>>>,
    pub(super) affine: Mutex<HashMap<PairKey, Vec<RouteMethod>>>,
    /// Advanced when queues have to look at their routes again.
    pub epoch: AtomicU32,
    queues: Mutex<Vec<Weak<QueueShared>>>,
    /// The log was told that there is no io_uring.
    pub ring_refused: AtomicBool,
    /// Before the caller's functions.
    pub gate: Gate,
    /// A plugin was left behind with what it may still use.
    left_behind: AtomicBool,
}

// SAFETY: the raw pointers in the options are the caller's, handed back to the
// caller's functions, which are documented to be called on any thread.
unsafe impl Send for Context {}
// SAFETY: as above; everything else is behind locks or atomics.
unsafe impl Sync for Context {}

static CONTEXTS: AtomicU32 = AtomicU32::new(0);

impl Context {
    /// A context with these options, already checked for size.
    pub fn new(options: xcopy_context_options) -> Result<Arc<Context>> {
        if options.flags != 0 {
            return Err(Error::new(libc::EINVAL, "context flags must be 0"));
        }
        if options.alloc.is_some() != options.free.is_some() {
            return Err(Error::new(
                libc::EINVAL,
                "give both alloc and free, or neither",
            ));
        }
        if options.pool_threads > 1024 {
            return Err(Error::new(libc::EINVAL, "pool_threads: 1,024 at most"));
        }
        if options.memory_budget < MEMORY_LEAST {
            return Err(Error::new(
                libc::EINVAL,
                format!("memory_budget: {MEMORY_LEAST} bytes at least"),
            ));
        }
        let never = !(crate::plugin::fixed_mask() | u32::MAX << XCOPY_METHOD_DYNAMIC);
        if options.methods & never != 0 {
            return Err(Error::new(
                libc::EINVAL,
                format!(
                    "bits {:#x} of methods stand for no method",
                    options.methods & never
                ),
            ));
        }
        register_membarrier()?;
        let seed = CONTEXTS.fetch_add(1, Ordering::Relaxed).wrapping_mul(2654);
        let hook = ThreadHook {
            hook: options.thread_start,
            ctx: options.thread_ctx,
        };
        Ok(Arc::new(Context {
            fork: ForkGuard::new()?,
            registry: Registry::new(),
            devices: Table::devices(seed),
            tokens: Table::new(KIND_TOKEN, seed),
            pool: Pool::new(options.pool_threads, hook),
            buffers: Buffers::new(
                options.alloc,
                options.free,
                options.alloc_ctx,
                BUFFER_BYTES,
                options.memory_budget,
            ),
            memory: PairMemory::default(),
            lines: Lines::default(),
            routes: Mutex::default(),
            affine: Mutex::default(),
            epoch: AtomicU32::new(1),
            queues: Mutex::default(),
            ring_refused: AtomicBool::new(false),
            gate: Gate::default(),
            left_behind: AtomicBool::new(false),
            options,
        }))
    }

    /// Refuses every use in a forked child.
    #[inline]
    pub fn check_process(&self) -> Result<()> {
        if self.fork.forked() {
            return Err(forked());
        }
        Ok(())
    }

    /// Methods that the context allows, as a mask.
    #[inline]
    pub fn allowed(&self) -> u32 {
        if self.options.methods == 0 {
            u32::MAX
        } else {
            self.options.methods
        }
    }

    /// Nanoseconds for which a failed method rests.
    pub fn retry_after_ns(&self) -> u64 {
        u64::from(self.options.retry_after_s) * 1_000_000_000
    }

    /// The allocator that plugins reach through the host table.
    pub fn allocator(&self) -> (xcopy_alloc_fn, xcopy_free_fn, *mut c_void) {
        (
            self.options.alloc,
            self.options.free,
            self.options.alloc_ctx,
        )
    }

    /// Logs a message.
    pub fn log(&self, level: u32, message: &str) {
        if level <= self.options.log_level && self.options.log.is_some() {
            let text = CString::new(message.replace('\0', " ")).unwrap_or_default();
            // SAFETY: a CString of our own.
            unsafe { self.log_raw(level, text.as_ptr()) };
        }
    }

    /// Logs a C string.
    ///
    /// # Safety
    /// `message` is NUL-terminated and outlives the call.
    pub unsafe fn log_raw(&self, level: u32, message: *const c_char) {
        if level > self.options.log_level {
            return;
        }
        if let Some(log) = self.options.log {
            // SAFETY: the context's owner gave the function for this; the message by
            // the caller's word.
            self.gate
                .pass(|| unsafe { log(self.options.log_ctx, level, message) });
        }
    }

    /// The `host_ctx` that plugins are started with.
    fn host_ctx(self: &Arc<Self>) -> *mut c_void {
        Arc::as_ptr(self).cast_mut().cast()
    }

    /// Loads one plugin by name or path.
    pub fn load_plugin(self: &Arc<Self>, name_or_path: &str) -> Result<()> {
        self.registry
            .load(name_or_path, &services::HOST, self.host_ctx())?;
        self.new_epoch();
        Ok(())
    }

    /// Loads all plugins of a directory; answers how many.
    pub fn load_plugins(self: &Arc<Self>, directory: Option<&std::path::Path>) -> Result<u32> {
        let (loaded, failures) =
            self.registry
                .load_all(directory, &services::HOST, self.host_ctx())?;
        for (path, error) in &failures {
            self.log(XCOPY_LOG_WARNING, &format!("{}: {error}", path.display()));
        }
        self.new_epoch();
        Ok(loaded)
    }

    /// Registers a plugin that is linked in.
    pub fn register_plugin(self: &Arc<Self>, init: xcopy_plugin_init_fn) -> Result<()> {
        self.registry
            .register(init, &services::HOST, self.host_ctx())?;
        self.new_epoch();
        Ok(())
    }

    /// Adds a queue.
    pub fn add_queue(&self, queue: &Arc<QueueShared>) {
        let mut queues = self.queues.lock().unwrap_or_else(|e| e.into_inner());
        queues.retain(|q| q.strong_count() > 0);
        queues.push(Arc::downgrade(queue));
    }

    /// Removes a queue.
    pub fn remove_queue(&self, queue: &Arc<QueueShared>) {
        let mut queues = self.queues.lock().unwrap_or_else(|e| e.into_inner());
        queues.retain(|q| q.strong_count() > 0 && q.as_ptr() != Arc::as_ptr(queue));
    }

    /// All queues.
    pub fn queues(&self) -> Vec<Arc<QueueShared>> {
        let queues = self.queues.lock().unwrap_or_else(|e| e.into_inner());
        queues.iter().filter_map(Weak::upgrade).collect()
    }

    /// A plugin keeps commands of a queue that was destroyed by force: the context
    /// stays for it when it is freed.
    pub fn leave_behind(&self) {
        self.left_behind.store(true, Ordering::Relaxed);
    }

    /// Closes what is open and ends the pool. Fails while a queue lives. What hangs
    /// in a plugin keeps what it may still use, for ever; the caller's functions
    /// are not called any more.
    pub fn shut_down(self: &Arc<Self>) -> Result<()> {
        if !self.queues().is_empty() {
            return Err(Error::new(
                libc::EBUSY,
                "destroy the context's queues first",
            ));
        }
        // First: what still runs there may use a device.
        let hanging = self.pool.shut_down();
        for device in self.devices.all() {
            device.kill();
            if hanging > 0 {
                device.hold_for_ever();
            }
            if device.is_held() {
                // Its fd and handles must outlive the context.
                std::mem::forget(device.clone());
            }
            device.release();
        }
        if hanging > 0 {
            self.log(
                XCOPY_LOG_WARNING,
                &format!(
                    "{hanging} threads of the pool hang in a plugin or in the kernel: they, the \
                     plugins and the open devices are left behind"
                ),
            );
        }
        if hanging > 0 || self.left_behind.load(Ordering::Relaxed) {
            for token in self.tokens.all() {
                self.tokens.remove(token.handle);
            }
            self.gate.shut();
            self.buffers.close();
            std::mem::forget(self.clone());
        }
        Ok(())
    }
}

/// The answer to every call in a forked child.
#[cold]
pub fn forked() -> Error {
    Error::new(
        libc::ECHILD,
        "this process was forked from the one that made the context: make a new one here",
    )
}
