//! The copy of a plugin's table, and what is refused in it.
//!
//! Both sides' tables state their size and only grow at their end. The core
//! copies what both know into a table of its own that is zero beyond, and reads
//! nothing of the plugin's memory that the plugin did not declare.

use super::find::{self, NAME_MAX};
use crate::error::{Error, Result};
use std::ffi::{c_char, c_int};
use std::mem::{MaybeUninit, offset_of};
use xcopy_abi::*;

/// Size of the table in version 0.1: `execute` was its last field.
const FIRST_TABLE: usize = offset_of!(xcopy_plugin, execute) + size_of::<usize>();
/// Size of a method in version 0.1: `worth` was its last field.
const FIRST_METHOD: usize = offset_of!(xcopy_plugin_method, worth) + size_of::<u32>();
/// Bytes of `version` and `description` at most.
const TEXT_MAX: usize = 1023;

/// What a plugin offers, read and checked, its methods not numbered yet.
pub(super) struct Offer {
    /// Our copy.
    pub table: xcopy_plugin,
    pub name: String,
    pub version: String,
    pub description: String,
    pub methods: Vec<Offered>,
}

/// One method as the plugin states it.
pub(super) struct Offered {
    pub name: String,
    pub flags: u32,
    pub worth: u32,
}

/// Reads and checks a table. `origin` names the plugin in errors.
///
/// # Safety
/// `table` is NULL or what a plugin's entry point answered: as long as it says,
/// with pointers that are NULL or valid for the life of the process.
pub(super) unsafe fn read(table: *const xcopy_plugin, origin: &str) -> Result<Offer> {
    let refuse = |errno: c_int, why: String| Err(Error::new(errno, format!("{origin}: {why}")));
    if table.is_null() {
        let why = "the plugin cannot work with this libxcopy (it answered no table); install one \
                   that fits";
        return refuse(libc::ENOTSUP, why.into());
    }
    if !table.is_aligned() {
        return refuse(
            libc::EINVAL,
            "its table is not aligned; rebuild the plugin".into(),
        );
    }
    // SAFETY: every version's table begins with these two.
    let (size, version) = unsafe { ((*table).struct_size as usize, (*table).abi_version) };
    let (major, minor) = (version >> 16, version & 0xffff);
    let (our_major, our_minor) = (XCOPY_ABI_VERSION >> 16, XCOPY_ABI_VERSION & 0xffff);
    if major != our_major {
        return refuse(
            libc::ENOTSUP,
            format!(
                "built for plugin interface {major}.{minor}, this libxcopy has \
                 {our_major}.{our_minor}; install a plugin or a libxcopy of the same major version"
            ),
        );
    }
    if size < FIRST_TABLE {
        return refuse(
            libc::EINVAL,
            format!(
                "its table is {size} bytes long, the shortest legal one {FIRST_TABLE}; set \
                 struct_size = sizeof(struct xcopy_plugin)"
            ),
        );
    }
    // SAFETY: declared to be `size` bytes long; every field is an integer, a
    // raw pointer or an optional function, for all of which zero is valid.
    let table: xcopy_plugin = unsafe { copy_prefix(table.cast(), size) };
    if let Err(why) = check(&table) {
        return refuse(libc::EINVAL, why);
    }
    // SAFETY: the caller's promise on the pointers in the table.
    let texts = unsafe {
        (|| {
            Ok((
                read_name(table.name, "the plugin's name")?,
                read_text(table.version, "version", TEXT_MAX)?,
                read_text(table.description, "description", TEXT_MAX)?,
                read_methods(&table)?,
            ))
        })()
    };
    match texts {
        Ok((name, version, description, methods)) => Ok(Offer {
            table,
            name,
            version,
            description,
            methods,
        }),
        Err(why) => refuse(libc::EINVAL, why),
    }
}

/// The first `size` bytes of a foreign table as ours, the rest zero.
///
/// # Safety
/// `size` bytes can be read, and zero is a valid value of each of T's fields.
pub(super) unsafe fn copy_prefix<T>(from: *const u8, size: usize) -> T {
    let mut ours = MaybeUninit::<T>::zeroed();
    // SAFETY: reads at most what is there and writes at most what T holds; the
    // rest is zero, valid by the caller's promise.
    unsafe {
        std::ptr::copy_nonoverlapping(from, ours.as_mut_ptr().cast(), size.min(size_of::<T>()));
        ours.assume_init()
    }
}

/// What the numbers and functions of a table have to satisfy.
fn check(table: &xcopy_plugin) -> std::result::Result<(), String> {
    let needed: &[(&str, bool)] = match table.model {
        XCOPY_MODEL_POLLED | XCOPY_MODEL_THREADED => &[
            ("open", table.open.is_some()),
            ("close", table.close.is_some()),
            ("queue_create", table.queue_create.is_some()),
            ("queue_destroy", table.queue_destroy.is_some()),
            ("submit", table.submit.is_some()),
            (
                "poll",
                table.poll.is_some() || table.model == XCOPY_MODEL_THREADED,
            ),
        ],
        XCOPY_MODEL_BLOCKING => &[
            ("open", table.open.is_some()),
            ("close", table.close.is_some()),
            ("execute", table.execute.is_some()),
        ],
        XCOPY_MODEL_AFFINE => &[
            ("queue_create", table.queue_create.is_some()),
            ("queue_destroy", table.queue_destroy.is_some()),
            ("submit", table.submit.is_some()),
            ("poll", table.poll.is_some()),
        ],
        unknown => {
            return Err(format!(
                "unknown execution model {unknown}; use an XCOPY_MODEL_"
            ));
        }
    };
    if let Some((missing, _)) = needed.iter().find(|function| !function.1) {
        return Err(format!(
            "its table has no {missing}, which its execution model needs"
        ));
    }
    if table.nmethods > 0 && table.probe.is_none() && table.model != XCOPY_MODEL_AFFINE {
        return Err("it has methods but no probe to judge them".into());
    }
    if table.flags & (XCOPY_PLUGIN_KERNEL | XCOPY_PLUGIN_NATIVE) == 0 {
        return Err("it opens no devices: set XCOPY_PLUGIN_KERNEL or XCOPY_PLUGIN_NATIVE".into());
    }
    if table.cmd_private > 65_536 {
        return Err(format!(
            "cmd_private is {}, at most 65,536 are given",
            table.cmd_private
        ));
    }
    if !(1..=65_536).contains(&table.max_ranges) {
        return Err(format!(
            "max_ranges is {}, it must be 1 to 65,536",
            table.max_ranges
        ));
    }
    if table.nmethods as usize > XCOPY_METHOD_MAX {
        return Err(format!(
            "{} methods, at most {XCOPY_METHOD_MAX} can be",
            table.nmethods
        ));
    }
    if table.nmethods > 0 && table.methods.is_null() {
        return Err("methods is NULL but nmethods is not 0".into());
    }
    if table.nmethods > 0
        && (table.method_stride < FIRST_METHOD
            || !table.methods.is_aligned()
            || !table
                .method_stride
                .is_multiple_of(align_of::<xcopy_plugin_method>()))
    {
        return Err(format!(
            "method_stride is {}; set it to sizeof(struct xcopy_plugin_method)",
            table.method_stride
        ));
    }
    Ok(())
}

/// # Safety
/// As for [`read`]; `check` passed.
unsafe fn read_methods(table: &xcopy_plugin) -> std::result::Result<Vec<Offered>, String> {
    let mut methods: Vec<Offered> = Vec::new();
    for index in 0..table.nmethods as usize {
        // SAFETY: the plugin states nmethods of method_stride bytes each, of
        // which at most those are read; zero is valid in each field.
        let method: xcopy_plugin_method = unsafe {
            let at = table.methods.cast::<u8>().add(index * table.method_stride);
            copy_prefix(at, table.method_stride)
        };
        // SAFETY: the caller's promise on the pointers.
        let name = unsafe { read_name(method.name, "a method's name") }?;
        if methods.iter().any(|other| other.name == name) {
            return Err(format!("it offers the method '{name}' twice"));
        }
        methods.push(Offered {
            name,
            flags: method.flags,
            worth: method.worth,
        });
    }
    Ok(methods)
}

/// # Safety
/// `text` is NULL or NUL-terminated, or readable for longer than a name.
unsafe fn read_name(text: *const c_char, what: &str) -> std::result::Result<String, String> {
    // SAFETY: the caller's promise.
    let name = unsafe { read_text(text, what, NAME_MAX) }?;
    if find::is_name(name.as_bytes()) {
        return Ok(name);
    }
    let name: String = name.escape_default().collect();
    Err(format!(
        "{what} is '{name}'; use a-z, 0-9 and _, a letter first"
    ))
}

/// # Safety
/// `text` is NULL or NUL-terminated, or readable for more than `max` bytes.
unsafe fn read_text(
    text: *const c_char,
    what: &str,
    max: usize,
) -> std::result::Result<String, String> {
    if text.is_null() {
        return Err(format!("{what} is NULL; give a string"));
    }
    // SAFETY: strnlen reads up to the terminator and no more than max + 1.
    let len = unsafe { libc::strnlen(text, max + 1) };
    if len > max {
        return Err(format!("{what} is longer than {max} bytes"));
    }
    // SAFETY: strnlen just read these bytes; they are static.
    let bytes = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), len) };
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(format!("{what} is not UTF-8")),
    }
}
