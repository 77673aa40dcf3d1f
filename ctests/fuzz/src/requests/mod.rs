//! The C surface: calls in any order with any handles, strides and exts. Each
//! accepted request completes once, nothing is written outside of what was asked
//! for, and what a caller may free after a completion is freed at once.

mod shape;

use crate::input::Input;
use crate::ledger::{Ledger, answered, last_error};
use shape::{Extra, FILE, extra, file, pattern, place};
use std::ffi::{CString, c_void};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::ptr;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::{Duration, Instant};
use xcopy::abi::*;
use xcopy::*;

const NATIVE: [&str; 6] = [
    "null:1M",
    "null_threaded:1M,delay_us=20",
    "null_blocking:64K,block=4096",
    "null_affine:1M",
    "null:256K,max=8K,range=4K,ranges=3,src_gran=1024",
    "null:1M,id=9,contiguous=1,conc=2",
];
/// How long anything here may take at most.
const LONG: Duration = Duration::from_secs(20);

struct World {
    context: *mut xcopy_context,
    queue: *mut xcopy_queue,
    files: Vec<File>,
    /// Handles of devices, with the file behind; dead ones stay in the list.
    devices: Vec<(u32, Option<usize>)>,
    tokens: Vec<u32>,
    ledger: Ledger<Extra>,
    /// Spans of each file that some request was allowed to write.
    dirty: Vec<Vec<(u64, u64)>>,
}

static TAKEN: AtomicI64 = AtomicI64::new(0);
static SCARCE: AtomicU32 = AtomicU32::new(0);

unsafe extern "C" fn take(_: *mut c_void, size: usize, align: usize) -> *mut c_void {
    // Every so many, there is no memory.
    let every = SCARCE.load(Ordering::Relaxed);
    let nth = TAKEN.fetch_add(1, Ordering::Relaxed);
    if every != 0 && nth % i64::from(every) == i64::from(every) - 1 {
        TAKEN.fetch_sub(1, Ordering::Relaxed);
        return ptr::null_mut();
    }
    // SAFETY: plain allocation; an alignment that libc refuses answers NULL.
    unsafe { libc::memalign(align.max(16), size.max(1)) }
}

unsafe extern "C" fn give_back(_: *mut c_void, memory: *mut c_void, _: usize, _: usize) {
    TAKEN.fetch_sub(1, Ordering::Relaxed);
    // SAFETY: `take` gave it.
    unsafe { libc::free(memory) };
}

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let own_memory = input.u8() % 4;
    TAKEN.store(0, Ordering::Relaxed);
    SCARCE.store(if own_memory == 3 { 3 } else { 0 }, Ordering::Relaxed);
    let mut world = World::new(&mut input, own_memory >= 2);
    for _ in 0..64 {
        world.step(&mut input);
        if input.is_empty() {
            break;
        }
    }
    let abandoned = world.end();
    assert!(
        abandoned || TAKEN.load(Ordering::Relaxed) == 0,
        "the caller's allocator lost memory: {}",
        TAKEN.load(Ordering::Relaxed)
    );
}

impl World {
    fn new(input: &mut Input, own_memory: bool) -> World {
        // SAFETY: plain data, for which zeroes are valid (NULL and None).
        let mut options: xcopy_context_options = unsafe { std::mem::zeroed() };
        let mut context = ptr::null_mut();
        // SAFETY: places of the sizes given.
        unsafe { xcopy_context_options_init(&mut options, size_of::<xcopy_context_options>()) };
        options.pool_threads = input.u8() as u32 % 3;
        if own_memory {
            options.alloc = Some(take);
            options.free = Some(give_back);
        }
        if input.one_in(4) {
            options.memory_budget = input.number();
        }
        // SAFETY: options and a place for the answer.
        if answered(unsafe { xcopy_context_create(&options, &mut context) }) != 0 {
            // SAFETY: as above.
            unsafe { xcopy_context_create(ptr::null(), &mut context) };
        }
        let inits: [unsafe extern "C" fn(*const xcopy_host) -> *const xcopy_plugin; 5] = [
            xcopy_plugin_null::init,
            xcopy_plugin_null::init_threaded,
            xcopy_plugin_null::init_blocking,
            xcopy_plugin_null::init_affine,
            xcopy_plugin_file::init,
        ];
        for init in inits {
            // SAFETY: a live context and a plugin's entry point.
            let status = unsafe { xcopy_plugin_register(context, Some(init)) };
            assert_eq!(answered(status), 0);
        }
        let mut world = World {
            context,
            queue: ptr::null_mut(),
            files: (0..3).map(file).collect(),
            devices: vec![(0, None)],
            tokens: vec![0],
            ledger: Ledger::default(),
            dirty: vec![Vec::new(); 3],
        };
        world.make_queue(input);
        for which in 0..NATIVE.len() + 3 {
            world.open(which, XCOPY_OPEN_READ | XCOPY_OPEN_WRITE);
        }
        world
    }

    fn make_queue(&mut self, input: &mut Input) {
        // SAFETY: plain data, for which zeroes are valid.
        let mut options: xcopy_queue_options = unsafe { std::mem::zeroed() };
        // SAFETY: places of the sizes given; a live context.
        unsafe {
            xcopy_queue_options_init(&mut options, size_of::<xcopy_queue_options>());
            options.capacity = 1 + u32::from(input.u8() % 40);
            options.window = 1 + u32::from(input.u8() % 20);
            if input.one_in(3) {
                (options.depth, options.chunk) = (u32::from(input.u8()), input.number());
            }
            if input.one_in(8) {
                (options.flags, options.reserved) = (input.u8().into(), input.u8().into());
            }
            if answered(xcopy_queue_create(self.context, &options, &mut self.queue)) != 0 {
                let default = xcopy_queue_create(self.context, ptr::null(), &mut self.queue);
                assert_eq!(answered(default), 0);
            }
        }
    }

    fn open(&mut self, which: usize, flags: u32) {
        let mut device = 0;
        // SAFETY: a live context, a string or an fd, a place for the answer.
        let status = unsafe {
            match which.checked_sub(NATIVE.len()) {
                None => {
                    let name = CString::new(NATIVE[which]).expect("no NUL");
                    xcopy_device_open(self.context, name.as_ptr(), flags, &mut device)
                }
                Some(file) => {
                    let fd = self.files[file].as_raw_fd();
                    xcopy_device_open_fd(self.context, fd, flags, &mut device)
                }
            }
        };
        if answered(status) == 0 {
            assert_ne!(device, 0);
            self.devices.push((device, which.checked_sub(NATIVE.len())));
        }
    }

    /// A handle: mostly of a device, now and then anything.
    fn handle(&self, input: &mut Input) -> (u32, Option<usize>) {
        let handle = match input.u8() {
            0 => input.u32(),
            1..4 => input.pick(&self.tokens),
            4..8 => input.pick(&self.devices).0 ^ 1 << input.below(32),
            _ => input.pick(&self.devices).0,
        };
        // One that was bent may be another good one.
        let known = self.devices.iter().find(|known| known.0 == handle);
        (handle, known.and_then(|known| known.1))
    }

    fn step(&mut self, input: &mut Input) {
        match input.u8() % 32 {
            0..14 => self.submit(input),
            14..20 => self.poll(input, 0),
            20 => {
                let which = input.below(NATIVE.len() + 3);
                let flags = input.u8().into();
                self.open(which, flags);
            }
            21 => self.ask(input),
            22 if input.one_in(4) => self.replace_queue(input),
            23 => {
                let mut token = 0;
                // SAFETY: a live context, a place for the answer.
                if answered(unsafe { xcopy_token_create(self.context, &mut token) }) == 0 {
                    self.tokens.push(token);
                }
            }
            _ => {
                answered(self.call(input));
            }
        }
    }

    /// A call that takes handles only.
    fn call(&self, input: &mut Input) -> i32 {
        let (context, queue) = (self.context, self.queue);
        let device = input.pick(&self.devices).0;
        // SAFETY: a live context and queue.
        unsafe {
            match input.u8() % 12 {
                0 => xcopy_cancel(queue, input.u8().into()),
                1 => xcopy_cancel_device(queue, device),
                2 => {
                    // While its door is closed nothing is accepted.
                    answered(xcopy_queue_drain(queue));
                    assert_eq!(self.submit_plain(), -libc::ESHUTDOWN);
                    xcopy_queue_resume(queue)
                }
                3 => xcopy_queue_arm(queue),
                4 => xcopy_queue_disarm(queue),
                5 => xcopy_queue_fd(queue),
                6 => xcopy_queue_ready(queue),
                7 => xcopy_device_close(context, device),
                8 => xcopy_device_invalidate(context, device),
                9 => xcopy_token_free(context, input.pick(&self.tokens)),
                10 => {
                    let other = input.pick(&self.devices).0;
                    xcopy_pair_query(context, device, other, ptr::null_mut(), 0, 0)
                }
                _ => xcopy_queue_in_flight(queue),
            }
        }
    }

    fn submit_plain(&self) -> i32 {
        // SAFETY: plain data, for which zeroes are valid.
        let mut request: xcopy_request = unsafe { std::mem::zeroed() };
        request.op = XCOPY_OP_FLUSH;
        // SAFETY: a live queue and one request.
        answered(unsafe { xcopy_submit(self.queue, &request, 64, 1) })
    }

    /// A few requests at a stride of their own.
    fn submit(&mut self, input: &mut Input) {
        let n = 1 + input.below(4);
        let stride = match input.u8() % 16 {
            0 => input.below(200),
            1 => 72,
            _ => 64,
        };
        // 8 more words so that any stride below stays inside.
        let mut array = vec![0u64; (stride * n).div_ceil(8) + 8].into_boxed_slice();
        let mut extras = Vec::new();
        for index in 0..n {
            let (request, extra) = self.request(input);
            let at = (stride / 8 * 8 * index).min(array.len() * 8 - 64);
            if stride >= 64 && stride % 8 == 0 {
                // SAFETY: within the array as just computed; aligned to 8.
                unsafe {
                    array
                        .as_mut_ptr()
                        .add(at / 8)
                        .cast::<xcopy_request>()
                        .write(request);
                }
            }
            extras.push((request, extra));
        }
        // SAFETY: a live queue; the array holds n requests at this stride.
        let accepted =
            answered(unsafe { xcopy_submit(self.queue, array.as_ptr().cast(), stride, n as u32) });
        assert!(accepted <= n as i32);
        assert!(accepted <= 0 || stride >= 64 && stride % 8 == 0);
        let alone = self.ledger.is_empty() && accepted == 1;
        let mut kept = 0;
        for (request, mut extra) in extras.into_iter().take(accepted.max(0) as usize) {
            kept += 1;
            if !alone {
                extra.compare = None;
                // Nor may those before be compared now.
                self.ledger.each(|earlier| earlier.compare = None);
            }
            if let Some((file, spans)) = &extra.writes {
                self.dirty[*file].extend(spans);
            }
            let bytes = match request.op {
                XCOPY_OP_COPY | XCOPY_OP_ZERO | XCOPY_OP_TOKEN_WRITE => Some(extra.total(&request)),
                _ => None,
            };
            self.ledger.accepted(request.user_data, bytes, extra);
        }
        assert_eq!(kept, accepted.max(0));
        // The array is the caller's again.
        array.fill(u64::MAX);
    }

    fn request(&mut self, input: &mut Input) -> (xcopy_request, Extra) {
        let ((src, from), (dst, to)) = (self.handle(input), self.handle(input));
        let mut request = xcopy_request {
            user_data: self.ledger.fresh(),
            op: match input.u8() {
                0 => input.u16(),
                1..160 => XCOPY_OP_COPY,
                other => 1 + u16::from(other % 7),
            },
            reserved: u16::from(input.u8() == 1),
            flags: match input.u8() {
                0 => input.u32(),
                1..100 => 1 << input.below(9),
                _ => 0,
            },
            src,
            dst,
            src_offset: place(input),
            dst_offset: place(input),
            length: place(input),
            methods: match input.u8() % 4 {
                0 => input.u32(),
                _ => 0,
            },
            timeout_ms: match input.u8() % 8 {
                0 => u32::from(input.u8()),
                _ => 0,
            },
            ext: ptr::null(),
        };
        match request.op {
            XCOPY_OP_ZERO | XCOPY_OP_FLUSH | XCOPY_OP_TOKEN_RELEASE if !input.one_in(8) => {
                request.src = if request.op == XCOPY_OP_TOKEN_RELEASE {
                    src
                } else {
                    0
                };
                (request.src_offset, request.dst) = (
                    0,
                    if request.op == XCOPY_OP_TOKEN_RELEASE {
                        0
                    } else {
                        dst
                    },
                );
            }
            XCOPY_OP_PREPARE if !input.one_in(8) => {
                (request.src_offset, request.dst_offset, request.length) = (0, 0, 0);
            }
            _ => {}
        }
        let mut extra = extra(input, &mut request);
        let spans = extra.spans(&request);
        if let Some(file) = to.filter(|_| dst == request.dst) {
            if let Some(from) = from.filter(|from| *from != file && request.op == XCOPY_OP_COPY) {
                extra.compare = Some((from, file, spans.clone()));
            }
            let written = spans
                .iter()
                .map(|r| (r.dst_offset, r.dst_offset.saturating_add(r.length)));
            extra.writes = Some((file, written.collect()));
        }
        (request, extra)
    }

    /// Takes completions at a stride of its own and checks them.
    fn poll(&mut self, input: &mut Input, min: u32) {
        let max = 1 + input.below(8) as u32;
        let words = match input.u8() % 8 {
            0 => 8 + input.below(8),
            _ => 8,
        };
        let timeout = input.pick(&[0i64, 1, 100_000, 2_000_000]);
        let min = min.max(u32::from(input.u8() % 4));
        let mut array = vec![0xa5a5_a5a5_a5a5_a5a5u64; words * max as usize].into_boxed_slice();
        // SAFETY: a live queue and an array of max completions at this stride.
        let n = answered(unsafe {
            xcopy_poll(
                self.queue,
                array.as_mut_ptr().cast(),
                words * 8,
                min,
                max,
                timeout,
            )
        });
        if n == -libc::EINTR {
            return; // that there was a signal is for ctests/c/signals.c to prove
        }
        assert!(n >= 0 && n as u32 <= max, "{n} {}", last_error());
        for (index, words) in array.chunks_exact(words).enumerate() {
            if index >= n as usize {
                assert!(words.iter().all(|word| *word == 0xa5a5_a5a5_a5a5_a5a5));
                continue;
            }
            assert!(
                words[8..].iter().all(|word| *word == 0),
                "the tail is not zeroed"
            );
            // SAFETY: eight words of plain data, aligned to 8.
            let done = unsafe { words.as_ptr().cast::<xcopy_completion>().read() };
            let entry = self.ledger.completed(&done);
            if let (0, Some((from, to, ranges))) = (done.res, &entry.with.compare) {
                self.compare(*from, *to, ranges);
            }
        }
    }

    fn compare(&self, from: usize, to: usize, ranges: &[xcopy_range]) {
        for range in ranges {
            let (mut a, mut b) = (
                vec![0; range.length as usize],
                vec![0; range.length as usize],
            );
            let read = |file: usize, to: &mut [u8], at| self.files[file].read_exact_at(to, at);
            read(from, &mut a, range.src_offset).expect("a copy of nothing");
            read(to, &mut b, range.dst_offset).expect("what was copied is not there");
            assert!(a == b, "what was copied differs: {range:?}");
        }
    }

    /// Queries with sizes of their own.
    fn ask(&self, input: &mut Input) {
        let (device, user_data) = (input.pick(&self.devices).0, input.u8().into());
        let (kind, size) = (input.u8() % 6, input.below(256) * 4);
        let mut place = vec![0u64; size.div_ceil(8)].into_boxed_slice();
        let at = place.as_mut_ptr();
        // SAFETY: a live context and queue; a place of at least the size given.
        let status = unsafe {
            match kind {
                0 => xcopy_device_info(self.context, device, at.cast(), size),
                1 => xcopy_progress(self.queue, user_data, at.cast(), size),
                2 => xcopy_queue_stats(self.queue, at.cast(), size),
                3 => xcopy_plugin_info(self.context, input.u8() as u32 % 8, at.cast(), size),
                4 => xcopy_token_info(self.context, input.pick(&self.tokens), at.cast(), size),
                _ => xcopy_device_is_closed(self.context, device),
            }
        };
        answered(status);
    }

    fn replace_queue(&mut self, input: &mut Input) {
        // SAFETY: a live queue, given up if the answer is 0.
        let status = answered(unsafe { xcopy_queue_destroy(self.queue, 0) });
        assert!(status == 0 || status == -libc::EBUSY);
        if status == 0 {
            assert!(self.ledger.is_empty(), "destroyed with requests in flight");
            self.make_queue(input);
        }
    }

    /// What is known of requests that do not end.
    fn state(&self) -> String {
        let (mut stats, mut progress) = (xcopy_queue_stats::default(), Vec::new());
        // SAFETY: a live queue; places of the sizes given.
        unsafe {
            xcopy_queue_stats(self.queue, &mut stats, size_of::<xcopy_queue_stats>());
            for user_data in self.ledger.keys() {
                let mut one = xcopy_progress::default();
                xcopy_progress(self.queue, user_data, &mut one, size_of::<xcopy_progress>());
                progress.push((user_data, one));
            }
        }
        format!("{progress:?}, {stats:?}")
    }

    /// Waits for all, gives everything back, and looks at the files. Answers
    /// whether something was abandoned.
    fn end(mut self) -> bool {
        let begun = Instant::now();
        let mut none = Input(&[]);
        // Petabytes of zeroes in a file are legal, and take long.
        for user_data in self.ledger.keys() {
            // SAFETY: a live queue.
            answered(unsafe { xcopy_cancel(self.queue, user_data) });
        }
        while !self.ledger.is_empty() {
            assert!(begun.elapsed() < LONG, "lost: {}", self.state());
            self.poll(&mut none, 1);
        }
        // SAFETY: plain data; a live queue, given up; a live context, given up.
        let abandoned = unsafe {
            assert_eq!(answered(xcopy_queue_in_flight(self.queue)), 0);
            let mut stats = xcopy_queue_stats::default();
            xcopy_queue_stats(self.queue, &mut stats, size_of::<xcopy_queue_stats>());
            if stats.abandoned == 0 {
                // What opens and closes devices on a queue is no request.
                while answered(xcopy_queue_destroy(self.queue, 0)) == -libc::EBUSY {
                    assert!(begun.elapsed() < LONG, "the queue stays busy");
                    self.poll(&mut none, 0);
                }
            } else {
                answered(xcopy_queue_destroy(self.queue, XCOPY_DESTROY_FORCE));
            }
            answered(xcopy_context_free(self.context));
            stats.abandoned != 0
        };
        for (index, file) in self.files.iter().enumerate() {
            let mut now = vec![0; FILE as usize];
            file.read_exact_at(&mut now, 0).expect("a file shrank");
            if now == pattern(index) {
                continue;
            }
            for (at, (byte, first)) in (0u64..).zip(now.iter().zip(pattern(index))) {
                let mut spans = self.dirty[index].iter();
                assert!(
                    byte == first || spans.any(|(a, b)| (*a..*b).contains(&at)),
                    "byte {at} of file {index} was written"
                );
            }
        }
        abandoned
    }
}
