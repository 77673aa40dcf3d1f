//! The context: options, plugins, devices, tokens, the pool, and what is known
//! of pairs. Shared by all queues and threads.

use super::devices::{Device, Origin, PluginHandle, Table, changed};
use super::fork::ForkGuard;
use super::gate::Gate;
use super::memory::PairMemory;
use super::pool::{Pool, ThreadHook};
use super::route::{self, Route, RouteMethod};
use super::services;
use super::shared::QueueShared;
use super::tokens::{KIND_TOKEN, Token};
use crate::device::KernelDevice;
use crate::error::{Error, Result};
use crate::host::Buffers;
use crate::plugin::Registry;
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_void};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use xcopy_abi::*;

/// Default number of pool threads.
const POOL_THREADS: u32 = 8;
/// Default budget of bounce buffers.
const MEMORY_BUDGET: u64 = 128 << 20;
/// Default rest of a failed method: Windows marks a failed pair for 3 minutes.
const RETRY_AFTER_S: u32 = 180;
/// Bytes of one bounce buffer.
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

type PairKey = (u32, u32);

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
    routes: Mutex<HashMap<PairKey, Arc<Route>>>,
    affine: Mutex<HashMap<PairKey, Vec<RouteMethod>>>,
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

    /// Opens a path, or `name:spec` of a registered plugin.
    pub fn open(self: &Arc<Self>, name: &CStr, flags: u32) -> Result<Arc<Device>> {
        check_open_flags(flags)?;
        let bytes = name.to_bytes();
        if bytes.is_empty() {
            return Err(Error::new(libc::ENOENT, "the path is empty"));
        }
        if let Some(colon) = bytes.iter().position(|b| *b == b':')
            && let Ok(plugin) = std::str::from_utf8(&bytes[..colon])
            && let Some(plugin) = self.registry.by_name(plugin)
            && plugin.table().flags & XCOPY_PLUGIN_NATIVE != 0
        {
            let spec = CString::new(&bytes[colon + 1..]).unwrap_or_default();
            let native = PluginHandle(std::ptr::null_mut());
            return self.add_native(plugin, name.to_owned(), spec, native, flags);
        }
        let kernel = KernelDevice::open(name, flags)?;
        self.add_kernel(kernel, name.to_owned(), flags)
    }

    /// Borrows a caller's fd.
    pub fn open_fd(self: &Arc<Self>, fd: i32, flags: u32) -> Result<Arc<Device>> {
        check_open_flags(flags)?;
        let kernel = KernelDevice::from_fd(fd, flags)?;
        self.add_kernel(kernel, CString::default(), flags)
    }

    /// Hands a caller's own handle to its plugin.
    pub fn open_native(
        self: &Arc<Self>,
        plugin: &str,
        native: *mut c_void,
        flags: u32,
    ) -> Result<Arc<Device>> {
        check_open_flags(flags)?;
        let plugin = self.registry.by_name(plugin).ok_or_else(|| {
            Error::new(
                libc::ENOENT,
                format!("no plugin {plugin} is registered: load it first"),
            )
        })?;
        if plugin.table().flags & XCOPY_PLUGIN_NATIVE == 0 {
            return Err(Error::new(
                libc::ENOTSUP,
                format!("plugin {} takes no native handles", plugin.name()),
            ));
        }
        self.add_native(
            plugin,
            CString::default(),
            CString::default(),
            PluginHandle(native),
            flags,
        )
    }

    fn add_kernel(&self, kernel: KernelDevice, name: CString, flags: u32) -> Result<Arc<Device>> {
        self.devices.insert(|handle| {
            Ok(Device::new(
                handle,
                flags,
                name,
                Origin::Kernel(Box::new(kernel)),
            ))
        })
    }

    fn add_native(
        &self,
        plugin: Arc<crate::plugin::Plugin>,
        name: CString,
        spec: CString,
        native: PluginHandle,
        flags: u32,
    ) -> Result<Arc<Device>> {
        let index = self.plugin_index(&plugin);
        let affine = plugin.model() == XCOPY_MODEL_AFFINE;
        let origin = Origin::Native {
            plugin: plugin.clone(),
            spec,
            native,
        };
        let device = self
            .devices
            .insert(|handle| Ok(Device::new(handle, flags, name, origin)))?;
        if affine {
            return Ok(device);
        }
        let attachment = device.attach(&plugin)?;
        let refusal = match &attachment.handle {
            Err((_, text)) => Some(Error::new(
                libc::EINVAL,
                format!("{}: {text}", plugin.name()),
            )),
            Ok(_) if attachment.props.read_only == 1 && flags & XCOPY_OPEN_WRITE != 0 => {
                Some(Error::new(libc::EROFS, "the device is read-only"))
            }
            Ok(_) => None,
        };
        if let Some(error) = refusal {
            self.devices.remove(device.handle);
            device.kill();
            device.release();
            return Err(error);
        }
        device.adopt_props(index, &attachment.props);
        Ok(device)
    }

    /// A number for a plugin, for identities.
    pub fn plugin_index(&self, plugin: &Arc<crate::plugin::Plugin>) -> u16 {
        let plugins = self.registry.plugins();
        plugins
            .iter()
            .position(|p| Arc::ptr_eq(p, plugin))
            .unwrap_or(0) as u16
    }

    /// The live device that `handle` names.
    pub fn device(&self, handle: u32) -> Result<Arc<Device>> {
        match self.devices.get(handle) {
            Some(device) if !device.is_dead() => Ok(device),
            _ => Err(bad_handle("device", handle)),
        }
    }

    /// The token that `handle` names.
    pub fn token(&self, handle: u32) -> Result<Arc<Token>> {
        self.tokens
            .get(handle)
            .ok_or_else(|| bad_handle("token", handle))
    }

    /// Closes a device; true if it was released at once.
    pub fn close_device(&self, handle: u32) -> Result<bool> {
        let device = self.device(handle)?;
        if !device.kill() {
            return Err(bad_handle("device", handle));
        }
        barrier_all_threads();
        for queue in self.queues() {
            queue.tell_closed(&device);
        }
        Ok(self.release_if_idle(&device))
    }

    /// Releases a closed device once no request uses it; true if it is released.
    pub fn release_if_idle(&self, device: &Arc<Device>) -> bool {
        if device.is_released() {
            return true;
        }
        // Between this thread's "nothing in flight" and the look at the probes.
        std::sync::atomic::fence(Ordering::SeqCst);
        if !device.is_dead()
            || device.users.load(Ordering::SeqCst) > 0
            || self.device_in_flight(device.handle) > 0
        {
            return false;
        }
        device.release();
        if device.is_released() {
            self.forget_pairs_of(device.handle);
            self.devices.remove(device.handle);
        }
        device.is_released()
    }

    /// Requests in flight that touch `handle`, over all queues.
    pub fn device_in_flight(&self, handle: u32) -> u32 {
        self.queues()
            .iter()
            .map(|queue| queue.device_in_flight(handle))
            .sum()
    }

    /// Forgets verdicts and limits of a device and looks at it again. May block.
    pub fn invalidate(&self, handle: u32) -> Result<()> {
        let device = self.device(handle)?;
        if let Some(origin) = device.origin()
            && let Origin::Kernel(kernel) = origin.as_ref()
        {
            device.size.store(kernel.current_size()?, Ordering::Release);
        }
        device.forget_refusals();
        self.memory.forget(device.identity().storage);
        device.outdate();
        Ok(())
    }

    fn forget_pairs_of(&self, handle: u32) {
        let touches = |key: &PairKey| key.0 == handle || key.1 == handle;
        self.routes
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .retain(|key, _| !touches(key));
        self.affine
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .retain(|key, _| !touches(key));
    }

    /// Makes queues look at their routes again.
    pub fn new_epoch(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        changed();
    }

    /// The route of a pair, from the cache if it is still good.
    pub fn cached_route(
        &self,
        src: Option<&Arc<Device>>,
        dst: Option<&Arc<Device>>,
    ) -> Option<Arc<Route>> {
        let key = (src.map_or(0, |d| d.handle), dst.map_or(0, |d| d.handle));
        let routes = self.routes.lock().unwrap_or_else(|e| e.into_inner());
        let route = routes.get(&key)?;
        let fresh = route.generations == (route::generation(src), route::generation(dst))
            && (route.methods.iter().all(|m| m.usable)
                || super::clock::coarse_ns() < route.recheck_ns);
        fresh.then(|| route.clone())
    }

    /// The route of a pair, probed if need be. May block.
    pub fn route(
        &self,
        src: Option<&Arc<Device>>,
        dst: Option<&Arc<Device>>,
    ) -> Result<Arc<Route>> {
        if let Some(route) = self.cached_route(src, dst) {
            return Ok(route);
        }
        let devices: Vec<_> = [src, dst].into_iter().flatten().collect();
        for device in &devices {
            device.users.fetch_add(1, Ordering::SeqCst);
        }
        // A request that was accepted before the close still goes its way.
        let closed = devices
            .iter()
            .any(|device| device.is_dead() && self.device_in_flight(device.handle) == 0);
        let route = if closed {
            Err(Error::new(libc::EBADF, "the device was closed"))
        } else {
            route::probe(self, src, dst)
        };
        for device in devices {
            device.users.fetch_sub(1, Ordering::SeqCst);
            self.release_if_idle(device);
        }
        let route = Arc::new(route?);
        let key = (src.map_or(0, |d| d.handle), dst.map_or(0, |d| d.handle));
        self.routes
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .insert(key, route.clone());
        Ok(route)
    }

    /// Remembers what AFFINE plugins said of a pair on some queue, for queries.
    pub fn remember_affine(&self, key: PairKey, methods: Vec<RouteMethod>) {
        self.affine
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .insert(key, methods);
    }

    /// All verdicts on a pair, best first. May block.
    pub fn verdicts(&self, src: u32, dst: u32) -> Result<(Vec<RouteMethod>, u32)> {
        let (source, destination) = (self.device(src)?, self.device(dst)?);
        let route = self.route(Some(&source), Some(&destination))?;
        let mut methods = route.methods.clone();
        let affine = self.affine.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(more) = affine.get(&(src, dst)) {
            methods.retain(|m| !more.iter().any(|a| a.id == m.id));
            methods.extend(more.iter().cloned());
        }
        let now = super::clock::coarse_ns();
        for method in &mut methods {
            let past = self.memory.of(
                source.identity().storage,
                destination.identity().storage,
                method.id,
            );
            if method.usable && self.allowed() & (1 << method.id) == 0 {
                method.usable = false;
                method.reason = XCOPY_REASON_NOT_ALLOWED;
                method.text = "the context's method mask leaves it out".into();
            } else if let Some(why) = past.resting(now).filter(|_| method.usable) {
                method.usable = false;
                method.reason = XCOPY_REASON_FAILED_BEFORE;
                method.text = format!(
                    "failed before ({}): invalidate the device to have it tried again",
                    super::reasons::text(why)
                );
            }
        }
        route::sort(&mut methods);
        let generation = route.generations.0.wrapping_add(route.generations.1);
        Ok((methods, generation))
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

#[cold]
fn bad_handle(what: &str, handle: u32) -> Error {
    Error::new(
        libc::EBADF,
        format!("{handle:#010x} names no open {what} of this context (closed, stale or foreign)"),
    )
}

fn check_open_flags(flags: u32) -> Result<()> {
    if flags & !XCOPY_OPEN_ALL != 0 {
        return Err(Error::new(
            libc::EINVAL,
            format!("unknown open flags {flags:#x}"),
        ));
    }
    if flags & (XCOPY_OPEN_READ | XCOPY_OPEN_WRITE) == 0 {
        return Err(Error::new(
            libc::EINVAL,
            "give XCOPY_OPEN_READ, XCOPY_OPEN_WRITE or both: a handle needs a use",
        ));
    }
    Ok(())
}

const MEMBARRIER_CMD_PRIVATE_EXPEDITED: i32 = 1 << 3;
const MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED: i32 = 1 << 4;

/// Closing a device relies on it: see `barrier_all_threads`.
fn register_membarrier() -> Result<()> {
    // SAFETY: membarrier takes no pointers.
    let registered = unsafe {
        libc::syscall(
            libc::SYS_membarrier,
            MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED,
            0,
            0,
        )
    };
    if registered == 0 {
        return Ok(());
    }
    let why = std::io::Error::last_os_error();
    Err(Error::new(
        libc::ENOSYS,
        format!(
            "membarrier's private expedited command is missing ({why}): libxcopy needs Linux 4.14 \
             or later, and a sandbox that allows the call"
        ),
    ))
}

/// A full fence on every running thread of the process, so that a submitter's
/// plain "count, then look at the handle" is ordered against a closer's "kill
/// the handle, then look at the count" without a fence on the submit path.
fn barrier_all_threads() {
    std::sync::atomic::fence(Ordering::SeqCst);
    // SAFETY: membarrier takes no pointers.
    unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) };
}
