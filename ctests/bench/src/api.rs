//! The functions of the library, found at run time as a daemon's loader would.

use crate::Failure;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::Path;
use xcopy_abi::*;

/// The entry point of a plugin.
pub type Init = unsafe extern "C" fn(*const xcopy_host) -> *const xcopy_plugin;

macro_rules! functions {
    ($($name:ident: fn($($arg:ty),*) -> $answer:ty;)*) => {
        /// What the benchmark calls.
        #[derive(Clone, Copy)]
        pub struct Api {
            $(pub $name: unsafe extern "C" fn($($arg),*) -> $answer,)*
        }

        impl Api {
            /// Loads the library for the life of the process.
            pub fn load(path: &Path) -> Result<Api, Failure> {
                // SAFETY: libxcopy has no constructors.
                let library = unsafe { libloading::Library::new(path) }
                    .map_err(|e| format!("cannot load {}: {e}; run ctests/package", path.display()))?;
                let library = Box::leak(Box::new(library));
                Ok(Api {
                    // SAFETY: the type is the one that xcopy.h declares.
                    $($name: *unsafe {
                        library.get(concat!("xcopy_", stringify!($name)).as_bytes())
                    }.map_err(|e| e.to_string())?,)*
                })
            }
        }
    };
}

functions! {
    last_error: fn() -> *const c_char;
    context_create: fn(*const xcopy_context_options, *mut *mut c_void) -> c_int;
    plugin_load_all: fn(*mut c_void, *const c_char) -> c_int;
    plugin_load: fn(*mut c_void, *const c_char) -> c_int;
    plugin_register: fn(*mut c_void, Option<Init>) -> c_int;
    context_options_init: fn(*mut xcopy_context_options, usize) -> c_int;
    device_open_native: fn(*mut c_void, *const c_char, *mut c_void, u32, *mut u32) -> c_int;
    device_open: fn(*mut c_void, *const c_char, u32, *mut u32) -> c_int;
    queue_options_init: fn(*mut xcopy_queue_options, usize) -> c_int;
    queue_create: fn(*mut c_void, *const xcopy_queue_options, *mut *mut c_void) -> c_int;
    submit: fn(*mut c_void, *const xcopy_request, usize, u32) -> c_int;
    poll: fn(*mut c_void, *mut xcopy_completion, usize, u32, u32, i64) -> c_int;
}

impl Api {
    /// An error if a call answered one.
    pub fn check(&self, what: &str, answer: c_int) -> Result<(), Failure> {
        if answer >= 0 {
            return Ok(());
        }
        // SAFETY: a NUL-terminated text, valid until this thread's next failure.
        let text = unsafe { CStr::from_ptr((self.last_error)()) };
        Err(format!("{what}: {answer} ({})", text.to_string_lossy()))
    }
}
