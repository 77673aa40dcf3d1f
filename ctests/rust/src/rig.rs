//! A context and a queue, with the C calls behind safe functions.

use std::ffi::{CStr, CString};
use std::ptr;
use xcopy::abi::*;
use xcopy::*;

/// Ten seconds: longer than anything here takes.
pub const LONG: i64 = 10_000_000_000;

/// The text of this thread's last failure.
pub fn last_error() -> String {
    // SAFETY: a NUL-terminated string, valid until this thread's next failure.
    unsafe { CStr::from_ptr(xcopy_last_error()) }
        .to_string_lossy()
        .into_owned()
}

/// The calls that any thread may make.
#[derive(Clone, Copy)]
pub struct Remote {
    context: *mut xcopy_context,
    queue: *mut xcopy_queue,
}

// SAFETY: only calls that any thread may make; the rig outlives the threads of
// its test, which are joined before it is dropped.
unsafe impl Send for Remote {}
// SAFETY: as above.
unsafe impl Sync for Remote {}

impl Remote {
    /// xcopy_cancel.
    pub fn cancel(&self, user_data: u64) -> i32 {
        // SAFETY: a live queue.
        unsafe { xcopy_cancel(self.queue, user_data) }
    }

    /// xcopy_cancel_device.
    pub fn cancel_device(&self, device: u32) -> i32 {
        // SAFETY: a live queue.
        unsafe { xcopy_cancel_device(self.queue, device) }
    }

    /// xcopy_device_close.
    pub fn close(&self, device: u32) -> i32 {
        // SAFETY: a live context.
        unsafe { xcopy_device_close(self.context, device) }
    }

    /// xcopy_device_is_closed.
    pub fn is_closed(&self, device: u32) -> i32 {
        // SAFETY: a live context.
        unsafe { xcopy_device_is_closed(self.context, device) }
    }

    /// xcopy_queue_in_flight.
    pub fn in_flight(&self) -> i32 {
        // SAFETY: a live queue.
        unsafe { xcopy_queue_in_flight(self.queue) }
    }

    /// xcopy_queue_drain.
    pub fn drain(&self) -> i32 {
        // SAFETY: a live queue.
        unsafe { xcopy_queue_drain(self.queue) }
    }

    /// xcopy_queue_resume.
    pub fn resume(&self) -> i32 {
        // SAFETY: a live queue.
        unsafe { xcopy_queue_resume(self.queue) }
    }

    /// xcopy_queue_stats.
    pub fn stats(&self) -> xcopy_queue_stats {
        let mut stats = xcopy_queue_stats::default();
        // SAFETY: a live queue and a place of the size given.
        let status =
            unsafe { xcopy_queue_stats(self.queue, &mut stats, size_of::<xcopy_queue_stats>()) };
        assert_eq!(status, 0, "{}", last_error());
        stats
    }

    /// xcopy_progress.
    pub fn progress(&self, user_data: u64) -> Result<xcopy_progress, i32> {
        let mut progress = xcopy_progress::default();
        let size = size_of::<xcopy_progress>();
        // SAFETY: a live queue and a place of the size given.
        match unsafe { xcopy_progress(self.queue, user_data, &mut progress, size) } {
            0 => Ok(progress),
            error => Err(error),
        }
    }

    /// xcopy_device_invalidate.
    pub fn invalidate(&self, device: u32) -> i32 {
        // SAFETY: a live context.
        unsafe { xcopy_device_invalidate(self.context, device) }
    }

    /// xcopy_device_events.
    pub fn events(&self, device: u32) -> Result<u32, i32> {
        let mut events = 0;
        // SAFETY: a live context and a place for the answer.
        match unsafe { xcopy_device_events(self.context, device, &mut events) } {
            0 => Ok(events),
            error => Err(error),
        }
    }

    /// xcopy_device_info.
    pub fn info(&self, device: u32) -> Result<xcopy_device_info, i32> {
        // SAFETY: plain data, for which zeroes are valid.
        let mut info: xcopy_device_info = unsafe { std::mem::zeroed() };
        let size = size_of::<xcopy_device_info>();
        // SAFETY: a live context and a place of the size given.
        match unsafe { xcopy_device_info(self.context, device, &mut info, size) } {
            0 => Ok(info),
            error => Err(error),
        }
    }
}

/// A context and one queue of it.
pub struct Rig {
    /// What any thread may do.
    pub remote: Remote,
    forced: bool,
    live: bool,
    /// The context is another rig's.
    guest: bool,
}

// SAFETY: an idle queue may change its owner, and a context has none.
unsafe impl Send for Rig {}

impl Rig {
    /// With default options.
    pub fn new() -> Rig {
        Rig::with(|_| {}, |_| {})
    }

    /// With options changed.
    pub fn with(
        context: impl FnOnce(&mut xcopy_context_options),
        queue: impl FnOnce(&mut xcopy_queue_options),
    ) -> Rig {
        // SAFETY: plain data, for which zeroes are valid (NULL and None).
        let mut options: xcopy_context_options = unsafe { std::mem::zeroed() };
        let mut rig = Rig {
            remote: Remote {
                context: ptr::null_mut(),
                queue: ptr::null_mut(),
            },
            forced: false,
            live: true,
            guest: false,
        };
        // SAFETY: places of the sizes given.
        unsafe {
            let size = size_of::<xcopy_context_options>();
            assert_eq!(xcopy_context_options_init(&mut options, size), 0);
            context(&mut options);
            let status = xcopy_context_create(&options, &mut rig.remote.context);
            assert_eq!(status, 0, "{}", last_error());
        }
        rig.remote.queue = rig.another_queue(queue);
        rig
    }

    /// Another queue of the same context, to be dropped before this rig.
    pub fn beside(&self, queue: impl FnOnce(&mut xcopy_queue_options)) -> Rig {
        Rig {
            remote: Remote {
                context: self.remote.context,
                queue: self.another_queue(queue),
            },
            forced: false,
            live: true,
            guest: true,
        }
    }

    fn another_queue(&self, change: impl FnOnce(&mut xcopy_queue_options)) -> *mut xcopy_queue {
        // SAFETY: plain data, for which zeroes are valid.
        let mut options: xcopy_queue_options = unsafe { std::mem::zeroed() };
        let mut queue = ptr::null_mut();
        // SAFETY: places of the sizes given; a live context.
        unsafe {
            let size = size_of::<xcopy_queue_options>();
            assert_eq!(xcopy_queue_options_init(&mut options, size), 0);
            change(&mut options);
            let status = xcopy_queue_create(self.remote.context, &options, &mut queue);
            assert_eq!(status, 0, "{}", last_error());
        }
        queue
    }

    /// xcopy_plugin_register.
    pub fn register(
        &self,
        init: unsafe extern "C" fn(*const xcopy_host) -> *const xcopy_plugin,
    ) -> i32 {
        // SAFETY: a live context and a plugin's entry point.
        unsafe { xcopy_plugin_register(self.remote.context, Some(init)) }
    }

    /// Names of the registered plugins.
    pub fn plugins(&self) -> Vec<String> {
        // SAFETY: a live context.
        let n = unsafe { xcopy_plugin_count(self.remote.context) };
        (0..n as u32)
            .map(|index| {
                // SAFETY: plain data, for which zeroes are valid.
                let mut info: xcopy_plugin_info = unsafe { std::mem::zeroed() };
                let size = size_of::<xcopy_plugin_info>();
                // SAFETY: a live context and a place of the size given; the name
                // is NUL-terminated.
                unsafe {
                    assert_eq!(
                        xcopy_plugin_info(self.remote.context, index, &mut info, size),
                        0
                    );
                    CStr::from_ptr(info.name.as_ptr())
                        .to_string_lossy()
                        .into_owned()
                }
            })
            .collect()
    }

    /// xcopy_method_mask.
    pub fn mask(&self, names: &str) -> u32 {
        let (text, mut mask) = (CString::new(names).expect("no NUL"), 0);
        // SAFETY: a live context, a string, a place for the answer.
        let status = unsafe { xcopy_method_mask(self.remote.context, text.as_ptr(), &mut mask) };
        assert_eq!(status, 0, "{}", last_error());
        mask
    }

    /// xcopy_device_open.
    pub fn try_open(&self, name: &str, flags: u32) -> Result<u32, i32> {
        let (text, mut device) = (CString::new(name).expect("no NUL"), 0);
        // SAFETY: a live context, a string, a place for the answer.
        match unsafe { xcopy_device_open(self.remote.context, text.as_ptr(), flags, &mut device) } {
            0 => Ok(device),
            error => Err(error),
        }
    }

    /// xcopy_device_open_native, for reading and writing.
    ///
    /// # Safety
    /// `native` is what the plugin takes, until the device was released.
    pub unsafe fn open_native(&self, plugin: &str, native: *mut std::ffi::c_void) -> u32 {
        let (text, mut device) = (CString::new(plugin).expect("no NUL"), 0);
        let flags = XCOPY_OPEN_READ | XCOPY_OPEN_WRITE;
        // SAFETY: a live context, a string, the caller's word, a place for the answer.
        let status = unsafe {
            xcopy_device_open_native(
                self.remote.context,
                text.as_ptr(),
                native,
                flags,
                &mut device,
            )
        };
        assert_eq!(status, 0, "{plugin}: {}", last_error());
        device
    }

    /// xcopy_device_describe.
    pub fn describe(&self, device: u32) -> String {
        let describe = |at, size| {
            // SAFETY: a live context and as many bytes as the size says.
            unsafe { xcopy_device_describe(self.remote.context, device, at, size) }
        };
        let whole = describe(ptr::null_mut(), 0);
        assert!(whole >= 0, "{whole} {}", last_error());
        let mut room = vec![0; whole as usize + 1];
        assert_eq!(describe(room.as_mut_ptr(), room.len()), whole);
        // SAFETY: NUL-terminated by the library.
        let text = unsafe { CStr::from_ptr(room.as_ptr()) };
        text.to_string_lossy().into_owned()
    }

    /// xcopy_token_create.
    pub fn token(&self) -> u32 {
        let mut token = 0;
        // SAFETY: a live context and a place for the answer.
        let status = unsafe { xcopy_token_create(self.remote.context, &mut token) };
        assert_eq!(status, 0, "{}", last_error());
        token
    }

    /// xcopy_token_info.
    pub fn token_info(&self, token: u32) -> xcopy_token_info {
        // SAFETY: plain data, for which zeroes are valid.
        let mut info: xcopy_token_info = unsafe { std::mem::zeroed() };
        let size = size_of::<xcopy_token_info>();
        // SAFETY: a live context and a place of the size given.
        let status = unsafe { xcopy_token_info(self.remote.context, token, &mut info, size) };
        assert_eq!(status, 0, "{}", last_error());
        info
    }

    /// xcopy_token_export.
    pub fn export(&self, token: u32) -> Vec<u8> {
        let mut bytes = vec![0u8; self.token_info(token).export_bytes as usize];
        let mut used = 0;
        // SAFETY: as many bytes as the size says, a place for the answer.
        let status = unsafe {
            let at = bytes.as_mut_ptr().cast();
            xcopy_token_export(self.remote.context, token, at, bytes.len(), &mut used)
        };
        assert_eq!((status, used), (0, bytes.len()), "{}", last_error());
        bytes
    }

    /// xcopy_token_import.
    pub fn import(&self, bytes: &[u8]) -> Result<u32, i32> {
        let mut token = 0;
        // SAFETY: as many bytes as the size says, a place for the answer.
        let status = unsafe {
            let at = bytes.as_ptr().cast();
            xcopy_token_import(self.remote.context, at, bytes.len(), &mut token)
        };
        match status {
            0 => Ok(token),
            error => Err(error),
        }
    }

    /// xcopy_token_free.
    pub fn free_token(&self, token: u32) -> i32 {
        // SAFETY: a live context.
        unsafe { xcopy_token_free(self.remote.context, token) }
    }

    /// Opens for reading and writing.
    pub fn open(&self, name: &str) -> u32 {
        self.try_open(name, XCOPY_OPEN_READ | XCOPY_OPEN_WRITE)
            .unwrap_or_else(|error| panic!("{name}: {error} {}", last_error()))
    }

    /// xcopy_pair_query.
    pub fn query(&self, src: u32, dst: u32) -> Vec<xcopy_method_info> {
        // SAFETY: plain data, for which zeroes are valid.
        let mut methods: Vec<xcopy_method_info> = (0..XCOPY_METHOD_MAX)
            .map(|_| unsafe { std::mem::zeroed() })
            .collect();
        // SAFETY: a live context and an array of the length given.
        let n = unsafe {
            xcopy_pair_query(
                self.remote.context,
                src,
                dst,
                methods.as_mut_ptr(),
                size_of::<xcopy_method_info>(),
                methods.len() as u32,
            )
        };
        assert!(n >= 0, "{n} {}", last_error());
        methods.truncate(n as usize);
        methods
    }

    /// xcopy_submit of one request. What it points to must live until its end.
    pub fn submit(&self, request: &xcopy_request) -> i32 {
        // SAFETY: a live queue and one request of 64 bytes.
        unsafe { xcopy_submit(self.remote.queue, request, 64, 1) }
    }

    /// xcopy_poll, without waiting for more than `min`.
    pub fn poll(&self, min: u32, max: u32, timeout_ns: i64) -> Vec<xcopy_completion> {
        let mut done = vec![xcopy_completion::default(); max as usize];
        // SAFETY: a live queue and an array of the length given.
        let n = unsafe {
            xcopy_poll(
                self.remote.queue,
                done.as_mut_ptr(),
                64,
                min,
                max,
                timeout_ns,
            )
        };
        assert!(n >= 0, "{n} {}", last_error());
        done.truncate(n as usize);
        done
    }

    /// xcopy_queue_ready.
    pub fn ready(&self) -> i32 {
        // SAFETY: a live queue.
        unsafe { xcopy_queue_ready(self.remote.queue) }
    }

    /// xcopy_queue_arm.
    pub fn arm(&self) -> i32 {
        // SAFETY: a live queue.
        unsafe { xcopy_queue_arm(self.remote.queue) }
    }

    /// xcopy_queue_disarm.
    pub fn disarm(&self) -> i32 {
        // SAFETY: a live queue.
        unsafe { xcopy_queue_disarm(self.remote.queue) }
    }

    /// xcopy_queue_fd.
    pub fn fd(&self) -> i32 {
        // SAFETY: a live queue.
        unsafe { xcopy_queue_fd(self.remote.queue) }
    }

    /// Submits one request and waits for its end.
    pub fn run(&self, request: &xcopy_request) -> xcopy_completion {
        assert_eq!(self.submit(request), 1, "{}", last_error());
        let done = self.poll(1, 1, LONG);
        assert_eq!(
            done.len(),
            1,
            "no completion came: {:?}",
            self.remote.stats()
        );
        assert_eq!(done[0].user_data, request.user_data);
        done[0]
    }

    /// xcopy_queue_destroy; the rig is of no use after a 0.
    pub fn destroy(&mut self, flags: u32) -> i32 {
        // SAFETY: a live queue, given up if the answer is 0.
        let status = unsafe { xcopy_queue_destroy(self.remote.queue, flags) };
        if status == 0 {
            self.remote.queue = ptr::null_mut();
            self.forced = flags != 0;
        }
        status
    }
}

impl Default for Rig {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if std::thread::panicking() || !std::mem::take(&mut self.live) {
            return;
        }
        if !self.remote.queue.is_null() {
            assert_eq!(self.remote.in_flight(), 0);
            // SAFETY: a live queue, given up here.
            let status = unsafe { xcopy_queue_destroy(self.remote.queue, 0) };
            assert_eq!(status, 0, "{}", last_error());
        }
        if self.guest {
            return;
        }
        // SAFETY: a live context, given up here.
        let status = unsafe { xcopy_context_free(self.remote.context) };
        assert_eq!(status, 0, "{}", last_error());
    }
}

/// A request; what is not given is 0.
pub fn request(user_data: u64, op: u16, src: u32, dst: u32) -> xcopy_request {
    xcopy_request {
        user_data,
        op,
        reserved: 0,
        flags: 0,
        src,
        dst,
        src_offset: 0,
        dst_offset: 0,
        length: 0,
        methods: 0,
        timeout_ms: 0,
        ext: ptr::null(),
    }
}

/// A copy of one range.
pub fn copy(user_data: u64, src: u32, dst: u32, range: xcopy_range) -> xcopy_request {
    xcopy_request {
        src_offset: range.src_offset,
        dst_offset: range.dst_offset,
        length: range.length,
        ..request(user_data, XCOPY_OP_COPY, src, dst)
    }
}
