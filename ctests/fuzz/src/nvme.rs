//! What an NVMe controller says: Identify data, features, statuses and results of
//! any bytes, on the plugin's way from opening to a copy.

use crate::input::Input;
use crate::ledger::{answered, take};
use std::collections::VecDeque;
use std::ffi::CStr;
use std::os::fd::BorrowedFd;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use xcopy::abi::*;
use xcopy::*;
use xcopy_plugin_nvme::system::{Answer, Completion, Link, Port, Ring, System};
use xcopy_plugin_nvme::wire::{Command, Controller, Format, NamespaceData, Tags};
use xcopy_plugin_nvme::{Nvme, Paths};
use xcopy_plugin_sdk::{Description, Failure, errno, init_polled};

/// Blocks of both namespaces.
const BLOCKS: u64 = 2048;
/// Bytes of each.
const BYTES: u64 = BLOCKS * 512;

/// What the controller says next, and what it let be copied.
struct Script {
    bytes: Vec<u8>,
    /// Bytes of Copy commands that it said to be copied, wholly or in part.
    copied: u64,
}

static SCRIPT: Mutex<Script> = Mutex::new(Script {
    bytes: Vec::new(),
    copied: 0,
});

fn script() -> MutexGuard<'static, Script> {
    SCRIPT.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Script {
    /// Draws from its bytes; when they are used up the controller is good.
    fn draw<R>(&mut self, from: impl FnOnce(&mut Input) -> R) -> R {
        let mut input = Input(&self.bytes);
        let drawn = from(&mut input);
        self.bytes = input.0.to_vec();
        drawn
    }

    /// How a command ends: mostly well.
    fn end(&mut self) -> Answer {
        self.draw(|input| match input.u8() {
            0..160 => Ok(Completion::default()),
            160..240 => Ok(Completion {
                status: input.pick(&[
                    0x001, 0x002, 0x007, 0x00b, 0x080, 0x183, 0x185, 0x187, 0x189, 0x280, 0x281,
                    0x4002, 0x4080, 0x4183, 0x4281, 0x7fff, 0x370,
                ]),
                result: u64::from(input.u8() % 20),
            }),
            _ => Err(input.pick(&[
                libc::EINTR,
                libc::EAGAIN,
                libc::EACCES,
                libc::ENODEV,
                libc::EOPNOTSUPP,
                libc::EIO,
                4095,
            ])),
        })
    }
}

/// What a good controller says of itself and its namespaces.
fn honest(command: &Command, data: &mut [u8]) {
    data.fill(0);
    match (command.opcode, command.cdw10) {
        (0x06, 0x01) => {
            (data[521], data[534]) = (1, 0xf);
            data[97] = 0x80;
        }
        (0x06, 0x00) => {
            data[..8].copy_from_slice(&BLOCKS.to_le_bytes());
            (data[74], data[76], data[80], data[130]) = (64, 200, 15, 9);
        }
        (0x0a, _) => data[4] = 4,
        _ => {}
    }
}

/// The fuzzed controller.
struct Fuzzed;

struct FuzzedPort {
    has_ring: bool,
    privileged: bool,
}

struct FuzzedRing {
    queued: Vec<(Command, u64)>,
    ended: VecDeque<(u64, Answer)>,
    fd: std::fs::File,
}

impl System for Fuzzed {
    const NAME: &'static CStr = c"nvme_fuzzed";
    const FLAGS: u32 = XCOPY_PLUGIN_NATIVE;
    type Port = FuzzedPort;
    type Ring = FuzzedRing;

    fn connect(device: &Description<'_>) -> Result<Link<FuzzedPort>, Failure> {
        let nsid = device.name().and_then(|name| name.parse().ok());
        let nsid = nsid.ok_or_else(|| Failure::new(errno::EINVAL))?;
        Ok(script().draw(|input| Link {
            port: FuzzedPort {
                has_ring: !input.one_in(4),
                privileged: !input.one_in(32),
            },
            nsid,
            controller: if input.one_in(16) { "b" } else { "a" }.to_owned(),
            name: nsid.to_string(),
            offset: if input.one_in(4) { input.number() } else { 0 },
            size: BYTES,
            block: if input.one_in(16) { 4096 } else { 512 },
            local: true,
            writable: !input.one_in(16),
        }))
    }

    fn ring(_entries: u32, _pinned: bool) -> Result<FuzzedRing, String> {
        if script().draw(|input| input.one_in(8)) {
            return Err("none today".to_owned());
        }
        let fd = std::fs::File::open("/dev/null").map_err(|error| error.to_string())?;
        Ok(FuzzedRing {
            queued: Vec::new(),
            ended: VecDeque::new(),
            fd,
        })
    }
}

impl Port for FuzzedPort {
    fn admin(&self, command: Command, data: &mut [u8]) -> Answer {
        let mut script = script();
        if command.opcode != 0x09 {
            honest(&command, data);
            // A few bytes of it are not what they were, most where they matter.
            let n = script.draw(|input| match input.u8() {
                0..200 => 0,
                many => many & 7,
            });
            for _ in 0..n {
                let (at, byte) = script.draw(|input| {
                    let places = [0, 3, 4, 7, 12, 13, 26, 29, 74, 75, 76, 79, 80, 97, 128, 130];
                    let more = [386, 520, 521, 534, 535];
                    let at = match input.u8() {
                        0..128 => input.pick(&places),
                        128..192 => input.pick(&more),
                        _ => usize::from(input.u16()),
                    };
                    (at, input.u8())
                });
                let length = data.len();
                data[at % length] = byte;
            }
        }
        // Most questions are answered.
        match script.draw(|input| input.one_in(8)) {
            true => script.end(),
            false => Ok(Completion::default()),
        }
    }

    fn io(&self, command: Command, data: &[u8]) -> Answer {
        ended(&command, data)
    }

    fn is_there(&self) -> bool {
        !script().draw(|input| input.one_in(200))
    }

    fn has_ring(&self) -> bool {
        self.has_ring
    }

    fn would_send(&self, _: Command) -> Result<(), i32> {
        match self.privileged {
            true => Ok(()),
            false => Err(libc::EACCES),
        }
    }

    fn hindrance(&self) -> String {
        String::new()
    }

    fn paths(&self) -> Paths {
        Paths::default()
    }
}

/// A command ends; a Copy is well made, whatever was said before.
fn ended(command: &Command, data: &[u8]) -> Answer {
    assert_eq!(data.len(), command.data_len as usize);
    let mut lengths = Vec::new();
    if let Some((ranges, format)) = command.copy_shape() {
        assert_eq!(data.len(), ranges * format.entry_bytes(), "exact length");
        let bytes = |blocks: u32| u64::from(blocks) * 512;
        lengths.extend(format.entries(data).map(|entry| bytes(entry.blocks)));
        assert_eq!(lengths.len(), ranges);
    }
    let mut script = script();
    let answer = script.end();
    let known = match answer {
        Ok(Completion { status: 0, .. }) => lengths.len(),
        Ok(Completion { result, .. }) => result as usize,
        Err(_) => 0,
    };
    script.copied += lengths.iter().take(known).sum::<u64>();
    answer
}

impl Ring<FuzzedPort> for FuzzedRing {
    fn push(&mut self, _: &FuzzedPort, command: Command, token: u64) -> bool {
        if self.queued.len() == 16 {
            return false;
        }
        self.queued.push((command, token));
        true
    }

    fn enter(&mut self) {
        for (command, token) in std::mem::take(&mut self.queued) {
            let data = match command.data_len {
                0 => &[][..],
                // SAFETY: address and length of the plugin's buffer, which stays
                // as it is until the token comes back.
                length => unsafe {
                    std::slice::from_raw_parts(command.addr as *const u8, length as usize)
                },
            };
            self.ended.push_back((token, ended(&command, data)));
        }
    }

    fn next(&mut self) -> Option<(u64, Answer)> {
        // A token that it was never given is no command's.
        if script().draw(|input| input.u8()) == 255 {
            return Some((99, Ok(Completion::default())));
        }
        self.ended.pop_front()
    }

    fn is_ready(&mut self) -> bool {
        !self.ended.is_empty() || !self.queued.is_empty()
    }

    fn fd(&self) -> BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.fd)
    }

    fn abandon(self) {}
}

/// Runs one input.
pub fn run(data: &[u8]) {
    parse(data);
    let mut input = Input(data);
    let n = input.0.len() / 2;
    {
        let mut script = script();
        script.bytes = input.0[n..].to_vec();
        script.copied = 0;
    }
    input.0 = &input.0[..n];
    copies(&mut input);
}

/// Decoders under the bytes themselves.
fn parse(data: &[u8]) {
    let _ = Controller::parse(data);
    if let Some(found) = NamespaceData::parse(data) {
        assert!(found.format_index < 64);
        let _ = Tags::parse(data, found.format_index);
    }
    for format in (0..=255).filter_map(Format::of) {
        assert_eq!(
            format.entries(data).count(),
            data.len() / format.entry_bytes()
        );
    }
}

/// A few copies under the core: each completes once, and claims no more than the
/// controller said.
fn copies(input: &mut Input) {
    let (mut context, mut queue) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: plain data, for which zeroes are valid; places of the sizes given; a
    // plugin's entry point; a live context.
    unsafe {
        let mut options: xcopy_context_options = std::mem::zeroed();
        xcopy_context_options_init(&mut options, size_of::<xcopy_context_options>());
        (options.pool_threads, options.retry_after_s) = (1, 1);
        assert_eq!(answered(xcopy_context_create(&options, &mut context)), 0);
        let init = init_polled::<Nvme<Fuzzed>>;
        assert_eq!(answered(xcopy_plugin_register(context, Some(init))), 0);
        let mut options: xcopy_queue_options = std::mem::zeroed();
        xcopy_queue_options_init(&mut options, size_of::<xcopy_queue_options>());
        (options.capacity, options.window) = (8, 1 + u32::from(input.u8() % 32));
        assert_eq!(
            answered(xcopy_queue_create(context, &options, &mut queue)),
            0
        );
    }
    let mut devices = Vec::new();
    for name in [c"nvme_fuzzed:1", c"nvme_fuzzed:2"] {
        let mut device = 0;
        let flags = XCOPY_OPEN_READ | XCOPY_OPEN_WRITE;
        // SAFETY: a live context, a string, a place for the answer.
        if unsafe { xcopy_device_open(context, name.as_ptr(), flags, &mut device) } == 0 {
            devices.push(device);
        }
    }
    for _ in 0..6 {
        if !devices.is_empty() {
            copy(input, queue, &devices);
        }
        if input.is_empty() {
            break;
        }
    }
    // SAFETY: both are live and given up here; nothing is in flight.
    unsafe {
        assert_eq!(answered(xcopy_queue_destroy(queue, 0)), 0);
        assert_eq!(answered(xcopy_context_free(context)), 0);
    }
}

fn copy(input: &mut Input, queue: *mut xcopy_queue, devices: &[u32]) {
    let n = 1 + input.below(24);
    let unit = 512 * (1 + u64::from(input.u8() % 24));
    let gap = if input.one_in(2) { 512 } else { 0 };
    let ranges: Vec<_> = (0..n as u64)
        .map(|at| xcopy_range {
            src_offset: at * unit,
            dst_offset: BYTES / 2 + at * (unit + gap),
            length: unit,
        })
        .collect();
    let total = unit * n as u64;
    let ext = xcopy_ext {
        size: size_of::<xcopy_ext>() as u32,
        reserved: 0,
        ranges: ranges.as_ptr(),
        nranges: n as u64,
        report: ptr::null_mut(),
        token_lifetime_s: 0,
        token_type: 0,
    };
    let flags = [
        XCOPY_REQ_SET_HOST_BEHAVIOR,
        XCOPY_REQ_FAST_ONLY,
        XCOPY_REQ_DURABLE,
    ];
    let request = xcopy_request {
        user_data: 5,
        op: XCOPY_OP_COPY,
        reserved: 0,
        flags: XCOPY_REQ_NO_FALLBACK | input.pick(&flags),
        src: input.pick(devices),
        dst: input.pick(devices),
        src_offset: 0,
        dst_offset: 0,
        length: 0,
        methods: 0,
        timeout_ms: 0,
        ext: &ext,
    };
    let before = script().copied;
    let mut done = [xcopy_completion::default(); 2];
    // SAFETY: a live queue, one request of 64 bytes that lives until its end, and
    // two places.
    let ended = unsafe {
        if answered(xcopy_submit(queue, &request, 64, 1)) != 1 {
            return;
        }
        take(queue, &mut done)
    };
    assert_eq!(ended, 1, "one request, one completion");
    let said = script().copied - before;
    let done = done[0];
    assert_eq!(done.user_data, 5);
    assert!(done.bytes_done <= done.bytes_copied && done.bytes_copied <= total);
    assert!(done.bytes_copied <= said, "{} of {said}", done.bytes_copied);
    assert!(done.res != 0 || done.bytes_done == total);
}
