//! What the tables of all models share: the context, devices, verdicts.

use crate::device::{Description, Held, device_of, put_text};
use crate::errno::{EFAULT, EINVAL};
use crate::failure::Failure;
use crate::host::{self, Host};
use crate::plugin::Plugin;
use crate::verdict::{Verdict, methods_of};
use std::ffi::{c_char, c_int, c_void};
use std::marker::PhantomData;
use std::ptr;
use xcopy_abi::guard::guard;
use xcopy_abi::*;

/// Answer of a function that stopped a panic.
pub(crate) const PANICKED: c_int = -EFAULT;

/// One context's state.
pub(crate) struct State<P> {
    pub(crate) plugin: P,
    host: Host,
}

/// A plugin's table without what its model adds.
pub(crate) const fn table<P: Plugin>(model: u32) -> xcopy_plugin {
    assert!(P::MAX_RANGES >= 1 && P::MAX_RANGES <= 65_536);
    assert!(P::METHODS.len() <= XCOPY_METHOD_MAX);
    xcopy_plugin {
        struct_size: size_of::<xcopy_plugin>() as u32,
        abi_version: XCOPY_ABI_VERSION,
        name: P::NAME.as_ptr(),
        version: P::VERSION.as_ptr(),
        description: P::DESCRIPTION.as_ptr(),
        model,
        flags: P::FLAGS,
        commands: P::COMMANDS,
        cmd_private: 0,
        max_ranges: P::MAX_RANGES,
        nmethods: P::METHODS.len() as u32,
        methods: methods_of(P::METHODS),
        method_stride: size_of::<xcopy_plugin_method>(),
        start: Some(start::<P>),
        stop: Some(stop::<P>),
        open: Some(open::<P>),
        close: Some(close::<P>),
        probe: Some(probe::<P>),
        queue_create: None,
        queue_destroy: None,
        submit: None,
        poll: None,
        queue_fd: None,
        arm: None,
        cancel: None,
        execute: None,
        describe: Some(describe::<P>),
    }
}

/// Keeps the host, and answers the table if the plugin can work with it.
///
/// # Safety
/// `host` is NULL or a core's table, valid for the life of the process.
pub(crate) unsafe fn answer(
    host: *const xcopy_host,
    table: &'static xcopy_plugin,
) -> *const xcopy_plugin {
    guard(ptr::null(), || {
        // SAFETY: the caller's word.
        match unsafe { host::accept(host) } {
            true => ptr::from_ref(table),
            false => ptr::null(),
        }
    })
}

/// # Safety
/// `state` is NULL or what `start` of the same plugin made, not stopped for `'a`.
pub(crate) unsafe fn state_of<'a, P>(state: *mut c_void) -> Option<&'a State<P>> {
    // SAFETY: the caller's word.
    unsafe { state.cast::<State<P>>().as_ref() }
}

unsafe extern "C" fn start<P: Plugin>(host_ctx: *mut c_void, state: *mut *mut c_void) -> c_int {
    guard(PANICKED, || {
        if state.is_null() {
            return -EINVAL;
        }
        let host = Host::new(host_ctx);
        match P::start(host.clone()) {
            Ok(plugin) => {
                let made = Box::new(State { plugin, host });
                // SAFETY: the core's place for the state, not NULL.
                unsafe { *state = Box::into_raw(made).cast() };
                0
            }
            Err(failure) => {
                if !failure.text.is_empty() {
                    host.log(host::Level::Error, &failure.text);
                }
                host.close();
                -failure.errno
            }
        }
    })
}

unsafe extern "C" fn stop<P: Plugin>(state: *mut c_void) {
    guard((), || {
        if state.is_null() {
            return;
        }
        // SAFETY: `start` made it, and stop is the last call with it.
        let state = unsafe { Box::from_raw(state.cast::<State<P>>()) };
        let State { plugin, host } = *state;
        // Memory of the host has to be given back before its context is gone.
        guard((), || drop(plugin));
        host.close();
    });
}

unsafe extern "C" fn open<P: Plugin>(
    state: *mut c_void,
    desc: *const xcopy_device_desc,
    device: *mut *mut c_void,
    props: *mut xcopy_device_props,
) -> c_int {
    guard(PANICKED, || {
        // SAFETY: the context's state; the core's description, during the call.
        let both = unsafe { state_of::<P>(state).zip(Description::new(desc)) };
        let Some((state, desc)) = both else {
            return -EINVAL;
        };
        // SAFETY: NULL, or the core's struct, whose size the core set.
        let room = !props.is_null()
            && unsafe { (*props).size } as usize >= size_of::<xcopy_device_props>();
        if device.is_null() || !room {
            return -EINVAL;
        }
        // SAFETY: the core's struct, long enough, ours during the call.
        let props = unsafe { &mut *props };
        match state.plugin.open(&desc) {
            Ok(opened) => {
                opened.tell(props);
                let held = Box::new(Held {
                    device: opened.device,
                    events: desc.events(),
                });
                // SAFETY: the core's place for the handle, not NULL.
                unsafe { *device = Box::into_raw(held).cast() };
                0
            }
            Err(failure) => {
                desc.events().close();
                let text = match failure.text.as_str() {
                    "" => "the plugin refused it and did not say why",
                    text => text,
                };
                put_text(&mut props.text, text);
                -failure.errno
            }
        }
    })
}

unsafe extern "C" fn close<P: Plugin>(_state: *mut c_void, device: *mut c_void) {
    guard((), || {
        if !device.is_null() {
            // SAFETY: `open` made it, and nothing uses it after close.
            let held = unsafe { Box::from_raw(device.cast::<Held<P::Device>>()) };
            held.events.close();
            drop(held);
        }
    });
}

unsafe extern "C" fn describe<P: Plugin>(
    state: *mut c_void,
    device: *mut c_void,
    text: *mut c_char,
    size: usize,
) -> c_int {
    guard(PANICKED, || {
        // SAFETY: the context's state, and a handle that is NULL or open.
        let both = unsafe { state_of::<P>(state).zip(device_of::<P::Device>(device, PhantomData)) };
        let Some((state, device)) = both else {
            return -EINVAL;
        };
        let words = state.plugin.describe(device).unwrap_or_default();
        if !text.is_null() && size > 0 {
            // SAFETY: the core's room of `size` bytes, ours during the call.
            put_text(
                unsafe { std::slice::from_raw_parts_mut(text, size) },
                &words,
            );
        }
        c_int::try_from(words.len()).unwrap_or(c_int::MAX)
    })
}

unsafe extern "C" fn probe<P: Plugin>(
    state: *mut c_void,
    src: *mut c_void,
    dst: *mut c_void,
    verdicts: *mut xcopy_verdict,
    stride: usize,
    n: u32,
) -> c_int {
    guard(PANICKED, || {
        // SAFETY: the context's state, and handles that are NULL or open.
        let (state, src, dst) = unsafe {
            (
                state_of::<P>(state),
                device_of::<P::Device>(src, PhantomData),
                device_of::<P::Device>(dst, PhantomData),
            )
        };
        let Some(state) = state else {
            return -EINVAL;
        };
        if verdicts.is_null() || stride < size_of::<xcopy_verdict>() {
            return -EINVAL;
        }
        for method in 0..P::METHODS.len().min(n as usize) {
            let found: Result<Verdict, Failure> = state.plugin.probe(method, src, dst);
            let Verdict(verdict) = match found {
                Ok(verdict) => verdict,
                Err(failure) => return -failure.errno,
            };
            // SAFETY: the core's array of `n`, of the stride checked above.
            unsafe {
                let place = verdicts.cast::<u8>().add(method * stride);
                place.cast::<xcopy_verdict>().write(verdict);
            }
        }
        0
    })
}
