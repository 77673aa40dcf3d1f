//! Devices and pairs of them.

use super::text::put_text;
use super::{c_str, call_shielded, context_of, give, null, utf8, xcopy_context};
use crate::engine::devices::{Device, Origin};
use crate::error::{Error, Result};
use core::ffi::{c_char, c_int, c_void};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use xcopy_abi::*;

/// Bytes of a verdict that every version has.
const METHOD_INFO_SIZE: usize = size_of::<xcopy_method_info>();

fn hand_out(place: *mut u32, device: Result<Arc<Device>>) -> Result<c_int> {
    let device = device?;
    // SAFETY: checked not to be NULL by the callers below.
    unsafe { place.write_unaligned(device.handle) };
    Ok(0)
}

/// Opens a device: open and fstat, no probe. A block device opened for writing
/// is claimed (O_EXCL) by the first handle of the process, and refused if it is
/// mounted or claimed by somebody else; so are the loop devices that are made of a
/// file that is opened for writing, and the file with them.
///
/// @param context The context.
/// @param name A path; or "plugin:spec", if a registered plugin of that name
///   opens devices of its own. Begin a path with "./" or "/" to be sure.
/// @param flags XCOPY_OPEN_ flags; READ for a source, WRITE for a destination.
/// @param device Receives the handle. The caller closes it.
/// @return 0, or -errno: -EINVAL, -ENOENT, -EACCES, -EPERM, -EROFS, -EBUSY
///   (mounted or claimed), -EMFILE, or what the plugin says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xcopy_device_open(
    context: *mut xcopy_context,
    name: *const c_char,
    flags: u32,
    device: *mut u32,
) -> c_int {
    call_shielded(|| {
        if device.is_null() {
            return Err(null("device"));
        }
        // SAFETY: the caller's pointers; see above.
        let (context, name) = unsafe { (context_of(context)?, c_str(name, "name")?) };
        hand_out(device, context.open(name, flags))
    })
}

/// Borrows an open file descriptor: it is duplicated, never reopened by path,
/// and stays the caller's.
///
/// @param context The context.
/// @param fd Open in the modes that `flags` ask for.
/// @param flags XCOPY_OPEN_ flags.
/// @param device Receives the handle.
/// @return 0, or -errno as for xcopy_device_open; -EBADF.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xcopy_device_open_fd(
    context: *mut xcopy_context,
    fd: c_int,
    flags: u32,
    device: *mut u32,
) -> c_int {
    call_shielded(|| {
        if device.is_null() {
            return Err(null("device"));
        }
        // SAFETY: the caller's pointer; see above.
        hand_out(device, unsafe { context_of(context) }?.open_fd(fd, flags))
    })
}

/// Hands a plugin the caller's own handle of a device that the kernel does not
/// know: a namespace, a connection, a volume. What it is, and who owns it
/// afterwards, is between the caller and the plugin.
///
/// @param context The context.
/// @param plugin Name of a registered plugin.
/// @param native The handle; must stay valid until the device is released.
/// @param flags XCOPY_OPEN_ flags.
/// @param device Receives the handle.
/// @return 0, or -errno: -ENOENT (plugin), -ENOTSUP, or what the plugin says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xcopy_device_open_native(
    context: *mut xcopy_context,
    plugin: *const c_char,
    native: *mut c_void,
    flags: u32,
    device: *mut u32,
) -> c_int {
    call_shielded(|| {
        if device.is_null() {
            return Err(null("device"));
        }
        // SAFETY: the caller's pointers; see above.
        let (context, plugin) = unsafe { (context_of(context)?, utf8(plugin, "plugin")?) };
        hand_out(device, context.open_native(plugin, native, flags))
    })
}

/// Closes a device. The handle is dead at once (-EBADF everywhere); requests in
/// flight finish, and then the fd or native handle is released.
///
/// @param context The context.
/// @param device The handle.
/// @return 0 released, 1 it will be when the last request in flight has ended
///   (ask xcopy_device_is_closed), or -EBADF.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xcopy_device_close(context: *mut xcopy_context, device: u32) -> c_int {
    call_shielded(|| {
        // SAFETY: the caller's pointer; see above.
        let released = unsafe { context_of(context) }?.close_device(device)?;
        Ok(c_int::from(!released))
    })
}

/// Whether what was behind a closed handle has been released.
///
/// @param context The context.
/// @param device A handle that was once given out.
/// @return 1 released, 0 not closed or still in use, -EBADF never a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xcopy_device_is_closed(
    context: *const xcopy_context,
    device: u32,
) -> c_int {
    call_shielded(|| {
        // SAFETY: the caller's pointer; see above.
        let context = unsafe { context_of(context) }?;
        match context.devices.get(device) {
            Some(found) => Ok(c_int::from(context.release_if_idle(&found))),
            None if context.devices.was_known(device) => Ok(1),
            None => Err(Error::new(libc::EBADF, "never a handle of this context")),
        }
    })
}

/// Describes a device.
///
/// @param context The context.
/// @param device The handle.
/// @param info Receives the description.
/// @param size sizeof(struct xcopy_device_info) as the caller was compiled.
/// @return 0, or -errno: -EBADF.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xcopy_device_info(
    context: *const xcopy_context,
    device: u32,
    info: *mut xcopy_device_info,
    size: usize,
) -> c_int {
    call_shielded(|| {
        // SAFETY: the caller's pointer; see above.
        let context = unsafe { context_of(context) }?;
        let device = context.device(device)?;
        let bytes = device.size.load(Ordering::Acquire);
        let mut described = xcopy_device_info {
            kind: device.kind,
            open_flags: device.flags,
            size_bytes: if bytes == u64::MAX {
                0
            } else {
                device.refresh_size()
            },
            block_size: device.block_size.load(Ordering::Relaxed),
            physical_block_size: device.physical_block_size.load(Ordering::Relaxed),
            dev_major: 0,
            dev_minor: 0,
            disk_major: 0,
            disk_minor: 0,
            disk_offset: 0,
            in_flight: context.device_in_flight(device.handle),
            events: device.peek_events(),
            size_known: u32::from(bytes != u64::MAX),
            reserved: 0,
            name: [0; 256],
        };
        if let Some(origin) = device.origin()
            && let Origin::Kernel(kernel) = origin.as_ref()
        {
            let facts = kernel.facts();
            (described.dev_major, described.dev_minor) = facts.dev;
            (described.disk_major, described.disk_minor) = facts.disk.unwrap_or((0, 0));
            described.disk_offset = facts.disk_offset;
        }
        put_text(&mut described.name, &device.name.to_string_lossy());
        // SAFETY: NULL or `size` writable bytes, by the contract above.
        unsafe { give(info, size, &described, "info") }?;
        Ok(0)
    })
}

/// Says what plugins found out of a device, for a person: lines of
/// "plugin: key: value", of which a key may come more than once. Asks the plugins
/// and opens the device for them if need be, which may block; silent on plugins
/// that open devices on a queue.
///
/// @param context The context.
/// @param device The handle.
/// @param text Receives the text, NUL-terminated and cut if it is longer; may be
///   NULL if `size` is 0.
/// @param size Bytes at `text`.
/// @return Bytes of the whole text without its NUL, or -errno: -EBADF.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xcopy_device_describe(
    context: *mut xcopy_context,
    device: u32,
    text: *mut c_char,
    size: usize,
) -> c_int {
    call_shielded(|| {
        if text.is_null() && size > 0 {
            return Err(null("text"));
        }
        // SAFETY: the caller's pointer; see above.
        let words = unsafe { context_of(context) }?.describe(device)?;
        if size > 0 {
            // SAFETY: not NULL; the caller's `size` bytes.
            put_text(
                unsafe { std::slice::from_raw_parts_mut(text, size) },
                &words,
            );
        }
        Ok(c_int::try_from(words.len()).unwrap_or(c_int::MAX))
    })
}

/// What happened to a device since the last call.
///
/// @param context The context.
/// @param device The handle.
/// @param events Receives XCOPY_EVENT_ flags and resets them.
/// @return 0, or -errno: -EBADF.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xcopy_device_events(
    context: *mut xcopy_context,
    device: u32,
    events: *mut u32,
) -> c_int {
    call_shielded(|| {
        if events.is_null() {
            return Err(null("events"));
        }
        // SAFETY: the caller's pointer; see above.
        let device = unsafe { context_of(context) }?.device(device)?;
        // SAFETY: not NULL; the caller's place.
        unsafe { events.write_unaligned(device.take_events()) };
        Ok(0)
    })
}

/// Forgets what is known of a device: verdicts, limits, methods that failed; and
/// looks at its size again. May block.
///
/// @param context The context.
/// @param device The handle.
/// @return 0, or -errno: -EBADF.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xcopy_device_invalidate(
    context: *mut xcopy_context,
    device: u32,
) -> c_int {
    call_shielded(|| {
        // SAFETY: the caller's pointer; see above.
        unsafe { context_of(context) }?.invalidate(device)?;
        Ok(0)
    })
}

/// Which methods can copy between two devices, best first, with their limits or
/// the reason why not. Synchronous; asks the plugins the first time, which may
/// block, and then answers from a cache. What a plugin says that opens devices
/// on a queue is known once XCOPY_OP_PREPARE has completed there.
///
/// @param context The context.
/// @param src Source.
/// @param dst Destination.
/// @param methods Receives up to `n` verdicts; may be NULL if `n` is 0.
/// @param stride sizeof(struct xcopy_method_info) as the caller was compiled.
/// @param n Places at `methods`.
/// @return The number of methods known, which may be more than `n`, or -errno:
///   -EINVAL for a stride smaller than the struct.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xcopy_pair_query(
    context: *mut xcopy_context,
    src: u32,
    dst: u32,
    methods: *mut xcopy_method_info,
    stride: usize,
    n: u32,
) -> c_int {
    call_shielded(|| {
        if n > 0 {
            if methods.is_null() {
                return Err(null("methods"));
            }
            if stride < METHOD_INFO_SIZE {
                return Err(Error::new(
                    libc::EINVAL,
                    "the stride of methods is too small: sizeof(struct xcopy_method_info)",
                ));
            }
        }
        // SAFETY: the caller's pointer; see above.
        let context = unsafe { context_of(context) }?;
        let (verdicts, generation) = context.verdicts(src, dst)?;
        for (index, verdict) in verdicts.iter().take(n as usize).enumerate() {
            let mut info = xcopy_method_info {
                method: verdict.id,
                reason: verdict.reason,
                usable: u32::from(verdict.usable),
                offloaded: u32::from(verdict.offloads()),
                generation,
                limits: verdict.limits,
                name: [0; 32],
                plugin: [0; 32],
                text: [0; 160],
            };
            let name = crate::plugin::fixed_name(verdict.id).map(|n| n.to_string_lossy());
            let of_plugin = || {
                let plugin = verdict.plugin.as_ref()?;
                plugin
                    .methods()
                    .iter()
                    .find(|m| m.id == verdict.id)
                    .map(|m| m.name.clone())
            };
            put_text(
                &mut info.name,
                &name.map(Into::into).or_else(of_plugin).unwrap_or_default(),
            );
            put_text(
                &mut info.plugin,
                verdict.plugin.as_ref().map_or("core", |p| p.name()),
            );
            let text = match (verdict.usable, verdict.text.is_empty()) {
                (true, _) if verdict.reason == 0 => "",
                (true, true) => crate::engine::reasons::text(verdict.reason),
                (false, true) => crate::engine::reasons::text(verdict.reason),
                (_, false) => &verdict.text,
            };
            put_text(&mut info.text, text);
            // SAFETY: one of the caller's `n` places of `stride` bytes.
            unsafe {
                give(
                    methods.cast::<u8>().add(stride * index).cast(),
                    stride,
                    &info,
                    "methods",
                )
            }?;
        }
        Ok(verdicts.len() as c_int)
    })
}
