//! The null plugin called without the core: what is left of the path then.

use crate::api::Init;
use crate::{Failure, Work};
use std::cell::UnsafeCell;
use std::ffi::{c_char, c_void};
use std::path::Path;
use std::ptr;
use xcopy_abi::*;

/// What `complete_local` saw: the benchmark's place of a core.
struct Seen {
    ended: u64,
    bytes: u64,
}

static HOST: xcopy_host = xcopy_host {
    struct_size: size_of::<xcopy_host>() as u32,
    abi_version: XCOPY_ABI_VERSION,
    log: Some(log),
    alloc: None,
    free: None,
    complete: Some(complete),
    complete_local: Some(complete),
    device_event: None,
};

unsafe extern "C" fn log(_: *mut c_void, _: u32, _: *const c_char) {}

unsafe extern "C" fn complete(
    queue: *mut xcopy_host_queue,
    results: *const xcopy_result,
    stride: usize,
    n: u32,
) {
    // SAFETY: `queue` is what `alone` gave, used by its thread only; the
    // plugin hands over `n` results.
    unsafe {
        let seen = &mut *(*queue.cast::<UnsafeCell<Seen>>()).get();
        for k in 0..n as usize {
            let result = &*results.byte_add(stride * k);
            if result.status == 0 {
                seen.bytes = seen.bytes.wrapping_add(result.bytes ^ result.cookie);
            }
        }
        seen.ended += u64::from(n);
    }
}

/// `batch` commands are submitted, then polled for.
pub fn alone(path: &Path, batch: u32) -> Result<Work, Failure> {
    // SAFETY: a plugin has no constructors.
    let library = unsafe { libloading::Library::new(path) }
        .map_err(|e| format!("cannot load {}: {e}; run ctests/package", path.display()))?;
    let library = Box::leak(Box::new(library));
    // SAFETY: the type is the one that xcopy_plugin.h declares.
    let init: Init = *unsafe { library.get(b"xcopy_plugin_init_v0") }.map_err(|e| e.to_string())?;
    // SAFETY: a table for the life of the process; the plugin's is as well.
    let table = unsafe { init(&HOST).as_ref() }.ok_or("the null plugin refuses its host")?;
    let (Some(start), Some(create), Some(submit), Some(poll)) =
        (table.start, table.queue_create, table.submit, table.poll)
    else {
        return Err("the null plugin's table has no start, queue_create, submit or poll".into());
    };
    let seen: &'static UnsafeCell<Seen> =
        Box::leak(Box::new(UnsafeCell::new(Seen { ended: 0, bytes: 0 })));
    let options = xcopy_plugin_queue_options {
        size: size_of::<xcopy_plugin_queue_options>() as u32,
        flags: 0,
        window: 256,
        reserved: 0,
    };
    let (mut state, mut queue) = (ptr::null_mut(), ptr::null_mut());
    let host_queue = ptr::from_ref(seen).cast_mut().cast::<xcopy_host_queue>();
    // SAFETY: the order of calls and the places that the contract asks for.
    let status = unsafe {
        match start(ptr::null_mut(), &mut state) {
            0 => create(state, host_queue, &options, &mut queue),
            status => status,
        }
    };
    if status != 0 {
        return Err(format!("the null plugin makes no queue: {status}"));
    }
    // SAFETY: a command of zeroes is a valid one: integers and NULLs.
    let mut commands: Vec<xcopy_cmd> = (0..batch).map(|_| unsafe { std::mem::zeroed() }).collect();
    let ranges = vec![xcopy_range::default(); batch as usize];
    for (command, range) in commands.iter_mut().zip(&ranges) {
        command.op = XCOPY_CMD_COPY;
        command.ranges = range;
        command.nranges = 1;
    }
    let base = commands.as_mut_ptr();
    // SAFETY: inside the array.
    let pointers: Vec<*mut xcopy_cmd> = (0..batch)
        .map(|k| unsafe { base.add(k as usize) })
        .collect();
    let mut number = 0u64;
    Ok(Box::new(move |ops| {
        let _owned = (&commands, &ranges);
        let end = number + ops;
        let mut sum = 0u64;
        // SAFETY: only this thread's `complete`, inside poll, touches it else.
        let before = unsafe { ((*seen.get()).ended, (*seen.get()).bytes) };
        while number < end {
            for &command in &pointers {
                // SAFETY: ours: the plugin has none of them now.
                unsafe {
                    (*command).cookie = number;
                    (*command).bytes = 4096;
                }
                sum = sum.wrapping_add(number ^ 4096);
                number += 1;
            }
            // SAFETY: the plugin's queue, and commands that live in `commands`.
            let taken = unsafe { submit(queue, pointers.as_ptr(), batch) };
            // SAFETY: as above.
            unsafe { poll(queue, 256) };
            if taken != batch as i32 {
                return Err(format!("the plugin took {taken} of {batch}"));
            }
        }
        // SAFETY: as above.
        let after = unsafe { ((*seen.get()).ended, (*seen.get()).bytes) };
        if after.0 - before.0 != ops || after.1 != before.1.wrapping_add(sum) {
            return Err("commands were lost or changed".into());
        }
        Ok(())
    }))
}
