//! What a plugin says: its table, its devices, its verdicts and its results are
//! the fuzzer's. Whatever they are, each request completes once, and nobody is
//! told that more was copied than was asked for.

use crate::input::Input;
use crate::ledger::{Ledger, answered};
use crate::plugin;
use std::ffi::c_char;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use xcopy::abi::*;
use xcopy::*;

const LONG: Duration = Duration::from_secs(20);

struct World {
    context: *mut xcopy_context,
    queue: *mut xcopy_queue,
    devices: Vec<u32>,
    tokens: Vec<u32>,
    ledger: Ledger<Extra>,
}

/// Memory of one request.
struct Extra {
    _ext: Box<xcopy_ext>,
    _ranges: Box<[xcopy_range]>,
    report: Box<xcopy_report>,
}

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    plugin::make_table(&mut input);
    // The calls and the answers have a stream of bytes each, so that one can be
    // changed without the other.
    let n = input.0.len() / 2;
    plugin::begin(&input.0[n..]);
    input.0 = &input.0[..n];
    let before = existing();
    if let Some(mut world) = World::new(&mut input) {
        for _ in 0..48 {
            world.step(&mut input);
            if input.is_empty() {
                break;
            }
        }
        let clean = world.end();
        assert!(
            !clean || existing() == before,
            "devices and queues are {:?}, were {before:?}",
            existing()
        );
    }
}

/// Devices and queues of the plugin.
fn existing() -> (u32, u32) {
    let of = |count: &AtomicU32| count.load(Ordering::Acquire);
    (of(&plugin::DEVICES), of(&plugin::QUEUES))
}

impl World {
    fn new(input: &mut Input) -> Option<World> {
        // SAFETY: plain data, for which zeroes are valid (NULL and None).
        let mut options: xcopy_context_options = unsafe { std::mem::zeroed() };
        let (mut context, mut queue) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: places of the sizes given; a plugin's entry point.
        let registered = unsafe {
            xcopy_context_options_init(&mut options, size_of::<xcopy_context_options>());
            options.pool_threads = 1 + u32::from(input.u8() % 2);
            options.retry_after_s = u32::from(input.u8() % 2);
            assert_eq!(answered(xcopy_context_create(&options, &mut context)), 0);
            answered(xcopy_plugin_register(context, Some(plugin::init)))
        };
        // SAFETY: plain data; places of the sizes given; a live context.
        unsafe {
            let mut options: xcopy_queue_options = std::mem::zeroed();
            xcopy_queue_options_init(&mut options, size_of::<xcopy_queue_options>());
            (options.capacity, options.window) = (32, 16);
            options.chunk = if input.one_in(2) { 64 << 10 } else { 0 };
            if registered != 0 || answered(xcopy_queue_create(context, &options, &mut queue)) != 0 {
                assert_eq!(answered(xcopy_context_free(context)), 0);
                return None;
            }
        }
        let mut world = World {
            context,
            queue,
            devices: vec![0],
            tokens: vec![0],
            ledger: Ledger::default(),
        };
        for _ in 0..3 {
            world.open(c"fuzzed:x".as_ptr());
        }
        Some(world)
    }

    fn open(&mut self, name: *const c_char) {
        let (mut device, mut token) = (0, 0);
        // SAFETY: a live context, a string, places for the answers.
        unsafe {
            let flags = XCOPY_OPEN_READ | XCOPY_OPEN_WRITE;
            if answered(xcopy_device_open(self.context, name, flags, &mut device)) == 0 {
                self.devices.push(device);
            }
            if answered(xcopy_token_create(self.context, &mut token)) == 0 {
                self.tokens.push(token);
            }
        }
    }

    fn step(&mut self, input: &mut Input) {
        let device = input.pick(&self.devices);
        let (context, queue) = (self.context, self.queue);
        // SAFETY: a live context and queue.
        unsafe {
            match input.u8() % 24 {
                0..12 => self.submit(input),
                12..18 => self.poll(0, input.pick(&[0, 1000, 500_000])),
                18 => drop(answered(xcopy_cancel(queue, u64::from(input.u8())))),
                19 => drop(answered(xcopy_device_invalidate(context, device))),
                20 => plugin::event(input.u8().into(), input.number()),
                21 if input.one_in(4) => drop(answered(xcopy_device_close(context, device))),
                21 => self.open(c"fuzzed:y".as_ptr()),
                22 => self.query(input, device),
                _ => drop(answered(xcopy_cancel_device(queue, device))),
            }
        }
    }

    fn query(&self, input: &mut Input, device: u32) {
        let stride = size_of::<xcopy_method_info>();
        let mut places = vec![0u8; stride * 8];
        let other = input.pick(&self.devices);
        // SAFETY: a live context and eight places.
        let n = answered(unsafe {
            xcopy_pair_query(
                self.context,
                device,
                other,
                places.as_mut_ptr().cast(),
                stride,
                8,
            )
        });
        for place in places.chunks_exact(stride).take(n.max(0) as usize) {
            // SAFETY: a whole struct of plain data.
            let info = unsafe { place.as_ptr().cast::<xcopy_method_info>().read_unaligned() };
            for field in [&info.name[..], &info.plugin, &info.text] {
                assert!(field.contains(&0), "a text without an end");
            }
        }
    }

    fn submit(&mut self, input: &mut Input) {
        let (src, dst) = (input.pick(&self.devices), input.pick(&self.devices));
        let token = input.pick(&self.tokens);
        let mut request = xcopy_request {
            user_data: self.ledger.fresh(),
            op: XCOPY_OP_COPY,
            reserved: 0,
            flags: if input.one_in(3) {
                1 << input.below(9)
            } else {
                0
            },
            src,
            dst,
            src_offset: u64::from(input.u8()) * 512,
            dst_offset: (1 << 19) + u64::from(input.u8()) * 512,
            length: u64::from(input.u16() % 2048) * 8 + 8,
            methods: 0,
            timeout_ms: if input.one_in(4) {
                1 + u32::from(input.u8() % 8)
            } else {
                0
            },
            ext: ptr::null(),
        };
        match input.u8() % 16 {
            0 => (request.op, request.src, request.src_offset) = (XCOPY_OP_ZERO, 0, 0),
            1 => {
                (request.op, request.src) = (XCOPY_OP_FLUSH, 0);
                (request.src_offset, request.dst_offset, request.length) = (0, 0, 0);
            }
            2 => {
                request.op = XCOPY_OP_PREPARE;
                (request.src_offset, request.dst_offset, request.length) = (0, 0, 0);
            }
            3 => {
                (request.op, request.dst) = (XCOPY_OP_TOKEN_CREATE, token);
                request.dst_offset = 0;
            }
            4 => {
                (request.op, request.src) = (XCOPY_OP_TOKEN_WRITE, token);
                request.src_offset %= 4096;
            }
            5 => {
                (request.op, request.src, request.dst) = (XCOPY_OP_TOKEN_RELEASE, token, 0);
                (request.src_offset, request.dst_offset, request.length) = (0, 0, 0);
            }
            _ => {}
        }
        if !request.length.is_multiple_of(512) && !input.one_in(3) {
            request.length = request.length.next_multiple_of(512);
        }
        let list = request.op == XCOPY_OP_COPY && input.one_in(4);
        let ranges: Box<[xcopy_range]> = (0..if list { 1 + input.below(20) as u64 } else { 0 })
            .map(|index| xcopy_range {
                src_offset: index * 8192,
                dst_offset: index * 4096,
                length: 512 * (1 + u64::from(input.u8() % 8)),
            })
            .collect();
        if list {
            request.length = 0;
        }
        // SAFETY: plain data, for which zeroes are valid.
        let mut report: Box<xcopy_report> = Box::new(unsafe { std::mem::zeroed() });
        report.size = size_of::<xcopy_report>() as u32;
        let ext = Box::new(xcopy_ext {
            size: size_of::<xcopy_ext>() as u32,
            reserved: 0,
            ranges: if list { ranges.as_ptr() } else { ptr::null() },
            nranges: ranges.len() as u64,
            report: &raw mut *report,
            token_lifetime_s: 0,
            token_type: 0,
        });
        request.ext = &raw const *ext;
        let bytes = match request.op {
            XCOPY_OP_COPY | XCOPY_OP_ZERO | XCOPY_OP_TOKEN_WRITE => {
                Some(request.length + ranges.iter().map(|range| range.length).sum::<u64>())
            }
            _ => None,
        };
        // SAFETY: a live queue, one request; what it points to is kept.
        if answered(unsafe { xcopy_submit(self.queue, &request, 64, 1) }) == 1 {
            let extra = Extra {
                _ext: ext,
                _ranges: ranges,
                report,
            };
            self.ledger.accepted(request.user_data, bytes, extra);
        }
    }

    fn poll(&mut self, min: u32, timeout: i64) {
        let mut done = [xcopy_completion::default(); 8];
        // SAFETY: a live queue and eight places.
        let n = answered(unsafe { xcopy_poll(self.queue, done.as_mut_ptr(), 64, min, 8, timeout) });
        for done in &done[..n.max(0) as usize] {
            let entry = self.ledger.completed(done);
            let report = &entry.with.report;
            let shares = &report.shares[..report.nshares as usize];
            if entry.bytes.is_some() {
                let sum: u64 = shares.iter().map(|share| share.bytes).sum();
                assert_eq!(sum, done.bytes_copied, "{done:?} {shares:?}");
            }
            assert!(report.nfallbacks as usize <= XCOPY_REPORT_FALLBACKS);
            assert!(report.sense_len as usize <= XCOPY_SENSE_MAX);
            for fallback in &report.fallbacks[..report.nfallbacks as usize] {
                assert!((-4095..=0).contains(&fallback.error), "{fallback:?}");
            }
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
        let (model, held) = (plugin::model(), plugin::HELD.load(Ordering::Acquire));
        format!("{progress:?}, {stats:?}, a plugin of model {model} holds {held}")
    }

    /// The plugin answers truly from now on, so all must end. False if requests
    /// were abandoned: what they held may be held for ever.
    fn end(mut self) -> bool {
        plugin::settle();
        let begun = Instant::now();
        while !self.ledger.is_empty() {
            assert!(begun.elapsed() < LONG, "lost: {}", self.state());
            self.poll(1, 1_000_000);
        }
        // SAFETY: plain data; a live queue and context, given up.
        unsafe {
            let mut stats = xcopy_queue_stats::default();
            let size = size_of::<xcopy_queue_stats>();
            assert_eq!(answered(xcopy_queue_stats(self.queue, &mut stats, size)), 0);
            while answered(xcopy_queue_destroy(self.queue, 0)) == -libc::EBUSY {
                // Commands of what was abandoned end now.
                assert!(begun.elapsed() < LONG, "the queue stays busy");
                self.poll(0, 0);
            }
            assert_eq!(answered(xcopy_context_free(self.context)), 0);
            stats.abandoned == 0
        }
    }
}
