//! Plugins of a context.

use super::text::put_text;
use super::{call_shielded, context_of, give, utf8, xcopy_context};
use crate::error::Error;
use core::ffi::{c_char, c_int};
use std::path::Path;
use xcopy_abi::*;

/// Loads one plugin. The file must belong to root or the caller and must not be
/// writable by others. Plugins stay loaded until the process ends.
///
/// @param context The context.
/// @param name_or_path A name ("scsi"), looked for as libxcopy_NAME.so in the
///   directories of XCOPY_PLUGIN_DIR (ignored in a set-uid program) and then in
///   the installed directory; or a path, if it contains a '/'.
/// @return 0, or -errno: -ENOENT, -EACCES (owner or mode), -EEXIST (a plugin of
///   that name is registered), -ENOEXEC (no plugin, or another major version),
///   -ELIBACC (the loader refuses it), -EINVAL (no name of a plugin, or a table
///   that breaks the contract), or what its start function answers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xcopy_plugin_load(
    context: *mut xcopy_context,
    name_or_path: *const c_char,
) -> c_int {
    call_shielded(|| {
        // SAFETY: the caller's pointers; see above.
        let (context, name) =
            unsafe { (context_of(context)?, utf8(name_or_path, "name_or_path")?) };
        context.load_plugin(name)?;
        Ok(0)
    })
}

/// Loads every plugin of a directory. A file that is refused is logged and
/// passed over; so is a name that is registered already.
///
/// @param context The context.
/// @param directory NULL for the directories that xcopy_plugin_load searches.
/// @return The number loaded, or -errno.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xcopy_plugin_load_all(
    context: *mut xcopy_context,
    directory: *const c_char,
) -> c_int {
    call_shielded(|| {
        // SAFETY: the caller's pointer; see above.
        let context = unsafe { context_of(context) }?;
        if directory.is_null() {
            return Ok(context.load_plugins(None)? as c_int);
        }
        // SAFETY: not NULL, NUL-terminated by the contract above.
        let directory = unsafe { utf8(directory, "directory") }?;
        Ok(context.load_plugins(Some(Path::new(directory)))? as c_int)
    })
}

/// Registers a plugin that is linked into the program.
///
/// @param context The context.
/// @param init The plugin's init function.
/// @return 0, or -errno as for xcopy_plugin_load.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xcopy_plugin_register(
    context: *mut xcopy_context,
    init: xcopy_plugin_init_fn,
) -> c_int {
    call_shielded(|| {
        // SAFETY: the caller's pointer; see above.
        unsafe { context_of(context) }?.register_plugin(init)?;
        Ok(0)
    })
}

/// Number of registered plugins.
///
/// @param context The context.
/// @return The number, or -errno.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xcopy_plugin_count(context: *const xcopy_context) -> c_int {
    call_shielded(|| {
        // SAFETY: the caller's pointer; see above.
        Ok(unsafe { context_of(context) }?.registry.plugins().len() as c_int)
    })
}

/// Describes a registered plugin.
///
/// @param context The context.
/// @param index 0 to xcopy_plugin_count - 1.
/// @param info Receives the description.
/// @param size sizeof(struct xcopy_plugin_info) as the caller was compiled.
/// @return 0, or -errno: -ENOENT (index).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xcopy_plugin_info(
    context: *const xcopy_context,
    index: u32,
    info: *mut xcopy_plugin_info,
    size: usize,
) -> c_int {
    call_shielded(|| {
        // SAFETY: the caller's pointer; see above.
        let plugins = unsafe { context_of(context) }?.registry.plugins();
        let plugin = plugins
            .get(index as usize)
            .ok_or_else(|| Error::new(libc::ENOENT, format!("there is no plugin {index}")))?;
        let mut described = xcopy_plugin_info {
            name: [0; 32],
            version: [0; 32],
            description: [0; 128],
            path: [0; 256],
            methods: plugin.method_mask(),
            model: plugin.model(),
            abi_version: plugin.table().abi_version,
            cmd_private: plugin.table().cmd_private,
        };
        put_text(&mut described.name, plugin.name());
        put_text(&mut described.version, plugin.version());
        put_text(&mut described.description, plugin.description());
        if let Some(path) = plugin.path() {
            put_text(&mut described.path, &path.to_string_lossy());
        }
        // SAFETY: NULL or `size` writable bytes, by the contract above.
        unsafe { give(info, size, &described, "info") }?;
        Ok(0)
    })
}
