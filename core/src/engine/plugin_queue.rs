//! One plugin's queue within a queue: its command memory and its calls.

use super::host_queue::HostQueue;
use super::shared::{QueueShared, add};
use crate::error::{Error, Result};
use crate::plugin::Plugin;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;
use std::sync::Arc;
use xcopy_abi::*;

/// Memory beside the commands: for each, its ranges and the plugin's private bytes.
struct Annex {
    memory: Option<NonNull<u8>>,
    layout: Layout,
    stride: usize,
    ranges_bytes: usize,
}

impl Annex {
    fn new(window: u32, max_ranges: u32, private: u32) -> Result<Annex> {
        // A single range lives in the command's own cell.
        let ranges = if max_ranges > 1 {
            max_ranges as usize
        } else {
            0
        };
        let ranges_bytes = (ranges * size_of::<xcopy_range>()).next_multiple_of(16);
        let stride = ranges_bytes + (private as usize).next_multiple_of(16);
        let layout = stride
            .checked_mul(window as usize)
            .and_then(|size| Layout::from_size_align(size, 64).ok())
            .ok_or_else(|| Error::new(libc::ENOMEM, "the window is too large"))?;
        let memory = if layout.size() == 0 {
            None
        } else {
            // SAFETY: the size is not 0.
            let memory = NonNull::new(unsafe { alloc_zeroed(layout) });
            Some(memory.ok_or_else(|| {
                Error::new(libc::ENOMEM, "no memory for commands: use a smaller window")
            })?)
        };
        Ok(Annex {
            memory,
            layout,
            stride,
            ranges_bytes,
        })
    }

    fn ranges(&self, index: u32) -> *mut xcopy_range {
        match self.memory {
            // SAFETY: index is below the window that the memory was made for.
            Some(memory) if self.ranges_bytes > 0 => unsafe {
                memory.as_ptr().add(self.stride * index as usize).cast()
            },
            _ => std::ptr::null_mut(),
        }
    }

    fn private(&self, index: u32) -> *mut core::ffi::c_void {
        match self.memory {
            // SAFETY: as above, and ranges_bytes is at most the stride.
            Some(memory) => unsafe {
                memory
                    .as_ptr()
                    .add(self.stride * index as usize + self.ranges_bytes)
                    .cast()
            },
            None => std::ptr::null_mut(),
        }
    }
}

impl Drop for Annex {
    fn drop(&mut self) {
        if let Some(memory) = self.memory {
            // SAFETY: allocated in `new` with this layout.
            unsafe { dealloc(memory.as_ptr(), self.layout) };
        }
    }
}

/// A plugin's queue.
pub struct PluginQueue {
    /// The plugin.
    pub plugin: Arc<Plugin>,
    host: *mut HostQueue,
    annex: Annex,
    /// Its fd, once it was added to the queue's; UNASKED or MUTE.
    pub fd: i32,
}

impl PluginQueue {
    /// `fd` before the plugin was asked.
    pub const UNASKED: i32 = -1;
    /// `fd` of a plugin that has none.
    pub const MUTE: i32 = -2;

    /// Creates the plugin's queue on this thread; `index` is its place.
    pub fn new(
        plugin: Arc<Plugin>,
        shared: &Arc<QueueShared>,
        index: u32,
        flags: u32,
    ) -> Result<PluginQueue> {
        let table = plugin.table();
        let window = shared.cells.len() as u32;
        let annex = Annex::new(window, table.max_ranges, table.cmd_private)?;
        // A BLOCKING plugin has no queue that they could be called with.
        let queued = plugin.model() != XCOPY_MODEL_BLOCKING;
        let calls = (
            table.submit.filter(|_| queued),
            table.poll.filter(|_| queued),
        );
        let host = Box::into_raw(Box::new(HostQueue::new(shared, index, calls)));
        let mut handle = std::ptr::null_mut();
        if queued {
            let options = xcopy_plugin_queue_options {
                size: size_of::<xcopy_plugin_queue_options>() as u32,
                flags,
                window,
                reserved: 0,
            };
            let status = match table.queue_create {
                // SAFETY: state is the plugin's own; host outlives the queue;
                // options and handle outlive the call.
                Some(create) => unsafe {
                    create(plugin.state(), host.cast(), &options, &mut handle)
                },
                None => -libc::ENOSYS,
            };
            if status != 0 {
                // SAFETY: made above; the plugin refused and must not keep it.
                drop(unsafe { Box::from_raw(host) });
                let name = plugin.name();
                let errno = if (-4095..0).contains(&status) {
                    -status
                } else {
                    libc::EPROTO
                };
                let why = std::io::Error::from_raw_os_error(errno);
                return Err(Error::new(
                    errno,
                    format!("plugin {name} cannot make a queue: {why} (answer {status})"),
                ));
            }
        }
        add(&shared.stats.memory_bytes, annex.layout.size() as u64);
        // SAFETY: made above; freed by `destroy`, with which the queue's life ends.
        unsafe {
            (*host).made(handle);
            shared.straight().add_host(&*host);
        }
        Ok(PluginQueue {
            plugin,
            host,
            annex,
            fd: Self::UNASKED,
        })
    }

    /// The ranges' room of a command; NULL if its one range is in its cell.
    pub fn ranges_of(&self, index: u32) -> *mut xcopy_range {
        self.annex.ranges(index)
    }

    /// Bytes private to the plugin of a command.
    #[inline]
    pub fn private_of(&self, index: u32) -> *mut core::ffi::c_void {
        self.annex.private(index)
    }

    /// The core's side of it.
    #[inline(always)]
    pub fn host(&self) -> &HostQueue {
        // SAFETY: made in `new` and alive as long as `self`.
        unsafe { &*self.host }
    }

    /// Its pollable fd, or -1.
    pub fn pollable(&self) -> i32 {
        match (self.plugin.model(), self.plugin.table().queue_fd) {
            (XCOPY_MODEL_BLOCKING, _) | (_, None) => -1,
            // SAFETY: as in `poll`.
            (_, Some(queue_fd)) => unsafe { queue_fd(self.host().handle()) },
        }
    }

    /// Switches its fd on or off; true if it has something to do already, or
    /// has commands and no way to wake a sleeper.
    pub fn arm(&self, on: bool) -> bool {
        if self.plugin.model() == XCOPY_MODEL_BLOCKING {
            return false;
        }
        let busy = match self.plugin.table().arm {
            // SAFETY: as in `poll`.
            Some(arm) => unsafe { arm(self.host().handle(), u32::from(on)) == 1 },
            None => false,
        };
        on && self.host().flying() > 0 && (busy || self.is_mute())
    }

    /// Whether it has commands, and nothing tells a sleeper of their ends.
    pub fn is_mute(&self) -> bool {
        let tells = self.fd >= 0 || self.plugin.model() == XCOPY_MODEL_THREADED;
        !tells && self.plugin.model() != XCOPY_MODEL_BLOCKING && self.host().flying() > 0
    }

    /// Asks a command to end early.
    pub fn cancel(&self, command: *mut xcopy_cmd) {
        if let (Some(cancel), false) = (
            self.plugin.table().cancel,
            self.plugin.model() == XCOPY_MODEL_BLOCKING,
        ) {
            // SAFETY: as in `poll`; the command flies in this queue.
            unsafe { cancel(self.host().handle(), command) };
        }
    }

    /// Destroys the plugin's queue; only when nothing flies.
    pub fn destroy(self) {
        if let (Some(destroy), false) = (
            self.plugin.table().queue_destroy,
            self.plugin.model() == XCOPY_MODEL_BLOCKING,
        ) {
            // SAFETY: made in `new`, no command uses it, destroyed once.
            unsafe { destroy(self.host().handle()) };
        }
        // SAFETY: made in `new`; the plugin must not use it after queue_destroy.
        drop(unsafe { Box::from_raw(self.host) });
    }

    /// Leaves everything, itself too, to a plugin that still has commands:
    /// freeing what it may write to, or stopping it, would corrupt memory.
    pub fn abandon(self) {
        std::mem::forget(self);
    }
}
