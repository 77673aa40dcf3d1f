//! The shortest ways through the C surface: null pairs, files, zero, flush.
#![allow(missing_docs, clippy::undocumented_unsafe_blocks)]

use std::ffi::CString;
use std::io::{Read, Seek, Write};
use xcopy::abi::*;
use xcopy::*;

struct Setup {
    context: *mut xcopy_context,
    queue: *mut xcopy_queue,
}

impl Setup {
    fn new() -> Setup {
        let (mut context, mut queue) = (std::ptr::null_mut(), std::ptr::null_mut());
        unsafe {
            assert_eq!(xcopy_context_create(std::ptr::null(), &mut context), 0);
            assert_eq!(
                xcopy_plugin_register(context, Some(xcopy_plugin_null::init)),
                0
            );
            assert_eq!(
                xcopy_plugin_register(context, Some(xcopy_plugin_null::init_threaded)),
                0
            );
            assert_eq!(
                xcopy_plugin_register(context, Some(xcopy_plugin_null::init_blocking)),
                0
            );
            assert_eq!(
                xcopy_plugin_register(context, Some(xcopy_plugin_null::init_affine)),
                0
            );
            assert_eq!(
                xcopy_plugin_register(context, Some(xcopy_plugin_file::init)),
                0
            );
            assert_eq!(xcopy_queue_create(context, std::ptr::null(), &mut queue), 0);
        }
        Setup { context, queue }
    }

    fn open(&self, name: &str, flags: u32) -> u32 {
        let mut device = 0;
        let name = CString::new(name).unwrap();
        let status = unsafe { xcopy_device_open(self.context, name.as_ptr(), flags, &mut device) };
        assert_eq!(status, 0, "{}", last_error());
        device
    }

    fn run(&self, request: xcopy_request) -> xcopy_completion {
        let n = unsafe { xcopy_submit(self.queue, &request, 64, 1) };
        assert_eq!(n, 1, "{}", last_error());
        let mut completion = xcopy_completion::default();
        let n = unsafe { xcopy_poll(self.queue, &mut completion, 64, 1, 1, 10_000_000_000) };
        assert_eq!(n, 1, "{}", last_error());
        assert_eq!(completion.user_data, request.user_data);
        completion
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        unsafe {
            assert_eq!(xcopy_queue_destroy(self.queue, 0), 0, "{}", last_error());
            assert_eq!(xcopy_context_free(self.context), 0, "{}", last_error());
        }
    }
}

fn last_error() -> String {
    unsafe { std::ffi::CStr::from_ptr(xcopy_last_error()) }
        .to_string_lossy()
        .into_owned()
}

fn request(op: u16, src: u32, dst: u32, length: u64) -> xcopy_request {
    xcopy_request {
        user_data: 77,
        op,
        reserved: 0,
        flags: 0,
        src,
        dst,
        src_offset: 0,
        dst_offset: 0,
        length,
        methods: 0,
        timeout_ms: 0,
        ext: std::ptr::null(),
    }
}

#[test]
fn null_pairs_in_every_model() {
    let setup = Setup::new();
    for name in ["null", "null_threaded", "null_blocking", "null_affine"] {
        let src = setup.open(&format!("{name}:1G"), XCOPY_OPEN_READ);
        let dst = setup.open(&format!("{name}:1G"), XCOPY_OPEN_READ | XCOPY_OPEN_WRITE);
        let prepared = setup.run(request(XCOPY_OP_PREPARE, src, dst, 0));
        assert_eq!(prepared.res, 0, "{name}");
        for length in [4096, 1 << 20, 1 << 29] {
            let mut copy = request(XCOPY_OP_COPY, src, dst, length);
            // A long one would else be compared with the host.
            copy.flags = XCOPY_REQ_NO_FALLBACK;
            let done = setup.run(copy);
            assert_eq!(done.res, 0, "{name} {length} {done:?}");
            assert_eq!(done.bytes_done, length, "{name}");
            assert_eq!(done.bytes_copied, length, "{name}");
            assert_eq!(done.bytes_offloaded, length, "{name}");
            assert_eq!(done.flags, XCOPY_CPL_OFFLOADED, "{name}");
        }
        let zeroed = setup.run(request(XCOPY_OP_ZERO, 0, dst, 4096));
        assert_eq!(
            (zeroed.res, zeroed.method),
            (0, XCOPY_METHOD_ZERO),
            "{name}"
        );
        let flushed = setup.run(request(XCOPY_OP_FLUSH, 0, dst, 0));
        assert_eq!(flushed.res, 0, "{name}");
        unsafe {
            xcopy_device_close(setup.context, src);
            let mut c = xcopy_completion::default();
            for _ in 0..100 {
                xcopy_poll(setup.queue, &mut c, 64, 0, 1, 0);
            }
            assert_eq!(xcopy_device_is_closed(setup.context, src), 1, "{name}");
        }
    }
}

#[test]
fn files_by_the_host() {
    let setup = Setup::new();
    let data: Vec<u8> = (0..5_000_000u32).map(|i| (i * 7 + i / 513) as u8).collect();
    let mut src = tempfile::NamedTempFile::new().unwrap();
    src.write_all(&data).unwrap();
    let mut dst = tempfile::NamedTempFile::new().unwrap();
    let a = setup.open(src.path().to_str().unwrap(), XCOPY_OPEN_READ);
    let b = setup.open(dst.path().to_str().unwrap(), XCOPY_OPEN_WRITE);
    let mut copy = request(XCOPY_OP_COPY, a, b, data.len() as u64);
    copy.flags = XCOPY_REQ_DURABLE;
    let done = setup.run(copy);
    assert_eq!(done.res, 0, "{done:?}");
    assert_eq!(done.bytes_copied, data.len() as u64);
    let mut read = Vec::new();
    dst.rewind().unwrap();
    dst.read_to_end(&mut read).unwrap();
    assert!(read == data);
    // A bridge: a plugin's device that reads as zeroes into the file.
    let null = setup.open("null:1M", XCOPY_OPEN_READ);
    let done = setup.run(request(XCOPY_OP_COPY, null, b, 65536));
    assert_eq!(
        (done.res, done.method),
        (0, XCOPY_METHOD_READ_WRITE),
        "{done:?}"
    );
    dst.rewind().unwrap();
    let mut head = vec![1; 65536];
    dst.read_exact(&mut head).unwrap();
    assert!(head.iter().all(|b| *b == 0));
}

#[test]
fn tokens() {
    let setup = Setup::new();
    let dev = setup.open("null:1G", XCOPY_OPEN_READ | XCOPY_OPEN_WRITE);
    let mut token = 0;
    unsafe { assert_eq!(xcopy_token_create(setup.context, &mut token), 0) };
    let made = setup.run(request(XCOPY_OP_TOKEN_CREATE, dev, token, 1 << 20));
    assert_eq!(made.res, 0, "{made:?}");
    let written = setup.run(request(XCOPY_OP_TOKEN_WRITE, token, dev, 1 << 20));
    assert_eq!(
        (written.res, written.bytes_copied),
        (0, 1 << 20),
        "{written:?}"
    );
    let mut buffer = vec![0u8; 65536];
    let mut used = 0;
    let mut copy = 0;
    unsafe {
        assert_eq!(
            xcopy_token_export(
                setup.context,
                token,
                buffer.as_mut_ptr().cast(),
                65536,
                &mut used
            ),
            0
        );
        assert_eq!(
            xcopy_token_import(setup.context, buffer.as_ptr().cast(), used, &mut copy),
            0
        );
    }
    let written = setup.run(request(XCOPY_OP_TOKEN_WRITE, copy, dev, 4096));
    assert_eq!(written.res, 0, "{written:?}");
    // What came out of the serialised form is what went in.
    let info = |token| {
        let mut info: xcopy_token_info = unsafe { std::mem::zeroed() };
        let size = size_of::<xcopy_token_info>();
        unsafe { assert_eq!(xcopy_token_info(setup.context, token, &mut info, size), 0) };
        info
    };
    let (made, read) = (info(token), info(copy));
    assert_eq!((read.bytes, read.created_s), (made.bytes, made.created_s));
    assert!(made.created_s > 1_600_000_000, "{}", made.created_s);
    assert_eq!((made.shows, made.origin), (read.shows, read.origin));
    let origin = made.origin.map(|c| c as u8);
    let end = origin.iter().position(|b| *b == 0).unwrap();
    assert!(origin[..end].ends_with(b":1G"), "{:?}", &origin[..end]);
    for (at, named) in [
        (0, "does not begin"),
        (8, "version"),
        (12, "length"),
        (40, "damaged"),
        (used - 1, "damaged"),
    ] {
        let mut damaged = buffer[..used].to_vec();
        damaged[at] ^= 0x10;
        let mut none = 0;
        let status =
            unsafe { xcopy_token_import(setup.context, damaged.as_ptr().cast(), used, &mut none) };
        let text = unsafe { std::ffi::CStr::from_ptr(xcopy_last_error()) };
        assert_eq!((status, none), (-libc::EINVAL, 0));
        assert!(text.to_string_lossy().contains(named), "{at}: {text:?}");
    }
    let released = setup.run(request(XCOPY_OP_TOKEN_RELEASE, token, dev, 0));
    assert_eq!(released.res, 0, "{released:?}");
    unsafe { assert_eq!(xcopy_token_free(setup.context, token), 0) };
}
