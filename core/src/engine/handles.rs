//! Handles of a context: devices are opened, found and closed, tokens found.

use super::barrier::barrier_all_threads;
use super::context::Context;
use super::devices::{Device, Origin, PluginHandle};
use super::tokens::Token;
use crate::device::KernelDevice;
use crate::error::{Error, Result};
use crate::plugin::Plugin;
use std::ffi::{CStr, CString, c_void};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use xcopy_abi::*;

impl Context {
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
        plugin: Arc<Plugin>,
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
    pub fn plugin_index(&self, plugin: &Arc<Plugin>) -> u16 {
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
