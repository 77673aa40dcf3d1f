//! The file plugin: what the kernel can copy by itself.
//!
//! - `reflink` shares extents between files of one file system. What a clone
//!   cannot do, a range out of line with the file system's blocks first of all,
//!   is left to the next method.
//! - `copy_file_range` is used unasked where the file system shares extents or
//!   its server copies (NFS 4.2, SMB). Elsewhere the kernel moves the bytes
//!   through its page cache, slower than reads and writes do: only by name, and
//!   its bytes count as emulated.
//! - `sendfile` moves bytes inside the kernel, across file systems and from and
//!   to block devices: only by name.
//!
//! The kernel's copies write holes as zeroes; a clone keeps them.

mod clone;
mod device;
mod fs;
mod kernel;
mod send;
#[cfg(test)]
mod tests;

use clone::{Trial, clone_range, judge, trial};
use device::Device;
use fs::block_of;
use kernel::{Moved, Ranges};
use std::ffi::{c_char, c_int, c_void};
use std::mem::{offset_of, size_of};
use std::os::fd::RawFd;
use std::ptr;
use xcopy_abi::guard::guard;
use xcopy_abi::*;

/// A clone takes time by its extents, not by its bytes; in between, a request
/// can be cancelled. Of data: holes cost nothing.
const PREFERRED_BYTES: u64 = 1 << 30;
/// Bytes of one command that the kernel may have to move: more would make cancel
/// slow.
const MOVED_MAX_BYTES: u64 = 64 << 20;
const MOVED_PREFERRED_BYTES: u64 = 16 << 20;

static METHODS: [xcopy_plugin_method; 3] = [
    xcopy_plugin_method {
        name: c"reflink".as_ptr(),
        flags: XCOPY_METHOD_OFFLOADS | XCOPY_METHOD_TAIL_AT_END,
        worth: 0,
    },
    xcopy_plugin_method {
        name: c"copy_file_range".as_ptr(),
        flags: XCOPY_METHOD_OFFLOADS,
        worth: 0,
    },
    xcopy_plugin_method {
        name: c"sendfile".as_ptr(),
        flags: XCOPY_METHOD_BY_NAME | XCOPY_METHOD_SERIAL_DST,
        worth: 0,
    },
];

static PLUGIN: xcopy_plugin = xcopy_plugin {
    struct_size: size_of::<xcopy_plugin>() as u32,
    abi_version: XCOPY_ABI_VERSION,
    name: c"file".as_ptr(),
    version: concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast(),
    description: c"Copies files inside the kernel (reflink, copy_file_range, sendfile)".as_ptr(),
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
    describe: None,
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
        let (kind, fd, name) = unsafe { ((*desc).kind, (*desc).fd, (*desc).name) };
        let known = [
            XCOPY_KIND_FILE,
            XCOPY_KIND_DISK,
            XCOPY_KIND_PARTITION,
            XCOPY_KIND_STACKED,
        ];
        if !known.contains(&kind) || fd < 0 {
            let told = "the kernel copies between files and block devices only";
            // SAFETY: NULL or the core's struct, whose size was set by the core.
            if !props.is_null() && unsafe { (*props).size } as usize >= props_with_text() {
                // SAFETY: the size says that the field is there.
                put_text(unsafe { &mut (*props).text }, told);
            }
            return -libc::ENOTSUP;
        }
        // SAFETY: NULL or a C string that lives for the call.
        let by_path = !name.is_null() && unsafe { *name } != 0;
        // SAFETY: the core's place for the handle.
        unsafe { *device = Box::into_raw(Box::new(Device::new(fd, kind, by_path))).cast() };
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
        let reflink = match reflink_verdict(src, dst) {
            Ok(verdict) => verdict,
            Err(errno) => return -errno,
        };
        let found = [reflink, range_verdict(src, dst), send_verdict(src)];
        for (at, verdict) in found.into_iter().take(n as usize).enumerate() {
            // SAFETY: the core's array of `n`, of the stride checked above.
            unsafe {
                let place = verdicts.cast::<u8>().add(at * stride);
                place.cast::<xcopy_verdict>().write(verdict);
            }
        }
        0
    })
}

/// A verdict that a method cannot be used.
fn refused(reason: u16, text: &str) -> xcopy_verdict {
    let mut verdict = xcopy_verdict {
        reason,
        ..xcopy_verdict::default()
    };
    put_text(&mut verdict.text, text);
    verdict
}

fn reflink_verdict(src: &Device, dst: &Device) -> Result<xcopy_verdict, i32> {
    if src.kind != XCOPY_KIND_FILE || dst.kind != XCOPY_KIND_FILE {
        let text = "only regular files share extents";
        return Ok(refused(XCOPY_REASON_WRONG_DEVICE, text));
    }
    let (src, dst) = (src.fd, dst.fd);
    let block = block_of(src)?.max(block_of(dst)?);
    let mut verdict = xcopy_verdict::default();
    match trial(src, dst, u64::from(block))? {
        Trial::Shares => {}
        Trial::Untried => put_text(&mut verdict.text, "not tried before the first copy"),
        Trial::Refuses(errno) => {
            let judged = judge(errno);
            return Ok(refused(judged.reason, judged.text));
        }
    }
    verdict.usable = 1;
    verdict.limits = xcopy_limits {
        preferred_bytes: span_of(src, PREFERRED_BYTES)?.next_multiple_of(u64::from(block)),
        src_granularity: block,
        dst_granularity: block,
        length_granularity: block,
        max_ranges: 1,
        ..xcopy_limits::default()
    };
    Ok(verdict)
}

/// Bytes of a file that hold so many bytes of data, by its share of holes.
fn span_of(fd: RawFd, data: u64) -> Result<u64, i32> {
    let found = fs::stat(fd)?;
    let size = u64::try_from(found.st_size).unwrap_or(0);
    let held = u64::try_from(found.st_blocks)
        .unwrap_or(0)
        .saturating_mul(512);
    let spans = u128::from(data) * u128::from(size) / u128::from(held.max(data));
    // Far from where it would overflow, and as good as all of any file.
    Ok(u64::try_from(spans)
        .unwrap_or(u64::MAX)
        .clamp(data, 1 << 62))
}

fn range_verdict(src: &Device, dst: &Device) -> xcopy_verdict {
    let mut verdict = xcopy_verdict {
        usable: 1,
        limits: moved_limits(),
        ..xcopy_verdict::default()
    };
    let block_device = src.kind != XCOPY_KIND_FILE || dst.kind != XCOPY_KIND_FILE;
    match kernel::judge_ranges(src, dst) {
        Ranges::Offloads => verdict.limits.preferred_bytes = MOVED_MAX_BYTES,
        Ranges::Moves => {
            verdict.flags = XCOPY_VERDICT_BY_NAME | XCOPY_VERDICT_THROUGH_HOST;
            if src.kind == XCOPY_KIND_FILE {
                verdict.flags |= XCOPY_VERDICT_FILLS_HOLES;
            }
            verdict.reason = XCOPY_REASON_SLOWER;
            let text = "the kernel would move the bytes, slower than reads and writes do; \
                        name the method to have it all the same";
            put_text(&mut verdict.text, text);
        }
        Ranges::Refused(libc::EINVAL) if block_device => {
            let text = "this kernel copies ranges between regular files only";
            return refused(XCOPY_REASON_NOT_SUPPORTED, text);
        }
        Ranges::Refused(errno) => {
            let judged = kernel::judge(errno);
            return refused(judged.reason, judged.text);
        }
    }
    verdict
}

fn send_verdict(src: &Device) -> xcopy_verdict {
    let mut verdict = xcopy_verdict {
        usable: 1,
        limits: moved_limits(),
        ..xcopy_verdict::default()
    };
    // One position, one command at a time.
    verdict.limits.max_concurrent = 1;
    if src.kind == XCOPY_KIND_FILE {
        verdict.flags = XCOPY_VERDICT_FILLS_HOLES;
    }
    verdict
}

/// Limits of what the kernel moves: any offset and any length.
fn moved_limits() -> xcopy_limits {
    xcopy_limits {
        preferred_bytes: MOVED_PREFERRED_BYTES,
        max_bytes: MOVED_MAX_BYTES,
        max_ranges: 1,
        ..xcopy_limits::default()
    }
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
        let moved = run(command);
        let mut ended = xcopy_result {
            cookie: command.cookie,
            bytes: moved.bytes,
            ..xcopy_result::default()
        };
        if moved.through_host {
            ended.flags |= XCOPY_RESULT_THROUGH_HOST;
        }
        if let Some(judged) = moved.stopped {
            ended.status = -moved.errno;
            ended.action = judged.action;
            ended.reason = judged.reason;
            ended.flags |= judged.flags;
            ended.detail = XCOPY_DETAIL_ERRNO << XCOPY_DETAIL_DOMAIN_SHIFT
                | u64::from(command.method) << XCOPY_DETAIL_METHOD_SHIFT
                | u64::from(moved.errno.unsigned_abs());
        }
        // SAFETY: the core's place for one result.
        unsafe { result.write(ended) };
        0
    })
}

/// Carries a command out.
fn run(command: &xcopy_cmd) -> Moved {
    let stopped = |errno: i32| Moved {
        bytes: 0,
        through_host: false,
        stopped: Some(judge(errno)),
        errno,
    };
    if command.op != XCOPY_CMD_COPY {
        return stopped(libc::EOPNOTSUPP);
    }
    // The plugin states one range per command.
    if command.nranges != 1 || command.ranges.is_null() {
        return stopped(libc::EINVAL);
    }
    // SAFETY: NULL or made by `open`; the core closes no device in use.
    let devices = unsafe {
        (
            command.src.cast::<Device>().as_ref(),
            command.dst.cast::<Device>().as_ref(),
        )
    };
    let (Some(src), Some(dst)) = devices else {
        return stopped(libc::EINVAL);
    };
    // SAFETY: one range, unchanged until the command is completed.
    let range = unsafe { &*command.ranges };
    match command.method {
        XCOPY_METHOD_COPY_FILE_RANGE => {
            let only = command.flags & XCOPY_CMD_OFFLOAD_ONLY != 0;
            kernel::copy_ranges(src, dst, range, only)
        }
        XCOPY_METHOD_SENDFILE => send::send(src, dst, range),
        _ => match clone_range(src.fd, dst.fd, range) {
            Ok(()) => Moved {
                bytes: range.length,
                through_host: false,
                stopped: None,
                errno: 0,
            },
            Err(errno) => stopped(errno),
        },
    }
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
