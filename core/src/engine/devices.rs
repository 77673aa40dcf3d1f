//! Device handles, and what stands behind one: a kernel device, a plugin's own,
//! and what plugins attached to it.

use crate::device::{Identity, KernelDevice, Storage};
use crate::error::{Error, Result};
use crate::plugin::Plugin;
use std::borrow::Cow;
use std::ffi::{CString, c_void};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use xcopy_abi::*;

/// A plugin's handle of a device. `src`/`dst` of a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PluginHandle(pub *mut c_void);

// SAFETY: the pointer is opaque to the core, which only hands it back to the
// plugin under the rules of its execution model.
unsafe impl Send for PluginHandle {}
// SAFETY: as above.
unsafe impl Sync for PluginHandle {}

/// What a plugin made of a device.
#[derive(Clone)]
pub struct Attachment {
    /// The plugin.
    pub plugin: Arc<Plugin>,
    /// Its handle, or why it refused.
    pub handle: std::result::Result<PluginHandle, (u16, String)>,
    /// What it says of the device.
    pub props: xcopy_device_props,
}

/// Where a device comes from.
pub enum Origin {
    /// The kernel knows it.
    Kernel(Box<KernelDevice>),
    /// A plugin opens it, from a spec or the caller's pointer.
    Native {
        /// The plugin.
        plugin: Arc<Plugin>,
        /// The part after the colon of `name:spec`.
        spec: CString,
        /// The caller's handle, or NULL.
        native: PluginHandle,
    },
}

/// Alone in its line: it is read at every submit and hardly ever written.
#[repr(align(64))]
struct Changes(AtomicU64);

static CHANGES: Changes = Changes(AtomicU64::new(1));

/// A number that grows when any device of the process is closed, has an event or
/// another size: one load tells that nothing about any of them is different.
#[inline(always)]
pub fn changes() -> u64 {
    CHANGES.0.load(Ordering::Acquire)
}

/// Counts a change. Of a queue or a context too, when its next submit has to look
/// at more than its request.
pub(super) fn changed() {
    CHANGES.0.fetch_add(1, Ordering::SeqCst);
}

/// A device. Dead once closed; released when nothing uses it any more.
pub struct Device {
    /// Its handle.
    pub handle: u32,
    /// XCOPY_OPEN_ flags.
    pub flags: u32,
    /// What it was opened with.
    pub name: CString,
    /// What its plugin calls it, of a native one.
    called: OnceLock<String>,
    /// Where it comes from; taken when it is released.
    origin: Mutex<Option<Arc<Origin>>>,
    /// The kernel's fd, or -1; valid until release.
    pub fd: i32,
    /// XCOPY_KIND_.
    pub kind: u32,
    attachments: Mutex<Vec<Attachment>>,
    /// Queues that opened the device for themselves (AFFINE).
    pub affine_opens: AtomicU32,
    /// Users besides requests: probes under way, and commands left behind.
    pub users: AtomicU32,
    /// Bit 0: the handle was closed. Above: a generation, advanced by events and
    /// invalidation, so that one load tells whether a route is still good.
    state: AtomicU32,
    released: AtomicBool,
    events: AtomicU32,
    /// Size in bytes; u64::MAX while not known.
    pub size: AtomicU64,
    /// Bytes of a logical block.
    pub block_size: AtomicU32,
    /// Bytes of a physical block.
    pub physical_block_size: AtomicU32,
    identity: Mutex<Identity>,
    /// The caller vouched for being the only user.
    pub exclusive: AtomicBool,
}

impl Device {
    /// A device around `origin`, with what is known at open.
    pub fn new(handle: u32, flags: u32, name: CString, origin: Origin) -> Device {
        let (fd, kind, size, block, physical, identity) = match &origin {
            Origin::Kernel(kernel) => {
                let facts = kernel.facts();
                (
                    kernel.fd(),
                    facts.kind,
                    facts.size,
                    facts.block_size,
                    facts.physical_block_size,
                    kernel.identity(),
                )
            }
            Origin::Native { .. } => {
                let identity = Identity {
                    storage: Storage::Unknown(u64::from(handle)),
                    offset: 0,
                };
                (-1, XCOPY_KIND_NATIVE, u64::MAX, 1, 1, identity)
            }
        };
        Device {
            handle,
            flags,
            name,
            called: OnceLock::new(),
            origin: Mutex::new(Some(Arc::new(origin))),
            fd,
            kind,
            attachments: Mutex::new(Vec::new()),
            affine_opens: AtomicU32::new(0),
            users: AtomicU32::new(0),
            state: AtomicU32::new(0),
            released: AtomicBool::new(false),
            events: AtomicU32::new(0),
            size: AtomicU64::new(size),
            block_size: AtomicU32::new(block.max(1)),
            physical_block_size: AtomicU32::new(physical.max(1)),
            identity: Mutex::new(identity),
            exclusive: AtomicBool::new(false),
        }
    }

    /// Whether the handle was closed.
    #[inline]
    pub fn is_dead(&self) -> bool {
        self.state.load(Ordering::Relaxed) & 1 != 0
    }

    /// Dead bit and generation: a route remembers it and is stale when it changed.
    #[inline]
    pub fn state(&self) -> u32 {
        self.state.load(Ordering::Relaxed)
    }

    /// Makes all routes of the device stale.
    pub fn outdate(&self) {
        self.state.fetch_add(2, Ordering::AcqRel);
        changed();
    }

    /// Whether everything behind the handle was given back.
    pub fn is_released(&self) -> bool {
        self.released.load(Ordering::Acquire)
    }

    /// Whether the device was reported gone.
    #[inline]
    pub fn is_removed(&self) -> bool {
        self.events.load(Ordering::Relaxed) & REMOVED_FOR_GOOD != 0
    }

    /// Marks the handle dead; false if it was already.
    pub fn kill(&self) -> bool {
        let before = self.state.fetch_or(1, Ordering::SeqCst);
        changed();
        before & 1 == 0
    }

    /// Where the device comes from, unless it was released.
    pub fn origin(&self) -> Option<Arc<Origin>> {
        self.origin
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .clone()
    }

    /// Which storage it is.
    pub fn identity(&self) -> Identity {
        *self.identity.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The plugin that opens it, for a native device.
    pub fn native_plugin(&self) -> Option<Arc<Plugin>> {
        match self.origin()?.as_ref() {
            Origin::Native { plugin, .. } => Some(plugin.clone()),
            Origin::Kernel(_) => None,
        }
    }

    /// Takes over what the plugin of a native device says of it.
    pub fn adopt_props(&self, plugin_index: u16, props: &xcopy_device_props) {
        if self.kind != XCOPY_KIND_NATIVE {
            return;
        }
        let block = props.block_size.max(1);
        self.block_size.store(block, Ordering::Relaxed);
        self.physical_block_size.store(block, Ordering::Relaxed);
        self.size.store(props.size_bytes, Ordering::Release);
        changed();
        // Told once: a device is adopted as it is opened.
        let _ = self.called.set(text_of(&props.text));
        if props.identity != 0 {
            *self.identity.lock().unwrap_or_else(|e| e.into_inner()) = Identity {
                storage: Storage::Native {
                    plugin: plugin_index,
                    id: props.identity,
                },
                offset: props.identity_offset,
            };
        }
    }

    /// What people know it by: what it was opened with, else its plugin's word.
    pub fn known_as(&self) -> Cow<'_, str> {
        match (self.name.is_empty(), self.called.get()) {
            (true, Some(called)) => Cow::Borrowed(called),
            _ => self.name.to_string_lossy(),
        }
    }

    /// What `plugin` makes of the device, opening it if it has not yet. May block.
    pub fn attach(self: &Arc<Self>, plugin: &Arc<Plugin>) -> Result<Attachment> {
        let mut attachments = self.attachments.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(found) = attachments.iter().find(|a| Arc::ptr_eq(&a.plugin, plugin)) {
            return Ok(found.clone());
        }
        let Some(origin) = self.origin() else {
            return Err(Error::new(libc::EBADF, "the device was closed"));
        };
        let mut props = xcopy_device_props::default();
        let handle = open_by(plugin, self, &origin, &mut props);
        let attachment = Attachment {
            plugin: plugin.clone(),
            handle,
            props,
        };
        attachments.push(attachment.clone());
        Ok(attachment)
    }

    /// Forgets that plugins refused the device, so that they are asked again.
    pub fn forget_refusals(&self) {
        let mut attachments = self.attachments.lock().unwrap_or_else(|e| e.into_inner());
        attachments.retain(|a| a.handle.is_ok());
    }

    /// Looks at the size of a kernel device again: a file may have grown.
    pub fn refresh_size(&self) -> u64 {
        if let Some(origin) = self.origin()
            && let Origin::Kernel(kernel) = origin.as_ref()
            && let Ok(size) = kernel.current_size()
            && self.size.swap(size, Ordering::AcqRel) != size
        {
            changed();
        }
        self.size.load(Ordering::Acquire)
    }

    /// Adds events; RESIZED carries the new size.
    pub fn raise(&self, events: u32, size: u64) {
        if events & XCOPY_EVENT_RESIZED != 0 && size != 0 {
            self.size.store(size, Ordering::Release);
        }
        let sticky = if events & XCOPY_EVENT_REMOVED != 0 {
            REMOVED_FOR_GOOD
        } else {
            0
        };
        self.events
            .fetch_or((events & 7) | sticky, Ordering::Release);
        self.outdate();
    }

    /// The events since the last call, reset.
    pub fn take_events(&self) -> u32 {
        self.events.fetch_and(REMOVED_FOR_GOOD, Ordering::AcqRel) & 7
    }

    /// The events since `take_events`.
    pub fn peek_events(&self) -> u32 {
        self.events.load(Ordering::Acquire) & 7
    }

    /// Keeps what is behind the handle until the process ends.
    pub fn hold_for_ever(&self) {
        self.users.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether somebody besides requests uses it.
    pub fn is_held(&self) -> bool {
        self.users.load(Ordering::SeqCst) > 0
    }

    /// Gives back everything behind the handle, unless it is in use; once. May
    /// block.
    pub fn release(&self) {
        if self.affine_opens.load(Ordering::Acquire) > 0 || self.is_held() {
            return;
        }
        let mut attachments = self.attachments.lock().unwrap_or_else(|e| e.into_inner());
        for attachment in attachments.drain(..) {
            if let (Ok(handle), Some(close)) = (attachment.handle, attachment.plugin.table().close)
            {
                // SAFETY: `open` of the same plugin gave the handle, no command
                // uses it (the caller saw zero in flight), and it is closed once.
                unsafe { close(attachment.plugin.state(), handle.0) };
            }
        }
        drop(self.origin.lock().unwrap_or_else(|e| e.into_inner()).take());
        self.released.store(true, Ordering::Release);
    }
}

/// Kept in the event mask after the caller took REMOVED.
const REMOVED_FOR_GOOD: u32 = 1 << 31;

fn open_by(
    plugin: &Arc<Plugin>,
    device: &Arc<Device>,
    origin: &Origin,
    props: &mut xcopy_device_props,
) -> std::result::Result<PluginHandle, (u16, String)> {
    let Some(open) = plugin.table().open else {
        return Err((XCOPY_REASON_WRONG_DEVICE, "the plugin opens nothing".into()));
    };
    let desc = describe(device, origin);
    let mut handle = std::ptr::null_mut();
    // SAFETY: the descriptor, the handle's place and the props outlive the call.
    let status = unsafe { open(plugin.state(), &desc, &mut handle, props) };
    if status == 0 {
        return Ok(PluginHandle(handle));
    }
    let reason = match -status {
        libc::EPERM | libc::EACCES => XCOPY_REASON_PERMISSION,
        libc::EFAULT => XCOPY_REASON_PLUGIN_FAULT,
        libc::EBADE => XCOPY_REASON_RESERVED,
        libc::ENODEV | libc::ENXIO => XCOPY_REASON_REMOVED,
        _ => XCOPY_REASON_WRONG_DEVICE,
    };
    let text = text_of(&props.text);
    let text = if text.is_empty() {
        std::io::Error::from_raw_os_error(-status).to_string()
    } else {
        text
    };
    Err((reason, text))
}

/// The description that a plugin's `open` reads.
pub fn describe(device: &Arc<Device>, origin: &Origin) -> xcopy_device_desc {
    let mut desc = xcopy_device_desc {
        size: size_of::<xcopy_device_desc>() as u32,
        kind: device.kind,
        open_flags: device.flags,
        fd: device.fd,
        name: device.name.as_ptr(),
        native: std::ptr::null_mut(),
        host_device: Arc::as_ptr(device).cast_mut().cast(),
        dev_major: 0,
        dev_minor: 0,
        disk_major: 0,
        disk_minor: 0,
        disk_offset: 0,
        inode: 0,
        size_bytes: 0,
        block_size: device.block_size.load(Ordering::Relaxed),
        physical_block_size: device.physical_block_size.load(Ordering::Relaxed),
    };
    match origin {
        Origin::Kernel(kernel) => {
            let facts = kernel.facts();
            (desc.dev_major, desc.dev_minor) = facts.dev;
            (desc.disk_major, desc.disk_minor) = facts.disk.unwrap_or((0, 0));
            desc.disk_offset = facts.disk_offset;
            desc.inode = facts.inode;
            desc.size_bytes = facts.size;
        }
        Origin::Native { spec, native, .. } => {
            desc.name = spec.as_ptr();
            desc.native = native.0;
        }
    }
    desc
}

/// A NUL-terminated field as text.
pub fn text_of(field: &[core::ffi::c_char]) -> String {
    let bytes: Vec<u8> = field
        .iter()
        .take_while(|c| **c != 0)
        .map(|c| *c as u8)
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
