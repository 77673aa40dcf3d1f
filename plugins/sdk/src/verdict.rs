//! Methods, and what a plugin says of them for a pair.

use crate::device::put_text;
use crate::errno;
use crate::failure::Failure;
use std::ffi::CStr;
use std::ptr;
use xcopy_abi::*;

/// A method of a plugin.
#[repr(transparent)]
pub struct Method(xcopy_plugin_method);

impl Method {
    /// A method of this name, `[a-z][a-z0-9_]*`; use your plugin's name as a
    /// prefix, because names are shared by all plugins.
    pub const fn new(name: &'static CStr) -> Method {
        Method(xcopy_plugin_method {
            name: name.as_ptr(),
            flags: 0,
            worth: 0,
        })
    }

    /// Its bytes do not pass through the host.
    pub const fn offloads(self) -> Method {
        self.with(XCOPY_METHOD_OFFLOADS)
    }

    /// It is chosen only when the caller names it.
    pub const fn by_name(self) -> Method {
        self.with(XCOPY_METHOD_BY_NAME)
    }

    /// It goes past the page cache of a kernel device.
    pub const fn bypasses_cache(self) -> Method {
        self.with(XCOPY_METHOD_BYPASSES_CACHE)
    }

    /// One command at a time for a queue and destination.
    pub const fn serial_dst(self) -> Method {
        self.with(XCOPY_METHOD_SERIAL_DST)
    }

    /// Other XCOPY_METHOD_ flags.
    pub const fn with(mut self, flags: u32) -> Method {
        self.0.flags |= flags;
        self
    }

    /// Higher is tried first.
    pub const fn worth(mut self, worth: u32) -> Method {
        self.0.worth = worth;
        self
    }
}

/// What a plugin says of one method for a pair.
#[derive(Clone, Copy)]
pub struct Verdict(pub(crate) xcopy_verdict);

impl Verdict {
    /// It can be used, within these limits.
    pub fn usable(limits: xcopy_limits) -> Verdict {
        Verdict(xcopy_verdict {
            usable: 1,
            limits,
            ..xcopy_verdict::default()
        })
    }

    /// It cannot, by an XCOPY_REASON_ and in words, with what to do next.
    pub fn refused(reason: u16, text: &str) -> Verdict {
        let mut verdict = xcopy_verdict {
            reason: reason.max(1),
            ..xcopy_verdict::default()
        };
        put_text(&mut verdict.text, text);
        Verdict(verdict)
    }

    /// It cannot, because of a failure.
    pub fn failed(failure: &Failure) -> Verdict {
        let reason = match (failure.reason, failure.errno) {
            (XCOPY_REASON_FAILED, errno::EPERM | errno::EACCES) => XCOPY_REASON_PERMISSION,
            (XCOPY_REASON_FAILED, errno::ENODEV) => XCOPY_REASON_REMOVED,
            (reason, _) => reason,
        };
        Verdict::refused(reason, &failure.text)
    }

    /// Why a usable method is not chosen by itself (by XCOPY_VERDICT_BY_NAME or
    /// _NEEDS_FEATURE): an XCOPY_REASON_, and in words what to do.
    pub fn because(mut self, reason: u16, text: &str) -> Verdict {
        self.0.reason = reason;
        put_text(&mut self.0.text, text);
        self
    }

    /// Seconds for which this holds.
    pub fn for_seconds(mut self, seconds: u16) -> Verdict {
        self.0.ttl_s = seconds;
        self
    }

    /// Estimated throughput, in bytes per microsecond.
    pub fn bytes_per_us(mut self, bytes: u32) -> Verdict {
        self.0.bytes_per_us = bytes;
        self
    }

    /// XCOPY_VERDICT_ flags.
    pub fn with(mut self, flags: u32) -> Verdict {
        self.0.flags |= flags;
        self
    }
}

impl std::fmt::Debug for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Verdict(xcopy_verdict { usable, reason, .. }) = self;
        write!(f, "Verdict {{ usable: {usable}, reason: {reason} }}")
    }
}

/// The C array of methods.
pub(crate) const fn methods_of(methods: &'static [Method]) -> *const xcopy_plugin_method {
    match methods.is_empty() {
        true => ptr::null(),
        // A Method is transparent.
        false => methods.as_ptr().cast(),
    }
}
