//! What `open` gets, and what it gives.

use crate::failure::Failure;
use crate::host;
use std::convert::Infallible;
use std::ffi::{CStr, c_char, c_void};
use std::marker::PhantomData;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, PoisonError};
use xcopy_abi::*;

/// A device as the core describes it to `open`.
pub struct Description<'a> {
    desc: &'a xcopy_device_desc,
    events: Events,
}

impl<'a> Description<'a> {
    /// # Safety
    /// As the contract has it for `open`'s `desc`, for the time of `'a`.
    pub(crate) unsafe fn new(desc: *const xcopy_device_desc) -> Option<Description<'a>> {
        if desc.is_null() {
            return None;
        }
        // SAFETY: the core's, and every version begins with its size.
        let size = unsafe { (*desc).size };
        if (size as usize) < size_of::<xcopy_device_desc>() {
            return None;
        }
        // SAFETY: at least as long as the struct that we know.
        let desc = unsafe { &*desc };
        Some(Description {
            desc,
            events: Events {
                device: Arc::new(Mutex::new(Some(Handle(desc.host_device)))),
            },
        })
    }

    /// For a native device what stands behind `NAME:`, else the path or name that
    /// the caller gave; not to be opened again. None if it is not UTF-8.
    pub fn name(&self) -> Option<&'a str> {
        if self.desc.name.is_null() {
            return Some("");
        }
        // SAFETY: NUL-terminated and valid during the call, by the contract.
        unsafe { CStr::from_ptr(self.desc.name) }.to_str().ok()
    }

    /// One of XCOPY_KIND_.
    pub fn kind(&self) -> u32 {
        self.desc.kind
    }

    /// XCOPY_OPEN_ flags.
    pub fn open_flags(&self) -> u32 {
        self.desc.open_flags
    }

    /// The core's descriptor of a file or node, open until the device is closed;
    /// not to be closed by the plugin.
    pub fn fd(&self) -> Option<RawFd> {
        (self.desc.fd >= 0).then_some(self.desc.fd)
    }

    /// The caller's native handle, or NULL. What it points to is between the
    /// plugin and its user.
    pub fn native(&self) -> *mut c_void {
        self.desc.native
    }

    /// Size in bytes, of what the kernel knows.
    pub fn size_bytes(&self) -> u64 {
        self.desc.size_bytes
    }

    /// Logical block size, of what the kernel knows; 1 for files.
    pub fn block_size(&self) -> u32 {
        self.desc.block_size
    }

    /// Device number of the node, or of a file's file system.
    pub fn node(&self) -> (u32, u32) {
        (self.desc.dev_major, self.desc.dev_minor)
    }

    /// Device number of the whole disk and first byte of the device on it.
    pub fn disk(&self) -> Option<(u32, u32, u64)> {
        let desc = self.desc;
        ((desc.disk_major, desc.disk_minor) != (0, 0)).then_some((
            desc.disk_major,
            desc.disk_minor,
            desc.disk_offset,
        ))
    }

    /// To tell the core later what became of the device.
    pub fn events(&self) -> Events {
        self.events.clone()
    }
}

/// A device that a plugin opened, and what it says of it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Opened<D> {
    /// The plugin's own.
    pub device: D,
    /// Logical block size in bytes, a power of two.
    pub block_size: u32,
    /// Size in bytes; 0 for kernel devices, which the core knows.
    pub size_bytes: u64,
    /// Bytes of READ and WRITE that work best; 0 leaves it to the core.
    pub preferred_io_bytes: u64,
    /// Bytes of READ, WRITE and ZERO at most; 0 is no limit.
    pub max_io_bytes: u64,
    /// Devices of the same non-zero identity are the same storage.
    pub identity: u64,
    /// First byte of the device on that identity.
    pub identity_offset: u64,
    /// It cannot be written.
    pub read_only: bool,
    /// What people call a native device; empty if nobody does. The core keeps 127
    /// bytes of it.
    pub name: String,
}

impl<D> Opened<D> {
    /// A device of this block size and size.
    pub fn new(device: D, block_size: u32, size_bytes: u64) -> Opened<D> {
        Opened {
            device,
            block_size,
            size_bytes,
            preferred_io_bytes: 0,
            max_io_bytes: 0,
            identity: 0,
            identity_offset: 0,
            read_only: false,
            name: String::new(),
        }
    }

    /// The same with another value for the device.
    pub fn map<E>(self, make: impl FnOnce(D) -> E) -> Opened<E> {
        let Ok(opened) = self.replace(|device| Ok::<E, Infallible>(make(device)));
        opened
    }

    /// The same with another value for the device, if there is one.
    pub fn try_map<E>(
        self,
        make: impl FnOnce(D) -> Result<E, Failure>,
    ) -> Result<Opened<E>, Failure> {
        self.replace(make)
    }

    fn replace<E, X>(self, make: impl FnOnce(D) -> Result<E, X>) -> Result<Opened<E>, X> {
        Ok(Opened {
            device: make(self.device)?,
            block_size: self.block_size,
            size_bytes: self.size_bytes,
            preferred_io_bytes: self.preferred_io_bytes,
            max_io_bytes: self.max_io_bytes,
            identity: self.identity,
            identity_offset: self.identity_offset,
            read_only: self.read_only,
            name: self.name,
        })
    }

    pub(crate) fn tell(&self, props: &mut xcopy_device_props) {
        props.block_size = self.block_size;
        props.size_bytes = self.size_bytes;
        props.preferred_io_bytes = self.preferred_io_bytes;
        props.max_io_bytes = self.max_io_bytes;
        props.identity = self.identity;
        props.identity_offset = self.identity_offset;
        props.read_only = u32::from(self.read_only);
        put_text(&mut props.text, &self.name);
    }
}

struct Handle(*mut c_void);

// SAFETY: opaque; only handed back to the core, which takes it on any thread.
unsafe impl Send for Handle {}

/// Tells the core what became of a device. Any thread; after the device was
/// closed it does nothing.
#[derive(Clone)]
pub struct Events {
    device: Arc<Mutex<Option<Handle>>>,
}

impl Events {
    /// The device is gone.
    pub fn removed(&self) {
        self.raise(XCOPY_EVENT_REMOVED, 0);
    }

    /// It has another size.
    pub fn resized(&self, size_bytes: u64) {
        self.raise(XCOPY_EVENT_RESIZED, size_bytes);
    }

    /// Limits of a method changed: the core probes again.
    pub fn limits_changed(&self) {
        self.raise(XCOPY_EVENT_LIMITS_CHANGED, 0);
    }

    fn raise(&self, events: u32, size_bytes: u64) {
        // Held during the call: close waits for it.
        let device = self.device.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(Handle(device)), Some(event)) = (&*device, host::device_event()) {
            // SAFETY: the core's function; the device is open.
            unsafe { event(*device, events, size_bytes) };
        }
    }

    pub(crate) fn close(&self) {
        let mut device = self.device.lock().unwrap_or_else(PoisonError::into_inner);
        *device = None;
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Events")
    }
}

/// What the core has as the plugin's handle.
pub(crate) struct Held<D> {
    pub(crate) device: D,
    pub(crate) events: Events,
}

/// Puts a text, cut at a character, and its NUL.
pub(crate) fn put_text(field: &mut [c_char], text: &str) {
    let Some(room) = field.len().checked_sub(1) else {
        return;
    };
    let text = text.split('\0').next().unwrap_or_default();
    let mut len = room.min(text.len());
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    for (to, from) in field.iter_mut().zip(&text.as_bytes()[..len]) {
        *to = *from as c_char;
    }
    field[len] = 0;
}

/// A device behind a handle, or None for NULL.
///
/// # Safety
/// `handle` is NULL or what `open` of a plugin with devices `D` gave, and stays
/// open for `'a`.
pub(crate) unsafe fn device_of<D>(handle: *mut c_void, _: PhantomData<&D>) -> Option<&D> {
    // SAFETY: the caller's word.
    unsafe { handle.cast::<Held<D>>().as_ref() }.map(|held| &held.device)
}
