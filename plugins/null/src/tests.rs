//! All four forms, driven through their tables as a core would.

use super::*;
use crate::device::{Device, pair_limits};
use std::sync::Mutex;
use std::time::{Duration, Instant};

mod queues;

/// Stands behind a host queue pointer.
#[derive(Default)]
struct Sink {
    answers: Mutex<Vec<(u64, i32, u64, u16)>>,
}

unsafe extern "C" fn collect(
    queue: *mut xcopy_host_queue,
    results: *const xcopy_result,
    stride: usize,
    n: u32,
) {
    assert_eq!(stride, size_of::<xcopy_result>());
    // SAFETY: the tests pass a Sink as host queue, and the plugin n results.
    let (sink, results) = unsafe {
        (
            &*queue.cast::<Sink>(),
            std::slice::from_raw_parts(results, n as usize),
        )
    };
    let mut answers = sink.answers.lock().unwrap();
    answers.extend(
        results
            .iter()
            .map(|r| (r.cookie, r.status, r.bytes, r.reason)),
    );
}

static TEST_HOST: xcopy_host = xcopy_host {
    struct_size: size_of::<xcopy_host>() as u32,
    abi_version: XCOPY_ABI_VERSION,
    log: None,
    alloc: None,
    free: None,
    complete: Some(collect),
    complete_local: Some(collect),
    device_event: None,
};

impl Sink {
    fn take(&self) -> Vec<(u64, i32, u64, u16)> {
        std::mem::take(&mut self.answers.lock().unwrap())
    }

    fn wait(&self, n: usize) -> Vec<(u64, i32, u64, u16)> {
        let begun = Instant::now();
        while self.answers.lock().unwrap().len() < n {
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "the worker does not answer"
            );
            std::thread::yield_now();
        }
        self.take()
    }
}

/// A table with one context's state.
struct Started {
    table: &'static xcopy_plugin,
    state: *mut c_void,
}

type Init = unsafe extern "C" fn(*const xcopy_host) -> *const xcopy_plugin;

impl Started {
    fn new(init: Init) -> Started {
        // SAFETY: the host is static, and so is the table that it answers.
        let table = unsafe { init(&TEST_HOST).as_ref() }.unwrap();
        let mut state = ptr::null_mut();
        // SAFETY: as the contract says.
        let answer = unsafe { table.start.unwrap()(ptr::null_mut(), &mut state) };
        assert_eq!(answer, 0);
        Started { table, state }
    }

    fn open(&self, spec: &CStr) -> Result<*mut c_void, (c_int, String)> {
        let desc = desc(spec);
        let mut props = xcopy_device_props::default();
        let mut device = ptr::null_mut();
        // SAFETY: as the contract says.
        match unsafe { self.table.open.unwrap()(self.state, &desc, &mut device, &mut props) } {
            0 => Ok(device),
            error => Err((error, text(&props.text))),
        }
    }

    fn queue(&self, sink: &Sink, window: u32) -> *mut c_void {
        let options = xcopy_plugin_queue_options {
            size: size_of::<xcopy_plugin_queue_options>() as u32,
            flags: 0,
            window,
            reserved: 0,
        };
        let mut queue = ptr::null_mut();
        let host_queue = ptr::from_ref(sink).cast_mut().cast();
        // SAFETY: as the contract says.
        let answer = unsafe {
            self.table.queue_create.unwrap()(self.state, host_queue, &options, &mut queue)
        };
        assert_eq!(answer, 0);
        queue
    }

    fn submit(&self, queue: *mut c_void, commands: &mut [xcopy_cmd]) -> c_int {
        let pointers: Vec<_> = commands.iter_mut().map(ptr::from_mut).collect();
        // SAFETY: the tests keep commands until they are answered.
        unsafe { self.table.submit.unwrap()(queue, pointers.as_ptr(), pointers.len() as u32) }
    }

    fn poll(&self, queue: *mut c_void, max: u32) {
        // SAFETY: a live queue.
        assert_eq!(unsafe { self.table.poll.unwrap()(queue, max) }, 0);
    }

    fn destroy(&self, queue: *mut c_void) {
        // SAFETY: a live queue, given back once.
        unsafe { self.table.queue_destroy.unwrap()(queue) }
    }

    fn close(&self, device: *mut c_void) {
        // SAFETY: a live device, given back once.
        unsafe { self.table.close.unwrap()(self.state, device) }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // SAFETY: the last call with this state.
        unsafe { self.table.stop.unwrap()(self.state) }
    }
}

fn desc(spec: &CStr) -> xcopy_device_desc {
    xcopy_device_desc {
        size: size_of::<xcopy_device_desc>() as u32,
        kind: XCOPY_KIND_NATIVE,
        open_flags: XCOPY_OPEN_READ | XCOPY_OPEN_WRITE,
        fd: -1,
        name: spec.as_ptr(),
        native: ptr::null_mut(),
        host_device: ptr::null_mut(),
        dev_major: 0,
        dev_minor: 0,
        disk_major: 0,
        disk_minor: 0,
        disk_offset: 0,
        inode: 0,
        size_bytes: 0,
        block_size: 0,
        physical_block_size: 0,
    }
}

fn text(field: &[c_char]) -> String {
    let bytes = field.iter().take_while(|c| **c != 0).map(|c| *c as u8);
    String::from_utf8(bytes.collect()).unwrap()
}

fn command(cookie: u64, op: u16, bytes: u64) -> xcopy_cmd {
    xcopy_cmd {
        cookie,
        op,
        method: 0,
        flags: 0,
        src: ptr::null_mut(),
        dst: ptr::null_mut(),
        ranges: ptr::null(),
        nranges: 0,
        timeout_ms: 0,
        bytes,
        buffer: ptr::null_mut(),
        token: ptr::null_mut(),
        token_size: 0,
        token_type: 0,
        token_lifetime_s: 0,
        method_index: 0,
        arg: ptr::null_mut(),
        private_data: ptr::null_mut(),
    }
}

fn copies(n: u64) -> Vec<xcopy_cmd> {
    (0..n)
        .map(|i| command(i, XCOPY_CMD_COPY, 4096 + i))
        .collect()
}

#[test]
fn specs() {
    let device = Device::parse("", false).unwrap();
    assert_eq!((device.size, device.block), (1 << 40, 512));
    let spec = "4G,block=4096,max=8M,range=1M,ranges=4,conc=2,id=7,ro=1,contiguous=1,\
                src_gran=8192,len_gran=1";
    let device = Device::parse(spec, false).unwrap();
    assert_eq!(
        (device.size, device.block, device.identity),
        (4 << 30, 4096, 7)
    );
    assert!(device.read_only);
    let expected = xcopy_limits {
        preferred_bytes: 8 << 20,
        max_bytes: 8 << 20,
        max_range_bytes: 1 << 20,
        src_granularity: 8192,
        dst_granularity: 4096,
        length_granularity: 1,
        max_ranges: 4,
        max_concurrent: 2,
        contiguous_dst: 1,
    };
    assert_eq!(device.limits, expected);
    let delay = Device::parse("1M,delay_us=5", true).unwrap().delay;
    assert_eq!(delay, Duration::from_micros(5));
    for bad in [
        "0",
        "x",
        "K",
        "-1",
        "+1",
        "1X",
        "99999999999T",
        "1M,",
        "1M,x=1",
        "1M,block=3",
        "1M,block=0",
        "1M,block=2M",
        "1000",
        "1M,ranges=0",
        "1M,ranges=257",
        "1M,ro=2",
        "1M,max=",
        "1M,max=ü",
        "1M,delay_us=1",
        "1M,src_gran=5G",
    ] {
        let (errno, text) = Device::parse(bad, false).unwrap_err();
        assert!(errno > 0 && !text.is_empty(), "{bad}");
    }
}

#[test]
fn the_stricter_limits_win() {
    let a = Device::parse("1M,block=1,max=4M,src_gran=6,ranges=3", false).unwrap();
    let b = Device::parse("1M,block=1,range=1M,src_gran=4,conc=9", false).unwrap();
    let both = pair_limits(&a, &b);
    assert_eq!(both, pair_limits(&b, &a));
    assert_eq!((both.max_bytes, both.max_range_bytes), (4 << 20, 1 << 20));
    assert_eq!(
        (both.src_granularity, both.max_ranges, both.max_concurrent),
        (12, 3, 9)
    );
}

#[test]
fn tables_differ_in_name_and_method() {
    let mut seen = Vec::new();
    for init in [init as Init, init_threaded, init_blocking, init_affine] {
        let plugin = Started::new(init);
        // SAFETY: static strings and a static method.
        let names = unsafe {
            [
                plugin.table.name,
                (*plugin.table.methods).name,
                plugin.table.version,
            ]
            .map(|name| CStr::from_ptr(name).to_str().unwrap())
        };
        assert_eq!(names[0], names[1]);
        assert_eq!(names[2], env!("CARGO_PKG_VERSION"));
        seen.push(names[0]);
    }
    assert_eq!(
        seen,
        ["null", "null_threaded", "null_blocking", "null_affine"]
    );
}

#[test]
fn unfit_hosts_are_refused() {
    let fit = || xcopy_host { ..TEST_HOST };
    let hosts = [
        xcopy_host {
            struct_size: 40,
            ..fit()
        },
        xcopy_host {
            abi_version: 1 << 16,
            ..fit()
        },
        xcopy_host {
            complete: None,
            ..fit()
        },
        xcopy_host {
            complete_local: None,
            ..fit()
        },
    ];
    for host in &hosts {
        // SAFETY: refused, so it is not kept beyond the call.
        assert!(unsafe { init(host) }.is_null());
    }
    // SAFETY: NULL is legal.
    assert!(unsafe { init(ptr::null()) }.is_null());
}

fn execute(plugin: &Started, command: &mut xcopy_cmd) -> xcopy_result {
    // SAFETY: a result of zeroes is valid.
    let mut result: xcopy_result = unsafe { std::mem::zeroed() };
    // SAFETY: a live command and result.
    let answer = unsafe { plugin.table.execute.unwrap()(plugin.state, command, &mut result) };
    assert_eq!(answer, 0);
    result
}

#[test]
fn blocking_carries_out_every_command() {
    let plugin = Started::new(init_blocking);
    for op in [
        XCOPY_CMD_COPY,
        XCOPY_CMD_ZERO,
        XCOPY_CMD_WRITE,
        XCOPY_CMD_FLUSH,
    ] {
        let result = execute(&plugin, &mut command(3, op, 512));
        assert_eq!((result.cookie, result.status, result.bytes), (3, 0, 512));
    }
    let mut buffer = vec![7u8; 600];
    let mut read = command(1, XCOPY_CMD_READ, 512);
    assert_eq!(execute(&plugin, &mut read).status, -libc::EINVAL);
    read.buffer = buffer.as_mut_ptr().cast();
    assert_eq!(execute(&plugin, &mut read).status, 0);
    assert!(buffer[..512].iter().all(|b| *b == 0) && buffer[512..].iter().all(|b| *b == 7));
    for op in [0, XCOPY_CMD_OPEN, XCOPY_CMD_CLOSE, XCOPY_CMD_PROBE, 999] {
        assert_eq!(
            execute(&plugin, &mut command(1, op, 0)).status,
            -libc::ENOTSUP
        );
    }
}

#[test]
fn tokens_are_checked() {
    let plugin = Started::new(init_blocking);
    let mut token = [0u8; 32];
    let mut create = command(1, XCOPY_CMD_TOKEN_CREATE, 1 << 20);
    create.token = token.as_mut_ptr();
    create.token_size = 15;
    assert_eq!(execute(&plugin, &mut create).status, -libc::ENOBUFS);
    create.token_size = 32;
    let result = execute(&plugin, &mut create);
    assert_eq!(
        (result.status, result.token_size, result.token_type),
        (0, 16, 1)
    );

    for (offset, length, status) in [
        (0, 1 << 20, 0),
        (512, (1 << 20) - 512, 0),
        (512, 1 << 20, -libc::EINVAL),
        (u64::MAX, 2, -libc::EINVAL),
    ] {
        let range = xcopy_range {
            src_offset: offset,
            dst_offset: 0,
            length,
        };
        let mut write = command(2, XCOPY_CMD_TOKEN_WRITE, length);
        (write.ranges, write.nranges) = (&range, 1);
        (write.token, write.token_size) = (token.as_mut_ptr(), 16);
        assert_eq!(execute(&plugin, &mut write).status, status);
    }
    let mut release = command(3, XCOPY_CMD_TOKEN_RELEASE, 0);
    assert_eq!(execute(&plugin, &mut release).status, -libc::ESTALE);
    (release.token, release.token_size) = (token.as_mut_ptr(), 16);
    assert_eq!(execute(&plugin, &mut release).status, 0);
    token[0] ^= 1;
    release.token = token.as_mut_ptr();
    assert_eq!(execute(&plugin, &mut release).status, -libc::ESTALE);
}

fn probe(plugin: &Started, src: *mut c_void, dst: *mut c_void) -> xcopy_verdict {
    let mut verdict = xcopy_verdict::default();
    let stride = size_of::<xcopy_verdict>();
    // SAFETY: one live verdict, devices that are NULL or open.
    let answer =
        unsafe { plugin.table.probe.unwrap()(plugin.state, src, dst, &mut verdict, stride, 1) };
    assert_eq!(answer, 0);
    verdict
}

#[test]
fn devices_open_and_are_judged() {
    let plugin = Started::new(init);
    let (a, b) = (
        plugin.open(c"1M").unwrap(),
        plugin.open(c"1M,ro=1").unwrap(),
    );
    let verdict = probe(&plugin, b, a);
    assert_eq!((verdict.usable, verdict.limits.max_ranges), (1, 256));
    let verdict = probe(&plugin, a, b);
    assert_eq!(
        (verdict.usable, verdict.reason),
        (0, XCOPY_REASON_PERMISSION)
    );
    assert!(text(&verdict.text).contains("ro=1"));
    // One end alone is asked for tokens.
    assert_eq!(probe(&plugin, a, ptr::null_mut()).usable, 1);
    assert_eq!(
        probe(&plugin, ptr::null_mut(), ptr::null_mut()).reason,
        XCOPY_REASON_WRONG_DEVICE
    );

    let (error, why) = plugin.open(c"1M,what=1").unwrap_err();
    assert!(error == -libc::EINVAL && why.contains("'what'"), "{why}");
    let (error, why) = plugin.open(c"1M,delay_us=1").unwrap_err();
    assert!(
        error == -libc::ENOTSUP && why.contains("null_threaded"),
        "{why}"
    );
    let long = std::ffi::CString::new(format!("1M,{}=1", "é".repeat(200))).unwrap();
    assert!(plugin.open(&long).unwrap_err().1.len() < 128);

    let mut described = desc(c"1M");
    described.kind = XCOPY_KIND_FILE;
    let (mut device, mut props) = (ptr::null_mut(), xcopy_device_props::default());
    let open = plugin.table.open.unwrap();
    // SAFETY: a live description, in this call and the next two.
    let answer = unsafe { open(plugin.state, &described, &mut device, &mut props) };
    assert_eq!(answer, -libc::ENOTSUP);
    described.kind = XCOPY_KIND_NATIVE;
    described.native = c"8K,id=5".as_ptr().cast_mut().cast();
    // SAFETY: as above.
    let answer = unsafe { open(plugin.state, &described, &mut device, &mut props) };
    assert_eq!(answer, 0);
    assert_eq!(
        (props.size_bytes, props.identity, props.block_size),
        (8192, 5, 512)
    );
    // SAFETY: as above; NULLs are refused.
    let answer = unsafe { open(plugin.state, &described, &mut device, ptr::null_mut()) };
    assert_eq!(answer, -libc::EINVAL);
    for device in [a, b, device] {
        plugin.close(device);
    }
}

#[test]
fn nulls_are_answered() {
    let null = ptr::null_mut::<c_void>();
    for init in [init as Init, init_threaded, init_affine] {
        let plugin = Started::new(init);
        // SAFETY: NULLs, which every entry tests for.
        unsafe {
            assert_eq!(
                plugin.table.submit.unwrap()(null, ptr::null(), 1),
                -libc::EINVAL
            );
            plugin.table.queue_destroy.unwrap()(null);
            if let Some(poll) = plugin.table.poll {
                assert_eq!(poll(null, 1), -libc::EINVAL);
                assert_eq!(plugin.table.arm.unwrap()(null, 1), -libc::EINVAL);
                assert_eq!(plugin.table.queue_fd.unwrap()(null), -libc::EINVAL);
            }
        }
    }
}
