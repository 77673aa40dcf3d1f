//! What the core offers: its log and its memory.

use std::ffi::{CString, c_void};
use std::mem::offset_of;
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use xcopy_abi::*;

/// The core's table as init last got it; one core serves a process.
static TABLE: AtomicPtr<xcopy_host> = AtomicPtr::new(ptr::null_mut());

type Complete = unsafe extern "C" fn(*mut xcopy_host_queue, *const xcopy_result, usize, u32);
type Event = unsafe extern "C" fn(*mut c_void, u32, u64);

/// Keeps the core's table if this crate can work with it.
///
/// # Safety
/// `host` is NULL or a core's table, valid for the life of the process.
pub(crate) unsafe fn accept(host: *const xcopy_host) -> bool {
    // SAFETY: NULL, or every version's table holds these two.
    let Some((size, version)) = (unsafe {
        NonNull::new(host.cast_mut()).map(|_| ((*host).struct_size, (*host).abi_version))
    }) else {
        return false;
    };
    let needed = offset_of!(xcopy_host, device_event) + size_of::<usize>();
    if (size as usize) < needed || version >> 16 != XCOPY_ABI_VERSION >> 16 {
        return false;
    }
    TABLE.store(host.cast_mut(), Ordering::Release);
    true
}

fn table() -> Option<&'static xcopy_host> {
    // SAFETY: NULL, or stored by `accept`: long enough, and valid for ever.
    unsafe { TABLE.load(Ordering::Acquire).as_ref() }
}

pub(crate) fn complete() -> Option<Complete> {
    table()?.complete
}

pub(crate) fn complete_local() -> Option<Complete> {
    table()?.complete_local
}

pub(crate) fn device_event() -> Option<Event> {
    table()?.device_event
}

/// How grave a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Something failed that the caller will see as an error too.
    Error,
    /// Something was odd and was dealt with.
    Warning,
    /// What was chosen and why.
    Info,
    /// For the plugin's own developers.
    Debug,
}

struct Context(*mut c_void);

// SAFETY: opaque; only handed back to the core, on any thread.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

/// The core, for one context of the plugin. After `stop` it does nothing.
#[derive(Clone)]
pub struct Host {
    context: Arc<RwLock<Option<Context>>>,
}

impl Host {
    pub(crate) fn new(host_ctx: *mut c_void) -> Host {
        Host {
            context: Arc::new(RwLock::new(Some(Context(host_ctx)))),
        }
    }

    pub(crate) fn close(&self) {
        *self.context.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Writes to the context's log. Any thread.
    pub fn log(&self, level: Level, message: &str) {
        let level = match level {
            Level::Error => XCOPY_LOG_ERROR,
            Level::Warning => XCOPY_LOG_WARNING,
            Level::Info => XCOPY_LOG_INFO,
            Level::Debug => XCOPY_LOG_DEBUG,
        };
        let text = CString::new(message.replace('\0', " ")).unwrap_or_default();
        let context = self.context.read().unwrap_or_else(PoisonError::into_inner);
        if let (Some(Context(context)), Some(log)) = (&*context, table().and_then(|t| t.log)) {
            // SAFETY: the core's function and the context that it gave, which is
            // not stopped; the text lives during the call.
            unsafe { log(*context, level, text.as_ptr()) };
        }
    }

    /// Zeroed memory for data from the context's allocator: `size` bytes aligned
    /// to `align`, a power of two. None if there is none. Any thread.
    pub fn alloc(&self, size: usize, align: usize) -> Option<Buffer> {
        if size == 0 || isize::try_from(size).is_err() || !align.is_power_of_two() {
            return None;
        }
        let context = self.context.read().unwrap_or_else(PoisonError::into_inner);
        let alloc = table()?.alloc?;
        let Context(host_ctx) = (*context).as_ref()?;
        // SAFETY: the core's function; the context is not stopped.
        let memory = NonNull::new(unsafe { alloc(*host_ctx, size, align) }.cast::<u8>())?;
        // SAFETY: `size` bytes, ours alone.
        unsafe { memory.write_bytes(0, size) };
        Some(Buffer {
            memory,
            size,
            align,
            host: self.clone(),
        })
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Host")
    }
}

/// Memory from the context's allocator, freed when dropped: before the plugin's
/// value is, which `stop` drops.
pub struct Buffer {
    memory: NonNull<u8>,
    size: usize,
    align: usize,
    host: Host,
}

// SAFETY: plain bytes that one owner has; the core frees on any thread.
unsafe impl Send for Buffer {}
// SAFETY: shared access only reads.
unsafe impl Sync for Buffer {}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `size` initialised bytes, ours until dropped.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr(), self.size) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and borrowed for us alone.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr(), self.size) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let context = self.host.context.read();
        let context = context.unwrap_or_else(PoisonError::into_inner);
        if let (Some(Context(context)), Some(free)) = (&*context, table().and_then(|t| t.free)) {
            // SAFETY: `alloc` of this context gave it with these sizes.
            unsafe { free(*context, self.memory.as_ptr().cast(), self.size, self.align) };
        }
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} bytes)", self.size)
    }
}
