//! What the core offers to plugins: the host table.

use super::context::Context;
use super::devices::Device;
use super::host_queue::HostQueue;
use core::ffi::{c_char, c_void};
use xcopy_abi::guard::guard;
use xcopy_abi::*;

/// Commands of other threads that are delivered with one step.
const GROUP: usize = 64;

/// The host table, one for the process.
pub static HOST: xcopy_host = xcopy_host {
    struct_size: size_of::<xcopy_host>() as u32,
    abi_version: XCOPY_ABI_VERSION,
    log: Some(log),
    alloc: Some(alloc),
    free: Some(free),
    complete: Some(complete),
    complete_local: Some(complete_local),
    device_event: Some(device_event),
};

unsafe extern "C" fn log(host_ctx: *mut c_void, level: u32, message: *const c_char) {
    guard((), || {
        if host_ctx.is_null() || message.is_null() {
            return;
        }
        // SAFETY: host_ctx is the Context that started the plugin and outlives it.
        let context = unsafe { &*host_ctx.cast::<Context>() };
        // SAFETY: the plugin's word, not NULL.
        unsafe { context.log_raw(level, message) };
    });
}

unsafe extern "C" fn alloc(host_ctx: *mut c_void, size: usize, align: usize) -> *mut c_void {
    guard(std::ptr::null_mut(), || {
        if host_ctx.is_null() || size == 0 || !align.is_power_of_two() {
            return std::ptr::null_mut();
        }
        // SAFETY: as in `log`.
        let context = unsafe { &*host_ctx.cast::<Context>() };
        match context.allocator() {
            // SAFETY: the caller's allocator, with a size and a power of two.
            (Some(alloc), _, ctx) => unsafe {
                let given = context.gate.pass(|| alloc(ctx, size, align));
                given.unwrap_or(std::ptr::null_mut())
            },
            (None, ..) => {
                let mut memory = std::ptr::null_mut();
                let align = align.max(size_of::<*mut c_void>());
                // SAFETY: a valid place for the answer, a power of two, not 0.
                match unsafe { libc::posix_memalign(&mut memory, align, size) } {
                    0 => memory,
                    _ => std::ptr::null_mut(),
                }
            }
        }
    })
}

unsafe extern "C" fn free(host_ctx: *mut c_void, memory: *mut c_void, size: usize, align: usize) {
    guard((), || {
        if host_ctx.is_null() || memory.is_null() {
            return;
        }
        // SAFETY: as in `log`.
        let context = unsafe { &*host_ctx.cast::<Context>() };
        match context.allocator() {
            // SAFETY: the caller's allocator gave the memory. Past the gate it is
            // lost.
            (_, Some(free), ctx) => unsafe {
                context.gate.pass(|| free(ctx, memory, size, align));
            },
            // SAFETY: posix_memalign gave the memory.
            (_, None, _) => unsafe { libc::free(memory) },
        }
    });
}

/// Reads result `index` of an array with the plugin's own stride.
///
/// # Safety
/// `results` points to at least `index + 1` results of `stride` bytes.
unsafe fn result_at(results: *const xcopy_result, stride: usize, index: u32) -> xcopy_result {
    let mut result = xcopy_result::default();
    let size = stride.min(size_of::<xcopy_result>());
    // SAFETY: `size` bytes are there by the caller's word and fit the result;
    // all its fields are plain data, so any bytes are a value.
    unsafe {
        std::ptr::copy_nonoverlapping(
            results.cast::<u8>().add(stride * index as usize),
            (&raw mut result).cast::<u8>(),
            size,
        );
    }
    result
}

unsafe extern "C" fn complete(
    queue: *mut xcopy_host_queue,
    results: *const xcopy_result,
    stride: usize,
    n: u32,
) {
    guard((), || {
        if queue.is_null() || results.is_null() {
            return;
        }
        // SAFETY: a plugin queue's host queue lives until queue_destroy returned,
        // and for ever if commands were left behind.
        let host = unsafe { &*queue.cast::<HostQueue>() };
        let ours = stride == size_of::<xcopy_result>();
        // Delivered in groups: one atomic step and at most one wake-up for each.
        let mut group = [0u32; GROUP];
        let mut from = 0;
        while from < n {
            let to = n.min(from + GROUP as u32);
            if ours {
                for index in from..to {
                    // SAFETY: the plugin's word: `n` results of our size.
                    let cookie = unsafe { (*results.add(index as usize)).cookie };
                    host.shared.expect_end(cookie);
                }
            }
            let mut filled = 0;
            for index in from..to {
                // SAFETY: the plugin's word.
                let ended = unsafe {
                    if ours {
                        let result = &*results.add(index as usize);
                        host.shared.end_remote(host.plugin, result)
                    } else {
                        let result = result_at(results, stride, index);
                        host.shared.end_remote(host.plugin, &result)
                    }
                };
                if let Some(ended) = ended {
                    group[filled] = ended;
                    filled += 1;
                }
            }
            host.shared.deliver(&group[..filled]);
            from = to;
        }
    });
}

unsafe extern "C" fn complete_local(
    queue: *mut xcopy_host_queue,
    results: *const xcopy_result,
    stride: usize,
    n: u32,
) {
    guard((), || {
        if queue.is_null() || results.is_null() {
            return;
        }
        // SAFETY: as in `complete`.
        let host = unsafe { &*queue.cast::<HostQueue>() };
        if stride == size_of::<xcopy_result>() {
            // SAFETY: the plugin's word: its owner's thread, `n` results of our size.
            return unsafe { host.complete_local(results, n) };
        }
        // SAFETY: as above.
        unsafe { complete_resized(host, results, stride, n) };
    });
}

/// Ends commands by results of another size than ours.
///
/// # Safety
/// `results` points to `n` results of `stride` bytes.
#[cold]
#[inline(never)]
unsafe fn complete_resized(host: &HostQueue, results: *const xcopy_result, stride: usize, n: u32) {
    for index in 0..n {
        // SAFETY: the caller's word.
        let result = unsafe { result_at(results, stride, index) };
        host.shared.complete_on_owner(host.plugin, &result);
    }
}

unsafe extern "C" fn device_event(host_device: *mut c_void, events: u32, size_bytes: u64) {
    guard((), || {
        if host_device.is_null() {
            return;
        }
        // SAFETY: the plugin got the pointer in the descriptor of a device that
        // is not released before the plugin closed it.
        let device = unsafe { &*host_device.cast::<Device>() };
        device.raise(events, size_bytes);
    });
}
