//! Safe wrappers around the C surface of libxcopy. The only unsafe code of the
//! command besides the check of plugins; it uses nothing that a C program could
//! not use.

mod queue;

#[cfg(test)]
pub use queue::empty_report;
pub use queue::{Finished, Queue, Request};

use std::ffi::{CStr, CString, OsStr, OsString, c_char, c_int, c_void};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use xcopy::abi::*;

use crate::failure::{Failure, Result, errno_text};
use crate::say;
use zeroize::Zeroizing;

/// Set while plugins are loaded: an error told then is only a warning here.
static LOADING: AtomicBool = AtomicBool::new(false);

unsafe extern "C" fn log(_: *mut c_void, level: u32, message: *const c_char) {
    let wanted =
        level == XCOPY_LOG_WARNING || level == XCOPY_LOG_ERROR && LOADING.load(Ordering::Relaxed);
    if wanted && !message.is_null() {
        // SAFETY: the library passes a NUL-terminated text that lives for this call.
        let text = unsafe { CStr::from_ptr(message) }.to_string_lossy();
        warn(&text);
    }
}

/// Tells a warning, the first time.
fn warn(text: &str) {
    static TOLD: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    if !told.iter().any(|known| known == text) {
        told.push(text.to_owned());
        say(&format!("warning: {text}"));
    }
}

/// The directories that the user names for plugins. Whoever runs the command with
/// more rights than his own names none, as in the library.
fn named_directories() -> Vec<OsString> {
    // SAFETY: takes no pointers.
    if unsafe { libc::getauxval(libc::AT_SECURE) } != 0 {
        return Vec::new();
    }
    let named = std::env::var_os("XCOPY_PLUGIN_DIR").unwrap_or_default();
    let directories = named.as_bytes().split(|byte| *byte == b':');
    directories
        .filter(|directory| !directory.is_empty())
        .map(|directory| OsStr::from_bytes(directory).to_owned())
        .collect()
}

/// The plugins that the command carries, by their names.
const BUILT_IN: [(&str, Init); 5] = [
    ("nvme", xcopy_plugin_nvme::init),
    ("file", xcopy_plugin_file::init),
    ("scsi", xcopy_plugin_scsi::init),
    ("null", xcopy_plugin_null::init),
    ("odx", xcopy_plugin_odx::init),
];

/// The text of this thread's last failed call, as a failure.
fn failure(code: c_int) -> Failure {
    // SAFETY: the answer is a NUL-terminated text, valid until this thread's
    // next failing call, and is copied before that.
    let text = unsafe { owned(xcopy::xcopy_last_error()) }.unwrap_or_default();
    let errno = code.saturating_neg();
    if text.is_empty() {
        return Failure::failed(errno, errno_text(errno));
    }
    Failure::failed(errno, text)
}

/// An answer of the library: a number, or a failure with its text.
fn checked(code: c_int) -> Result<u32> {
    u32::try_from(code).map_err(|_| failure(code))
}

/// # Safety
/// `text` is NULL or a NUL-terminated text that is valid for the call.
unsafe fn owned(text: *const c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: not NULL, and NUL-terminated and valid by this function's contract.
    Some(
        unsafe { CStr::from_ptr(text) }
            .to_string_lossy()
            .into_owned(),
    )
}

/// The text in a fixed field, up to its NUL or its end.
pub fn field(chars: &[c_char]) -> String {
    let bytes: Vec<u8> = chars
        .iter()
        .map(|c| *c as u8)
        .take_while(|c| *c != 0)
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn c_string(text: &OsStr) -> Result<CString> {
    CString::new(text.as_bytes())
        .map_err(|_| Failure::usage(format!("'{}' contains a NUL byte", text.to_string_lossy())))
}

/// A reason in words.
pub fn reason(reason: u16) -> String {
    // SAFETY: a pure function that answers a static text for every number.
    unsafe { owned(xcopy::xcopy_reason_string(reason)) }.unwrap_or_default()
}

/// A detail word in words; None when there is none.
pub fn detail(detail: u64) -> Option<String> {
    if detail == 0 {
        return None;
    }
    let mut text = [0; 512];
    // SAFETY: the library writes at most text.len() bytes, with a NUL.
    let needed = unsafe { xcopy::xcopy_detail_string(detail, text.as_mut_ptr(), text.len()) };
    (needed > 0).then(|| field(&text))
}

/// Whether the library loads a plugin's file, in a context of its own.
pub fn try_plugin(file: &Path) -> Result<()> {
    let file = c_string(file.as_os_str())?;
    let mut raw = std::ptr::null_mut();
    // SAFETY: NULL asks for the default options, raw is writable.
    checked(unsafe { xcopy::xcopy_context_create(std::ptr::null(), &mut raw) })?;
    let context = Context { raw };
    // SAFETY: the context is live, file is NUL-terminated.
    checked(unsafe { xcopy::xcopy_plugin_load(context.raw, file.as_ptr()) })?;
    Ok(())
}

/// A context: the library's state. Devices that are still open are closed with it.
pub struct Context {
    raw: *mut xcopy::xcopy_context,
}

/// Of an empty token.
pub fn empty_token_info() -> xcopy_token_info {
    // SAFETY: numbers and characters only: zero is valid for every field.
    unsafe { std::mem::zeroed() }
}

/// A static plugin's entry.
type Init = unsafe extern "C" fn(*const xcopy_host) -> *const xcopy_plugin;

impl Context {
    /// A context with the plugins of XCOPY_PLUGIN_DIR, the built-in ones whose
    /// names are left, and those that are installed. A plugin or a named directory
    /// that cannot be loaded is a warning on standard error.
    pub fn new() -> Result<Self> {
        let mut raw = std::ptr::null_mut();
        // SAFETY: all bytes of the struct are written by options_init, and zero
        // is valid for each field (NULL function pointers are None).
        let mut options: xcopy_context_options = unsafe { std::mem::zeroed() };
        // SAFETY: the pointer is valid for the size that is passed.
        checked(unsafe { xcopy::xcopy_context_options_init(&mut options, size_of_val(&options)) })?;
        options.log_level = XCOPY_LOG_WARNING;
        options.log = Some(log);
        // SAFETY: options are initialised, raw is writable; log is a function
        // that lives for ever and uses no context.
        checked(unsafe { xcopy::xcopy_context_create(&options, &mut raw) })?;
        let context = Context { raw };
        LOADING.store(true, Ordering::Relaxed);
        for directory in named_directories() {
            context.load_all(Some(&directory));
        }
        let loaded = context.plugins()?;
        for (name, init) in BUILT_IN {
            if !loaded.iter().any(|plugin| field(&plugin.name) == name) {
                context.register(init);
            }
        }
        context.load_all(None);
        LOADING.store(false, Ordering::Relaxed);
        Ok(context)
    }

    /// Loads what a directory, or else the library's own, holds.
    fn load_all(&self, directory: Option<&OsStr>) {
        let load = || {
            let name = directory.map(c_string).transpose()?;
            let raw = name.as_ref().map_or(std::ptr::null(), |name| name.as_ptr());
            // SAFETY: the context is live; NULL asks for the default directories,
            // else the name is NUL-terminated and lives for the call.
            checked(unsafe { xcopy::xcopy_plugin_load_all(self.raw, raw) })
        };
        if let Err(error) = load() {
            warn(&format!("plugins: {error}"));
        }
    }

    fn register(&self, init: Init) {
        // SAFETY: the context is live and init is a plugin's entry of this version.
        if let Err(error) = checked(unsafe { xcopy::xcopy_plugin_register(self.raw, Some(init)) }) {
            warn(&format!("plugins: {error}"));
        }
    }

    /// Opens a disk for writing, which claims it until the context is freed.
    pub fn claim(&self, path: &Path) -> Result<()> {
        self.open(path.as_os_str(), XCOPY_OPEN_READ | XCOPY_OPEN_WRITE)
            .map(drop)
    }

    /// The mask of some methods, by name.
    pub fn method_mask(&self, names: &[String]) -> Result<u32> {
        let names = c_string(OsStr::new(&names.join(",")))?;
        let mut mask = 0;
        // SAFETY: the context is live, names is NUL-terminated, mask is writable.
        checked(unsafe { xcopy::xcopy_method_mask(self.raw, names.as_ptr(), &mut mask) })?;
        Ok(mask)
    }

    /// A method's name.
    pub fn method_name(&self, method: u16) -> String {
        // SAFETY: the context is live; the answer lives as long and is copied here.
        unsafe { owned(xcopy::xcopy_method_name(self.raw, method)) }
            .unwrap_or_else(|| format!("method-{method}"))
    }

    /// What every registered plugin is.
    pub fn plugins(&self) -> Result<Vec<xcopy_plugin_info>> {
        // SAFETY: the context is live.
        let count = checked(unsafe { xcopy::xcopy_plugin_count(self.raw) })?;
        (0..count)
            .map(|index| {
                let mut info = xcopy_plugin_info {
                    name: [0; 32],
                    version: [0; 32],
                    description: [0; 128],
                    path: [0; 256],
                    methods: 0,
                    model: 0,
                    abi_version: 0,
                    cmd_private: 0,
                };
                // SAFETY: the context is live, info is writable for its size.
                checked(unsafe {
                    xcopy::xcopy_plugin_info(self.raw, index, &mut info, size_of_val(&info))
                })?;
                Ok(info)
            })
            .collect()
    }

    /// Opens a path or `name:spec`.
    pub fn open(&self, path: &OsStr, flags: u32) -> Result<u32> {
        let path = c_string(path)?;
        let mut device = XCOPY_HANDLE_NONE;
        // SAFETY: the context is live, path is NUL-terminated, device is writable.
        checked(unsafe { xcopy::xcopy_device_open(self.raw, path.as_ptr(), flags, &mut device) })?;
        Ok(device)
    }

    /// Opens what a descriptor is open on; the library keeps its own duplicate.
    pub fn open_fd(&self, fd: BorrowedFd<'_>, flags: u32) -> Result<u32> {
        let mut device = XCOPY_HANDLE_NONE;
        // SAFETY: the context is live, fd is open for the call, device is writable.
        checked(unsafe {
            xcopy::xcopy_device_open_fd(self.raw, fd.as_raw_fd(), flags, &mut device)
        })?;
        Ok(device)
    }

    /// Closes a device.
    pub fn close(&self, device: u32) -> Result<()> {
        // SAFETY: the context is live; any handle value is legal.
        checked(unsafe { xcopy::xcopy_device_close(self.raw, device) })?;
        Ok(())
    }

    /// What plugins found out of a device: lines of "plugin: key: value".
    pub fn device_description(&self, device: u32) -> Result<String> {
        let mut room: Vec<std::ffi::c_char> = vec![0; 4096];
        loop {
            // SAFETY: the context is live, the room is as long as is said.
            let answer = unsafe {
                xcopy::xcopy_device_describe(self.raw, device, room.as_mut_ptr(), room.len())
            };
            let whole = checked(answer)? as usize;
            if whole < room.len() {
                return Ok(field(&room));
            }
            room.resize(whole + 1, 0);
        }
    }

    /// What a device is.
    pub fn device_info(&self, device: u32) -> Result<xcopy_device_info> {
        // SAFETY: numbers and characters only: zero is valid for every field.
        let mut info: xcopy_device_info = unsafe { std::mem::zeroed() };
        // SAFETY: the context is live, info is writable for its size.
        checked(unsafe {
            xcopy::xcopy_device_info(self.raw, device, &mut info, size_of_val(&info))
        })?;
        Ok(info)
    }

    /// Every method's verdict on a pair, best first.
    pub fn pair(&self, src: u32, dst: u32) -> Result<Vec<xcopy_method_info>> {
        let mut methods = vec![
            xcopy_method_info {
                method: 0,
                reason: 0,
                usable: 0,
                offloaded: 0,
                generation: 0,
                limits: xcopy_limits::default(),
                name: [0; 32],
                plugin: [0; 32],
                text: [0; 160],
            };
            XCOPY_METHOD_MAX
        ];
        // SAFETY: the context is live; the array holds XCOPY_METHOD_MAX entries
        // of the stride that is passed.
        let known = checked(unsafe {
            xcopy::xcopy_pair_query(
                self.raw,
                src,
                dst,
                methods.as_mut_ptr(),
                size_of::<xcopy_method_info>(),
                XCOPY_METHOD_MAX as u32,
            )
        })?;
        methods.truncate(known as usize);
        Ok(methods)
    }

    /// An empty token.
    pub fn token_create(&self) -> Result<u32> {
        let mut token = XCOPY_HANDLE_NONE;
        // SAFETY: the context is live, token is writable.
        checked(unsafe { xcopy::xcopy_token_create(self.raw, &mut token) })?;
        Ok(token)
    }

    /// What a token is.
    pub fn token_info(&self, token: u32) -> Result<xcopy_token_info> {
        let mut info = empty_token_info();
        // SAFETY: the context is live, info is writable for its size.
        checked(unsafe {
            xcopy::xcopy_token_info(self.raw, token, &mut info, size_of_val(&info))
        })?;
        Ok(info)
    }

    /// The token itself: a bearer secret.
    pub fn token_export(&self, token: u32) -> Result<Zeroizing<Vec<u8>>> {
        let bytes = self.token_info(token)?.export_bytes;
        let mut buffer = Zeroizing::new(vec![0; usize::try_from(bytes).unwrap_or(0)]);
        let mut used = 0;
        // SAFETY: the context is live, buffer is writable for its length, used too.
        checked(unsafe {
            let memory = buffer.as_mut_ptr().cast();
            xcopy::xcopy_token_export(self.raw, token, memory, buffer.len(), &mut used)
        })?;
        buffer.truncate(used);
        Ok(buffer)
    }

    /// A token from what token_export gave.
    pub fn token_import(&self, bytes: &[u8]) -> Result<u32> {
        let mut token = XCOPY_HANDLE_NONE;
        // SAFETY: the context is live, bytes are readable for their length.
        checked(unsafe {
            xcopy::xcopy_token_import(self.raw, bytes.as_ptr().cast(), bytes.len(), &mut token)
        })?;
        Ok(token)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: raw came from context_create and is not used again. While a
        // queue was left behind the library refuses, which is a leak and no harm.
        unsafe { xcopy::xcopy_context_free(self.raw) };
    }
}
