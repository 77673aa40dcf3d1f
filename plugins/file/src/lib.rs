//! The file plugin: copies between files of one file system by sharing their
//! extents (method `reflink`). What a clone cannot do, a range out of line with
//! the file system's blocks first of all, is left to the next method.

mod clone;
#[cfg(test)]
mod tests;

use clone::{Trial, block_of, clone_range, judge, trial};
use std::ffi::{c_char, c_int, c_void};
use std::mem::{offset_of, size_of};
use std::os::fd::RawFd;
use std::ptr;
use xcopy_abi::guard::guard;
use xcopy_abi::*;

/// A clone takes time by its extents, not by its bytes; in between, a request
/// can be cancelled.
const PREFERRED_BYTES: u64 = 1 << 30;

/// An open file.
struct Device {
    /// The core's, valid until `close`.
    fd: RawFd,
}

static METHODS: [xcopy_plugin_method; 1] = [xcopy_plugin_method {
    name: c"reflink".as_ptr(),
    flags: XCOPY_METHOD_OFFLOADS,
    worth: 0,
}];

static PLUGIN: xcopy_plugin = xcopy_plugin {
    struct_size: size_of::<xcopy_plugin>() as u32,
    abi_version: XCOPY_ABI_VERSION,
    name: c"file".as_ptr(),
    version: concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast(),
    description: c"Copies files by sharing their extents (reflink)".as_ptr(),
    model: XCOPY_MODEL_BLOCKING,
    flags: XCOPY_PLUGIN_KERNEL,
    commands: XCOPY_CAN_COPY,
    cmd_private: 0,
    max_ranges: 1,
    nmethods: METHODS.len() as u32,
    methods: METHODS.as_ptr(),
    method_stride: size_of::<xcopy_plugin_method>(),
    start: None,
    stop: None,
    open: Some(open),
    close: Some(close),
    probe: Some(probe),
    queue_create: None,
    queue_destroy: None,
    submit: None,
    poll: None,
    queue_fd: None,
    arm: None,
    cancel: None,
    execute: Some(execute),
};

/// The plugin's entry point, for static registration.
///
/// # Safety
/// `host` is NULL or the core's table, valid for the life of the process.
pub unsafe extern "C" fn init(host: *const xcopy_host) -> *const xcopy_plugin {
    guard(ptr::null(), || {
        if host.is_null() {
            return ptr::null();
        }
        // SAFETY: the core's table, whose first field every version has.
        let offered = unsafe { (*host).struct_size };
        match offered as usize >= size_of::<xcopy_host>() {
            true => &raw const PLUGIN,
            false => ptr::null(),
        }
    })
}

unsafe extern "C" fn open(
    _state: *mut c_void,
    desc: *const xcopy_device_desc,
    device: *mut *mut c_void,
    props: *mut xcopy_device_props,
) -> c_int {
    guard(-libc::EFAULT, || {
        if desc.is_null() || device.is_null() {
            return -libc::EINVAL;
        }
        // SAFETY: the core's description, valid for the call; `size` is read
        // first, and nothing of a smaller one.
        let (size, desc) = unsafe { ((*desc).size, &raw const *desc) };
        if (size as usize) < size_of::<xcopy_device_desc>() {
            return -libc::EINVAL;
        }
        // SAFETY: all of the struct is there, and plain data.
        let (kind, fd) = unsafe { ((*desc).kind, (*desc).fd) };
        if kind != XCOPY_KIND_FILE || fd < 0 {
            let told = "only regular files share extents";
            // SAFETY: NULL or the core's struct, whose size was set by the core.
            if !props.is_null() && unsafe { (*props).size } as usize >= props_with_text() {
                // SAFETY: the size says that the field is there.
                put_text(unsafe { &mut (*props).text }, told);
            }
            return -libc::ENOTSUP;
        }
        // SAFETY: the core's place for the handle.
        unsafe { *device = Box::into_raw(Box::new(Device { fd })).cast() };
        0
    })
}

/// Bytes that a core's xcopy_device_props must have for its text to be there.
fn props_with_text() -> usize {
    offset_of!(xcopy_device_props, text) + size_of::<[c_char; 128]>()
}

unsafe extern "C" fn close(_state: *mut c_void, device: *mut c_void) {
    guard((), || {
        if !device.is_null() {
            // SAFETY: made by `open`, closed once, and no command uses it.
            drop(unsafe { Box::from_raw(device.cast::<Device>()) });
        }
    })
}

unsafe extern "C" fn probe(
    _state: *mut c_void,
    src: *mut c_void,
    dst: *mut c_void,
    verdicts: *mut xcopy_verdict,
    stride: usize,
    n: u32,
) -> c_int {
    guard(-libc::EFAULT, || {
        if n == 0 {
            return 0;
        }
        if verdicts.is_null() || stride < size_of::<xcopy_verdict>() {
            return -libc::EINVAL;
        }
        // SAFETY: NULL or made by `open`, and open during the call.
        let (src, dst) = unsafe { (src.cast::<Device>().as_ref(), dst.cast::<Device>().as_ref()) };
        let (Some(src), Some(dst)) = (src, dst) else {
            return -libc::EINVAL;
        };
        match verdict(src.fd, dst.fd) {
            Ok(verdict) => {
                // SAFETY: the core's array of at least one, of the stride checked above.
                unsafe { verdicts.write(verdict) };
                0
            }
            Err(errno) => -errno,
        }
    })
}

fn verdict(src: RawFd, dst: RawFd) -> Result<xcopy_verdict, i32> {
    let block = block_of(src)?.max(block_of(dst)?);
    let mut verdict = xcopy_verdict::default();
    match trial(src, dst, u64::from(block))? {
        Trial::Shares => {}
        Trial::Untried => put_text(&mut verdict.text, "not tried before the first copy"),
        Trial::Refuses(errno) => {
            let judged = judge(errno);
            verdict.reason = judged.reason;
            put_text(&mut verdict.text, judged.text);
            return Ok(verdict);
        }
    }
    verdict.usable = 1;
    verdict.limits = xcopy_limits {
        preferred_bytes: PREFERRED_BYTES.max(u64::from(block)),
        src_granularity: block,
        dst_granularity: block,
        length_granularity: block,
        max_ranges: 1,
        ..xcopy_limits::default()
    };
    Ok(verdict)
}

unsafe extern "C" fn execute(
    _state: *mut c_void,
    command: *mut xcopy_cmd,
    result: *mut xcopy_result,
) -> c_int {
    guard(-libc::EFAULT, || {
        if command.is_null() || result.is_null() {
            return -libc::EINVAL;
        }
        // SAFETY: the core's command, unchanged until it is completed.
        let command = unsafe { &*command };
        let outcome = run(command);
        let mut ended = xcopy_result {
            cookie: command.cookie,
            ..xcopy_result::default()
        };
        match outcome {
            Ok(bytes) => ended.bytes = bytes,
            Err(errno) => {
                let judged = judge(errno);
                ended.status = -errno;
                ended.action = judged.action;
                ended.reason = judged.reason;
                ended.flags = judged.flags;
                ended.detail = XCOPY_DETAIL_ERRNO << XCOPY_DETAIL_DOMAIN_SHIFT
                    | u64::from(command.method) << XCOPY_DETAIL_METHOD_SHIFT
                    | u64::from(errno.unsigned_abs());
            }
        }
        // SAFETY: the core's place for one result.
        unsafe { result.write(ended) };
        0
    })
}

/// Carries a command out; the bytes that are now shared, or an errno.
fn run(command: &xcopy_cmd) -> Result<u64, i32> {
    if command.op != XCOPY_CMD_COPY {
        return Err(libc::EOPNOTSUPP);
    }
    if command.nranges == 0 || command.ranges.is_null() {
        return Err(libc::EINVAL);
    }
    // SAFETY: NULL or made by `open`; the core closes no device in use.
    let devices = unsafe {
        (
            command.src.cast::<Device>().as_ref(),
            command.dst.cast::<Device>().as_ref(),
        )
    };
    let (Some(src), Some(dst)) = devices else {
        return Err(libc::EINVAL);
    };
    // SAFETY: `nranges` ranges, unchanged until the command is completed.
    let ranges = unsafe { std::slice::from_raw_parts(command.ranges, command.nranges as usize) };
    let mut bytes = 0_u64;
    for range in ranges {
        clone_range(src.fd, dst.fd, range)?;
        bytes = bytes.saturating_add(range.length);
    }
    Ok(bytes)
}

/// Puts a text, cut if need be, and its NUL.
fn put_text(place: &mut [c_char], text: &str) {
    let length = text.len().min(place.len().saturating_sub(1));
    for (to, from) in place
        .iter_mut()
        .zip(text.as_bytes()[..length].iter().chain(&[0]))
    {
        *to = *from as c_char;
    }
}
