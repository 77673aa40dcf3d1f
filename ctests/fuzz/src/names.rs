//! Everything that parses words.

use crate::input::Input;
use crate::ledger::answered;
use std::ffi::{CStr, CString};
use std::ptr;
use xcopy::abi::*;
use xcopy::*;

const METHODS: [&str; 9] = [
    "reflink",
    "copy_file_range",
    "sendfile",
    "read_write",
    "scsi_xcopy",
    "odx",
    "nvme_copy",
    "zero",
    "null",
];
const SPECS: [&str; 12] = [
    "null:1M",
    "null_threaded:64K,delay_us=1",
    "null_blocking:1G,block=4096",
    "null_affine:",
    "null:1T,max=1M,range=64K,ranges=4",
    "null:4K,src_gran=3,dst_gran=7,len_gran=5",
    "null:1M,id=7,ro=1,contiguous=1,conc=0",
    "null:18446744073709551615",
    "nobody:1M",
    "/proc/self/mem",
    "/dev/null",
    "",
];

/// Words made of pieces that mean something and of any bytes.
fn words(input: &mut Input, pieces: &[&str]) -> CString {
    let mut text = Vec::new();
    for _ in 0..input.below(6) {
        match input.u8() % 4 {
            0 => text.extend_from_slice(input.pick(pieces).as_bytes()),
            1 => text.extend_from_slice(b","),
            2 => text.extend_from_slice(input.number().to_string().as_bytes()),
            _ => {
                let n = input.below(40);
                text.extend_from_slice(input.bytes(n));
            }
        }
    }
    text.retain(|byte| *byte != 0);
    CString::new(text).unwrap_or_default()
}

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let mut context = ptr::null_mut();
    // SAFETY: NULL is the default; a place for the answer.
    let status = unsafe { xcopy_context_create(ptr::null(), &mut context) };
    assert_eq!(answered(status), 0);
    let inits: [unsafe extern "C" fn(*const xcopy_host) -> *const xcopy_plugin; 5] = [
        xcopy_plugin_null::init,
        xcopy_plugin_null::init_threaded,
        xcopy_plugin_null::init_blocking,
        xcopy_plugin_null::init_affine,
        xcopy_plugin_file::init,
    ];
    for init in inits {
        // SAFETY: a live context and a plugin's entry point.
        answered(unsafe { xcopy_plugin_register(context, Some(init)) });
    }
    for _ in 0..8 {
        step(&mut input, context);
        if input.is_empty() {
            break;
        }
    }
    // SAFETY: a live context, given up here.
    assert_eq!(answered(unsafe { xcopy_context_free(context) }), 0);
}

fn step(input: &mut Input, context: *mut xcopy_context) {
    match input.u8() % 7 {
        0 => methods(input, context),
        1 | 2 => specs(input, context),
        3 => sizes(input),
        4 => details(input, context),
        5 => {
            let text = words(input, &["xcopy_request", "xcopy_plugin", "xcopy_"]);
            // SAFETY: a NUL-terminated string.
            let size = unsafe { xcopy_struct_size(text.as_ptr()) };
            assert!(size < 8192);
        }
        _ => {
            let mut text = words(
                input,
                &["null", "file", "../", "libxcopy_null.so", "/", "."],
            );
            // Only names that cannot be there: loading runs what it finds.
            if text.as_bytes().contains(&b'/') {
                text = CString::new([b"/nowhere/", text.as_bytes()].concat()).unwrap_or_default();
            }
            // SAFETY: a live context and a NUL-terminated string.
            let loaded = answered(unsafe { xcopy_plugin_load(context, text.as_ptr()) });
            assert!(loaded < 0 || !text.as_bytes().contains(&b'/'));
        }
    }
}

fn methods(input: &mut Input, context: *mut xcopy_context) {
    let text = words(input, &METHODS);
    let context = if input.one_in(3) {
        ptr::null_mut()
    } else {
        context
    };
    let mut mask = 0;
    // SAFETY: NULL or a live context, a string, a place for the answer.
    if answered(unsafe { xcopy_method_mask(context, text.as_ptr(), &mut mask) }) != 0 {
        assert_eq!(mask, 0, "a refusal that answers");
        return;
    }
    assert_ne!(mask, 0);
    let names: Vec<&str> = (0..XCOPY_METHOD_MAX as u16)
        .filter(|method| mask & 1 << method != 0)
        .map(|method| {
            // SAFETY: NULL or a live context.
            let name = unsafe { xcopy_method_name(context, method) };
            assert!(!name.is_null(), "{text:?} names method {method}");
            // SAFETY: a NUL-terminated name that lives as long as the context.
            unsafe { CStr::from_ptr(name) }.to_str().expect("a name")
        })
        .collect();
    let again = CString::new(names.join(",")).expect("no NUL");
    let mut same = 0;
    // SAFETY: as above.
    let answer = unsafe { xcopy_method_mask(context, again.as_ptr(), &mut same) };
    assert_eq!((answer, same), (0, mask), "{text:?} and {again:?}");
}

fn specs(input: &mut Input, context: *mut xcopy_context) {
    let mut text = words(input, &SPECS);
    if !text.as_bytes().starts_with(b"null") {
        // A path may be anything, so nothing is opened for writing by one.
        text = CString::new([b"null:", text.as_bytes()].concat()).unwrap_or_default();
    }
    let (flags, mut device) = (input.u32() & 0x1f, 0);
    // SAFETY: a live context, a string, a place for the answer.
    if answered(unsafe { xcopy_device_open(context, text.as_ptr(), flags, &mut device) }) != 0 {
        assert_eq!(device, 0, "a refusal that answers");
        return;
    }
    // SAFETY: plain data, for which zeroes are valid.
    let mut info: xcopy_device_info = unsafe { std::mem::zeroed() };
    let size = size_of::<xcopy_device_info>();
    // SAFETY: a live context and a place of the size given.
    let status = unsafe { xcopy_device_info(context, device, &mut info, size) };
    assert_eq!(status, 0);
    assert_eq!(info.kind, XCOPY_KIND_NATIVE, "{text:?}");
    assert!(info.block_size.is_power_of_two(), "{text:?}");
    assert!(info.size_known == 0 || info.size_bytes.is_multiple_of(info.block_size.into()));
    assert_eq!(info.open_flags & XCOPY_OPEN_ALL, flags, "{text:?}");
    // SAFETY: as above.
    assert_eq!(answered(unsafe { xcopy_device_close(context, device) }), 0);
}

fn sizes(input: &mut Input) {
    let pieces = [
        "K", "kib", "M", "MiB", "G", "T", "tib", "kb", ".5", " ", "16777215",
    ];
    let text = words(input, &pieces);
    let text = text.to_string_lossy();
    match crate::size::parse(&text) {
        Ok(value) => {
            let plain = crate::size::parse(&value.to_string());
            assert_eq!(plain, Ok(value), "{text}");
            assert_eq!(crate::size::parse_nonzero(&text).is_ok(), value != 0);
        }
        Err(why) => assert!(!why.is_empty()),
    }
}

fn details(input: &mut Input, context: *mut xcopy_context) {
    let (detail, size) = (input.u64(), input.below(80));
    let mut buffer = vec![b'?' as i8; size].into_boxed_slice();
    // SAFETY: as many bytes as the size says.
    let needed = unsafe { xcopy_detail_string(detail, buffer.as_mut_ptr(), size) };
    assert!((0..4096).contains(&needed));
    if size > 0 {
        let end = (needed as usize).min(size - 1);
        assert_eq!(buffer[end], 0, "{detail:#x}");
    }
    let (reason, method) = (input.u16(), input.u16());
    assert!(!xcopy_reason_string(reason).is_null());
    // SAFETY: a live context.
    unsafe { xcopy_method_name(context, method) };
}
