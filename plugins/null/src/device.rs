//! Devices: `null:SIZE[,key=value...]`, all storage and no content.
//!
//! A spec states what the device pretends to be. With a native handle instead
//! of a name, the handle points to such a spec, NUL-terminated.

use crate::{MAX_RANGES, PANICKED};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::offset_of;
use std::time::Duration;
use xcopy_abi::guard::guard;
use xcopy_abi::*;

const KEYS: &str = "block, max, range, ranges, conc, id, ro, delay_us, src_gran, dst_gran, \
                    len_gran, contiguous";
const DEFAULT_SIZE: u64 = 1 << 40;

/// What a spec said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) size: u64,
    pub(crate) block: u32,
    pub(crate) identity: u64,
    pub(crate) read_only: bool,
    pub(crate) delay: Duration,
    pub(crate) limits: xcopy_limits,
}

/// A refusal: a positive errno and why.
pub(crate) type Refusal = (c_int, String);

fn invalid(text: String) -> Refusal {
    (libc::EINVAL, text)
}

/// A number with an optional K, M, G or T.
fn number(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()?.to_ascii_uppercase() {
        b'K' => (&text[..text.len() - 1], 10),
        b'M' => (&text[..text.len() - 1], 20),
        b'G' => (&text[..text.len() - 1], 30),
        b'T' => (&text[..text.len() - 1], 40),
        _ => (text, 0),
    };
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

impl Device {
    /// Reads a spec. Only models with a thread of their own can take a delay.
    pub(crate) fn parse(spec: &str, may_wait: bool) -> Result<Device, Refusal> {
        let mut parts = spec.split(',');
        let size = match parts.next().unwrap_or_default() {
            "" => DEFAULT_SIZE,
            text => number(text).filter(|&size| size > 0).ok_or_else(|| {
                invalid(format!(
                    "'{text}' is no size; give bytes, or a number with K, M, G or T"
                ))
            })?,
        };
        let mut device = Device {
            size,
            block: 512,
            identity: 0,
            read_only: false,
            delay: Duration::ZERO,
            limits: xcopy_limits {
                max_ranges: MAX_RANGES,
                ..xcopy_limits::default()
            },
        };
        for part in parts {
            device.set(part, may_wait)?;
        }
        if !device.size.is_multiple_of(device.block.into()) {
            let (size, block) = (device.size, device.block);
            return Err(invalid(format!(
                "size {size} is no multiple of block={block}"
            )));
        }
        let limits = &mut device.limits;
        limits.preferred_bytes = limits.max_bytes;
        for granularity in [
            &mut limits.src_granularity,
            &mut limits.dst_granularity,
            &mut limits.length_granularity,
        ] {
            if *granularity == 0 {
                *granularity = device.block;
            }
        }
        Ok(device)
    }

    fn set(&mut self, part: &str, may_wait: bool) -> Result<(), Refusal> {
        let Some((key, text)) = part.split_once('=') else {
            return Err(invalid(format!("'{part}' is no key=value; keys: {KEYS}")));
        };
        let Some(value) = number(text) else {
            return Err(invalid(format!("'{text}' is no number, in {key}={text}")));
        };
        let within = |low: u64, high: u64| match value {
            v if v >= low && v <= high => Ok(v as u32),
            _ => Err(invalid(format!(
                "{key}={text} is out of range: {low} to {high}"
            ))),
        };
        const U32: u64 = u32::MAX as u64;
        let limits = &mut self.limits;
        match key {
            "block" if value.is_power_of_two() => self.block = within(1, 1 << 20)?,
            "block" => return Err(invalid(format!("block={text} is no power of two"))),
            "max" => limits.max_bytes = value,
            "range" => limits.max_range_bytes = value,
            "ranges" => limits.max_ranges = within(1, MAX_RANGES.into())?,
            "conc" => limits.max_concurrent = within(0, U32)?,
            "src_gran" => limits.src_granularity = within(1, U32)?,
            "dst_gran" => limits.dst_granularity = within(1, U32)?,
            "len_gran" => limits.length_granularity = within(1, U32)?,
            "contiguous" => limits.contiguous_dst = within(0, 1)?,
            "id" => self.identity = value,
            "ro" => self.read_only = within(0, 1)? == 1,
            "delay_us" if may_wait => self.delay = Duration::from_micros(value),
            "delay_us" => {
                let text = "delay_us needs null_threaded or null_blocking".into();
                return Err((libc::ENOTSUP, text));
            }
            _ => return Err(invalid(format!("unknown key '{key}'; keys: {KEYS}"))),
        }
        Ok(())
    }
}

/// The stricter of both devices' limits.
pub(crate) fn pair_limits(src: &Device, dst: &Device) -> xcopy_limits {
    let (a, b) = (&src.limits, &dst.limits);
    xcopy_limits {
        preferred_bytes: smaller(a.preferred_bytes, b.preferred_bytes),
        max_bytes: smaller(a.max_bytes, b.max_bytes),
        max_range_bytes: smaller(a.max_range_bytes, b.max_range_bytes),
        src_granularity: common_multiple(a.src_granularity, b.src_granularity),
        dst_granularity: common_multiple(a.dst_granularity, b.dst_granularity),
        length_granularity: common_multiple(a.length_granularity, b.length_granularity),
        max_ranges: a.max_ranges.min(b.max_ranges),
        max_concurrent: smaller(a.max_concurrent.into(), b.max_concurrent.into()) as u32,
        contiguous_dst: a.contiguous_dst | b.contiguous_dst,
    }
}

/// The smaller of two maxima of which 0 states none.
fn smaller(a: u64, b: u64) -> u64 {
    if a == 0 || b == 0 { a.max(b) } else { a.min(b) }
}

/// What is a multiple of both; at most u32::MAX, which nothing is aligned to.
fn common_multiple(a: u32, b: u32) -> u32 {
    let (mut x, mut y) = (a.max(1), b.max(1));
    while y != 0 {
        (x, y) = (y, x % y);
    }
    (u64::from(a.max(1) / x) * u64::from(b.max(1))).min(u32::MAX.into()) as u32
}

/// Puts a text, NUL-terminated and cut at a character, into a field.
fn put_text(field: &mut [c_char], text: &str) {
    let Some(mut len) = field.len().checked_sub(1) else {
        return;
    };
    len = len.min(text.len());
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    for (to, from) in field.iter_mut().zip(&text.as_bytes()[..len]) {
        *to = *from as c_char;
    }
    field[len] = 0;
}

/// How long the command's devices want it to take.
///
/// # Safety
/// `command` is valid, its devices NULL or made by `open`.
pub(crate) unsafe fn delay(command: *const xcopy_cmd) -> Duration {
    // SAFETY: the caller's promise; as_ref answers None to NULL.
    let (src, dst) = unsafe {
        (
            (*command).src.cast::<Device>().as_ref(),
            (*command).dst.cast::<Device>().as_ref(),
        )
    };
    let of = |device: Option<&Device>| device.map_or(Duration::ZERO, |d| d.delay);
    of(src).max(of(dst))
}

/// The spec in a description.
///
/// # Safety
/// `desc` is valid and its `name` and `native` as the contract says.
unsafe fn spec_of<'a>(desc: *const xcopy_device_desc) -> Result<&'a str, Refusal> {
    // SAFETY: valid by the caller's promise, and every version has these fields.
    let (size, kind, name, native) =
        unsafe { ((*desc).size, (*desc).kind, (*desc).name, (*desc).native) };
    if (size as usize) < offset_of!(xcopy_device_desc, host_device) {
        return Err(invalid(
            "the device description is too short for this plugin".into(),
        ));
    }
    if kind != XCOPY_KIND_NATIVE {
        return Err((
            libc::ENOTSUP,
            "only null:SIZE devices, not files or disks".into(),
        ));
    }
    let text = if native.is_null() {
        name
    } else {
        native.cast_const().cast()
    };
    if text.is_null() {
        return Ok("");
    }
    // SAFETY: both are NUL-terminated strings that live during the call.
    unsafe { CStr::from_ptr(text) }
        .to_str()
        .map_err(|_| invalid("the spec is not UTF-8".into()))
}

/// Table entry, and the OPEN command.
pub(crate) unsafe extern "C" fn open<const MODEL: u32>(
    _state: *mut c_void,
    desc: *const xcopy_device_desc,
    device: *mut *mut c_void,
    props: *mut xcopy_device_props,
) -> c_int {
    guard(PANICKED, || {
        if desc.is_null() || device.is_null() || props.is_null() {
            return -libc::EINVAL;
        }
        // SAFETY: not NULL; the core sets the size of what it gives.
        if (unsafe { (*props).size } as usize) < size_of::<xcopy_device_props>() {
            return -libc::EINVAL;
        }
        // SAFETY: at least as long as the struct that we know, and ours during
        // the call.
        let props = unsafe { &mut *props };
        let may_wait = matches!(MODEL, XCOPY_MODEL_THREADED | XCOPY_MODEL_BLOCKING);
        // SAFETY: `desc` is the core's, valid during the call.
        let spec = unsafe { spec_of(desc) };
        match spec.and_then(|spec| Device::parse(spec, may_wait)) {
            Ok(opened) => {
                props.block_size = opened.block;
                props.size_bytes = opened.size;
                props.max_io_bytes = opened.limits.max_bytes;
                props.identity = opened.identity;
                props.read_only = opened.read_only.into();
                // SAFETY: the core's pointer to where the device goes, not NULL.
                unsafe { *device = Box::into_raw(Box::new(opened)).cast() };
                0
            }
            Err((errno, text)) => {
                put_text(&mut props.text, &text);
                -errno
            }
        }
    })
}

/// Table entry, and the CLOSE command.
pub(crate) unsafe extern "C" fn close(_state: *mut c_void, device: *mut c_void) {
    guard((), || {
        if !device.is_null() {
            // SAFETY: `open` made it, and nothing uses it after close.
            drop(unsafe { Box::from_raw(device.cast::<Device>()) });
        }
    })
}

/// Table entry, and the PROBE command.
pub(crate) unsafe extern "C" fn probe(
    _state: *mut c_void,
    src: *mut c_void,
    dst: *mut c_void,
    verdicts: *mut xcopy_verdict,
    stride: usize,
    n: u32,
) -> c_int {
    guard(PANICKED, || {
        if verdicts.is_null() || n == 0 || stride < size_of::<xcopy_verdict>() {
            return -libc::EINVAL;
        }
        // SAFETY: NULL or made by `open`; as_ref answers None to NULL.
        let pair = unsafe { (src.cast::<Device>().as_ref(), dst.cast::<Device>().as_ref()) };
        // SAFETY: the first verdict of at least one, as long as the struct that
        // we know; this plugin has one method.
        let verdict = unsafe { &mut *verdicts };
        match pair {
            (Some(src), Some(dst)) if !dst.read_only => {
                verdict.usable = 1;
                verdict.limits = pair_limits(src, dst);
            }
            (Some(_), Some(_)) => {
                verdict.reason = XCOPY_REASON_PERMISSION;
                put_text(
                    &mut verdict.text,
                    "the destination was opened with ro=1; leave that out",
                );
            }
            // One end alone: tokens, made of the source or written to the destination.
            (Some(device), None) | (None, Some(device)) => {
                verdict.usable = 1;
                verdict.limits = pair_limits(device, device);
            }
            (None, None) => {
                verdict.reason = XCOPY_REASON_WRONG_DEVICE;
                put_text(&mut verdict.text, "needs a null device");
            }
        }
        0
    })
}
