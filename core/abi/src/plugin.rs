//! The contract between the core and a backend plugin.

use crate::types::{xcopy_limits, xcopy_range};
use core::ffi::{c_char, c_int, c_void};

/// Interface version of this header: major << 16 | minor. A core refuses
/// another major; a minor never matters, because both tables state their size
/// and only grow at their end.
pub const XCOPY_ABI_VERSION: u32 = 1;

/* ---------------------------------------------------------------- models */

/// All queue functions are called on the queue's owner thread and return at
/// once; commands end inside submit or poll, or, where one of them has to block,
/// on a thread of the plugin's by host.complete. open, close and probe may block:
/// the pool calls them.
pub const XCOPY_MODEL_POLLED: u32 = 1;
/// Like POLLED, but commands end on the plugin's own threads by host.complete;
/// `poll` may be NULL.
pub const XCOPY_MODEL_THREADED: u32 = 2;
/// `execute` blocks; the core's pool calls it, several at once. Where the pool has
/// two threads or more, no plugin gets all of them.
pub const XCOPY_MODEL_BLOCKING: u32 = 3;
/// Like POLLED, but opening, probing and closing come as commands too
/// (XCOPY_CMD_OPEN, _PROBE, _CLOSE), so that a plugin bound to one thread sees
/// no other. Each queue opens a device for itself; only `start`, `stop` are
/// called elsewhere.
pub const XCOPY_MODEL_AFFINE: u32 = 4;

/// Plugin flag: `open` takes what the kernel knows (files, disks) besides or
/// instead of native handles.
pub const XCOPY_PLUGIN_KERNEL: u32 = 1 << 0;
/// Plugin flag: `open` takes `name:spec` strings and native handles.
pub const XCOPY_PLUGIN_NATIVE: u32 = 1 << 1;

/// Method flag: bytes do not pass through the host.
pub const XCOPY_METHOD_OFFLOADS: u32 = 1 << 0;
/// Method flag: goes past the page cache; the core writes dirty pages before
/// and drops stale ones after.
pub const XCOPY_METHOD_BYPASSES_CACHE: u32 = 1 << 1;
/// Method flag: chosen only when the caller names it.
pub const XCOPY_METHOD_BY_NAME: u32 = 1 << 2;
/// Method flag: the core must not have two commands of one queue touch the same
/// destination device at once.
pub const XCOPY_METHOD_SERIAL_DST: u32 = 1 << 3;
/// Method flag: holes of a source become written zeroes. A request with
/// XCOPY_REQ_KEEP_HOLES passes it over while another method that it allows is left.
pub const XCOPY_METHOD_FILLS_HOLES: u32 = 1 << 4;
/// Method flag: the last bytes of a source need not meet the length granularity,
/// if the destination does not go on behind them (FICLONERANGE).
pub const XCOPY_METHOD_TAIL_AT_END: u32 = 1 << 5;
/// Method flag: it has to switch a feature of the device on first. Only requests
/// with XCOPY_REQ_SET_HOST_BEHAVIOR take it.
pub const XCOPY_METHOD_NEEDS_FEATURE: u32 = 1 << 6;

/// Verdict flag: on this pair the method is chosen only when the caller names
/// it, as with XCOPY_METHOD_BY_NAME.
pub const XCOPY_VERDICT_BY_NAME: u32 = 1 << 0;
/// Verdict flag: on this pair bytes pass through the host, whatever
/// XCOPY_METHOD_OFFLOADS says.
pub const XCOPY_VERDICT_THROUGH_HOST: u32 = 1 << 1;
/// Verdict flag: on this pair the method fills holes, as with
/// XCOPY_METHOD_FILLS_HOLES.
pub const XCOPY_VERDICT_FILLS_HOLES: u32 = 1 << 2;
/// Verdict flag: on this pair a feature of the device has to be switched on
/// first, as with XCOPY_METHOD_NEEDS_FEATURE. Once it is on, tell
/// XCOPY_EVENT_LIMITS_CHANGED, and the pair is judged again.
pub const XCOPY_VERDICT_NEEDS_FEATURE: u32 = 1 << 3;

/* -------------------------------------------------------------- commands */

/// Copy `ranges` from `src` to `dst`.
pub const XCOPY_CMD_COPY: u16 = 1;
/// Make `ranges` (dst_offset, length) of `dst` read as zeroes.
pub const XCOPY_CMD_ZERO: u16 = 2;
/// Make what was written to `dst` durable.
pub const XCOPY_CMD_FLUSH: u16 = 3;
/// Read `ranges[0]` (src_offset, length) of `src` into `buffer`.
pub const XCOPY_CMD_READ: u16 = 4;
/// Write `buffer` to `ranges[0]` (dst_offset, length) of `dst`.
pub const XCOPY_CMD_WRITE: u16 = 5;
/// Make one token for `ranges[0]` (src_offset, length) of `src`; put it in `token`.
pub const XCOPY_CMD_TOKEN_CREATE: u16 = 6;
/// Write `ranges[0]` of the token `token` to `dst`; src_offset counts bytes into
/// this token.
pub const XCOPY_CMD_TOKEN_WRITE: u16 = 7;
/// Release the token `token` on `dst`: a device that it was made of, perhaps as part
/// of one that failed.
pub const XCOPY_CMD_TOKEN_RELEASE: u16 = 8;
/// AFFINE: open the device that `arg`, an xcopy_open_args, describes.
pub const XCOPY_CMD_OPEN: u16 = 9;
/// AFFINE: close `src`.
pub const XCOPY_CMD_CLOSE: u16 = 10;
/// AFFINE: fill the verdicts in `arg`, an xcopy_probe_args, for (`src`, `dst`),
/// of which one is NULL when the question is about tokens.
pub const XCOPY_CMD_PROBE: u16 = 11;

/// Bit of a command in xcopy_plugin.commands.
pub const XCOPY_CAN_COPY: u32 = 1 << 1;
/// The plugin takes XCOPY_CMD_ZERO.
pub const XCOPY_CAN_ZERO: u32 = 1 << 2;
/// The plugin takes XCOPY_CMD_FLUSH.
pub const XCOPY_CAN_FLUSH: u32 = 1 << 3;
/// The plugin takes XCOPY_CMD_READ.
pub const XCOPY_CAN_READ: u32 = 1 << 4;
/// The plugin takes XCOPY_CMD_WRITE.
pub const XCOPY_CAN_WRITE: u32 = 1 << 5;
/// The plugin takes XCOPY_CMD_TOKEN_CREATE, _WRITE and _RELEASE.
pub const XCOPY_CAN_TOKEN: u32 = 1 << 6;

/// Command flag: durable when it ends (FUA or the like), if the plugin has no FLUSH.
pub const XCOPY_CMD_DURABLE: u32 = 1 << 0;
/// Command flag: fail rather than copy slower than the host would (NVMe SOPT FCO).
pub const XCOPY_CMD_FAST_ONLY: u32 = 1 << 1;
/// Command flag: the caller allowed XCOPY_REQ_SET_HOST_BEHAVIOR.
pub const XCOPY_CMD_SET_HOST_BEHAVIOR: u32 = 1 << 2;
/// Command flag, COPY: the caller forbade that bytes pass through the host, or
/// did not name the method. What would not be offloaded fails with
/// XCOPY_ACTION_NEXT_METHOD. A method that always offloads may ignore it.
pub const XCOPY_CMD_OFFLOAD_ONLY: u32 = 1 << 3;

/// One command. Core memory: stable and unchanged from submit until it is
/// completed, after which the plugin must not touch it.
#[repr(C)]
pub struct xcopy_cmd {
    /// Give it back in the result.
    pub cookie: u64,
    /// One of XCOPY_CMD_.
    pub op: u16,
    /// The method's number, fixed or given at registration.
    pub method: u16,
    /// XCOPY_CMD_ flags.
    pub flags: u32,
    /// What `open` gave for the source, or NULL.
    pub src: *mut c_void,
    /// What `open` gave for the destination, or NULL.
    pub dst: *mut c_void,
    /// The ranges in bytes, absolute, within the method's limits.
    pub ranges: *const xcopy_range,
    /// Number of ranges, at most the plugin's max_ranges.
    pub nranges: u32,
    /// Milliseconds that the caller still gives the command; 0 is no limit. A
    /// hint: the core does not take the command back.
    pub timeout_ms: u32,
    /// Sum of the lengths, in bytes.
    pub bytes: u64,
    /// READ: where to, WRITE: where from; `bytes` long, aligned to 4,096.
    pub buffer: *mut c_void,
    /// TOKEN_: the token.
    pub token: *mut u8,
    /// TOKEN_CREATE: room at `token`; TOKEN_WRITE, _RELEASE: its length.
    pub token_size: u32,
    /// TOKEN_CREATE: type wanted, 0 is the default.
    pub token_type: u32,
    /// TOKEN_CREATE: seconds to live wanted, 0 is the default.
    pub token_lifetime_s: u32,
    /// Index of the method in xcopy_plugin.methods; 0 where `method` is none of the
    /// plugin's. A plugin cannot know the numbers that the core gives to names.
    pub method_index: u32,
    /// OPEN, PROBE: the arguments.
    pub arg: *mut c_void,
    /// The plugin's private bytes of this command (xcopy_plugin.cmd_private),
    /// aligned to 16; not cleared between commands.
    pub private_data: *mut c_void,
}

/// What the core does after a failure: by the error number.
pub const XCOPY_ACTION_DEFAULT: u16 = 0;
/// Transient (unit attention, busy, queue full): give the command again, later.
pub const XCOPY_ACTION_RETRY: u16 = 1;
/// Too large: limits are read again, the command is split and given again.
pub const XCOPY_ACTION_SPLIT: u16 = 2;
/// This method cannot do it: the rest goes by the next method, and this one
/// rests on this pair for a while.
pub const XCOPY_ACTION_NEXT_METHOD: u16 = 3;
/// No method can: the request fails.
pub const XCOPY_ACTION_FATAL: u16 = 4;

/// Result flag: the error arose reading the source.
pub const XCOPY_RESULT_ERR_ON_READ: u32 = 1 << 0;
/// Result flag: the error arose writing the destination.
pub const XCOPY_RESULT_ERR_ON_WRITE: u32 = 1 << 1;
/// Result flag: the destination was certainly not touched.
pub const XCOPY_RESULT_UNTOUCHED: u32 = 1 << 2;
/// Result flag: the command's bytes passed through the host, although the
/// method offloads on this pair.
pub const XCOPY_RESULT_THROUGH_HOST: u32 = 1 << 3;
/// Result flag of a failure: the device would not say that the command ended, so
/// it may still write. The request fails, whatever the action says.
pub const XCOPY_RESULT_UNSETTLED: u32 = 1 << 4;
/// Result flag of a failure: nothing was sent to the device, so the destination was
/// not touched and no command is counted.
pub const XCOPY_RESULT_UNSENT: u32 = 1 << 5;

/// The end of one command.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct xcopy_result {
    /// The command's; `execute` finds it set.
    pub cookie: u64,
    /// 0 or -errno.
    pub status: i32,
    /// XCOPY_ACTION_ for a failure.
    pub action: u16,
    /// XCOPY_REASON_ for a failure.
    pub reason: u16,
    /// Success: the command's bytes. Failure: bytes, from the first range on,
    /// that are known to be copied (0 if not known).
    pub bytes: u64,
    /// The error in the device's words, packed as in xcopy_completion.detail.
    pub detail: u64,
    /// XCOPY_RESULT_ flags.
    pub flags: u32,
    /// Bytes at `sense`, at most 252.
    pub sense_len: u32,
    /// Sense data, valid during the call; or NULL.
    pub sense: *const u8,
    /// TOKEN_CREATE: bytes put at xcopy_cmd.token.
    pub token_size: u32,
    /// TOKEN_CREATE: type of the token.
    pub token_type: u32,
    /// TOKEN_CREATE: seconds that the token lives without being used; 0 is
    /// not known, and the core takes what the caller asked for.
    pub token_lifetime_s: u32,
    /// 0.
    pub reserved: u32,
}

/* --------------------------------------------------------------- devices */

/// Describes a device to a plugin's `open`.
#[repr(C)]
pub struct xcopy_device_desc {
    /// sizeof as the core was compiled.
    pub size: u32,
    /// One of XCOPY_KIND_.
    pub kind: u32,
    /// XCOPY_OPEN_ flags.
    pub open_flags: u32,
    /// The core's fd of the node or file, valid until `close`; -1 for native.
    pub fd: c_int,
    /// Path or name as the caller gave it, NUL-terminated; for `name:spec` the
    /// part after the colon. Empty when opened by fd. Not to be reopened.
    pub name: *const c_char,
    /// The caller's native handle, or NULL.
    pub native: *mut c_void,
    /// Name the device to host.device_event with this.
    pub host_device: *mut c_void,
    /// Device number of the node, or of the file's file system.
    pub dev_major: u32,
    /// Its minor.
    pub dev_minor: u32,
    /// Device number of the whole disk, or 0.
    pub disk_major: u32,
    /// Its minor.
    pub disk_minor: u32,
    /// First byte of the device on that disk.
    pub disk_offset: u64,
    /// Inode of a file.
    pub inode: u64,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Logical block size in bytes; 1 for files.
    pub block_size: u32,
    /// Physical block size, or the file system's block.
    pub physical_block_size: u32,
}

/// What a plugin says of a device that it opened. The core sets `size` and
/// zeroes the rest.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct xcopy_device_props {
    /// sizeof as the core was compiled.
    pub size: u32,
    /// Logical block size in bytes: offsets and lengths of READ, WRITE and ZERO
    /// are multiples of it.
    pub block_size: u32,
    /// Size in bytes. Kernel devices may leave it 0: the core knows.
    pub size_bytes: u64,
    /// Bytes of READ and WRITE that work best; 0 leaves it to the core.
    pub preferred_io_bytes: u64,
    /// Bytes of READ, WRITE and ZERO at most; 0 is no limit.
    pub max_io_bytes: u64,
    /// Two native devices with the same non-zero identity are the same storage:
    /// overlap is checked across them.
    pub identity: u64,
    /// First byte of the device on that identity.
    pub identity_offset: u64,
    /// 1 if it cannot be written.
    pub read_only: u32,
    /// 0.
    pub reserved: u32,
    /// If `open` refuses: why, in words. Else what people call a native device, or
    /// nothing: tokens made of it say that they come from there. NUL-terminated.
    pub text: [c_char; 128],
}

/// A plugin's verdict on one of its methods for a pair. The core zeroes it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct xcopy_verdict {
    /// 1 if the method can be used.
    pub usable: u32,
    /// XCOPY_REASON_ if not, or if it is chosen only by name or needs a feature.
    pub reason: u16,
    /// Seconds for which this verdict holds; 0 leaves it to the core.
    pub ttl_s: u16,
    /// The limits.
    pub limits: xcopy_limits,
    /// Estimated throughput, in bytes per microsecond, for the choice between
    /// methods; 0 is unknown.
    pub bytes_per_us: u32,
    /// XCOPY_VERDICT_ flags.
    pub flags: u32,
    /// The reason in words, with what to do next; NUL-terminated.
    pub text: [c_char; 160],
}

/// Arguments of XCOPY_CMD_OPEN.
#[repr(C)]
pub struct xcopy_open_args {
    /// The device.
    pub desc: *const xcopy_device_desc,
    /// Receives the plugin's handle.
    pub device: *mut c_void,
    /// To be filled.
    pub props: xcopy_device_props,
}

/// Arguments of XCOPY_CMD_PROBE.
#[repr(C)]
pub struct xcopy_probe_args {
    /// One verdict for each of the plugin's methods, in their order, to be filled.
    pub verdicts: *mut xcopy_verdict,
    /// Bytes from one verdict to the next.
    pub stride: usize,
    /// Number of verdicts.
    pub n: u32,
    /// 0.
    pub reserved: u32,
}

/* ---------------------------------------------------------------- tables */

/// The core's side of one plugin queue.
#[repr(C)]
pub struct xcopy_host_queue {
    _opaque: [u8; 0],
}

/// What the core offers. Valid for the life of the process.
#[repr(C)]
pub struct xcopy_host {
    /// sizeof as the core was compiled: a field beyond it is not there.
    pub struct_size: u32,
    /// XCOPY_ABI_VERSION of the core.
    pub abi_version: u32,
    /// Writes a message to the context's log. Any thread. `host_ctx` as given
    /// to `start`.
    pub log:
        Option<unsafe extern "C" fn(host_ctx: *mut c_void, level: u32, message: *const c_char)>,
    /// Memory for data buffers from the context's allocator, or NULL. Any thread.
    pub alloc: Option<
        unsafe extern "C" fn(host_ctx: *mut c_void, size: usize, align: usize) -> *mut c_void,
    >,
    /// Frees what `alloc` gave. Any thread.
    pub free: Option<
        unsafe extern "C" fn(host_ctx: *mut c_void, memory: *mut c_void, size: usize, align: usize),
    >,
    /// Ends commands, from any thread. `stride` is sizeof(struct xcopy_result)
    /// as the plugin was compiled.
    pub complete: Option<
        unsafe extern "C" fn(
            queue: *mut xcopy_host_queue,
            results: *const xcopy_result,
            stride: usize,
            n: u32,
        ),
    >,
    /// Ends commands, on the queue's owner thread only: inside submit, inside
    /// poll, or between the library's calls. Cheaper than `complete`.
    pub complete_local: Option<
        unsafe extern "C" fn(
            queue: *mut xcopy_host_queue,
            results: *const xcopy_result,
            stride: usize,
            n: u32,
        ),
    >,
    /// Tells that a device was removed, resized, or changed its limits
    /// (XCOPY_EVENT_). Any thread. `size_bytes` is the new size for RESIZED.
    pub device_event:
        Option<unsafe extern "C" fn(host_device: *mut c_void, events: u32, size_bytes: u64)>,
}

/// One method of a plugin.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct xcopy_plugin_method {
    /// Its name, `[a-z][a-z0-9_]*`, at most 31 characters. The names of the fixed
    /// methods have their fixed numbers; any other is given a free one.
    pub name: *const c_char,
    /// XCOPY_METHOD_ flags.
    pub flags: u32,
    /// Higher is tried first; 0 is the place that the core gives the name.
    pub worth: u32,
}

/// What a queue of a plugin is created with.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct xcopy_plugin_queue_options {
    /// sizeof as the core was compiled.
    pub size: u32,
    /// XCOPY_QUEUE_ flags of the queue.
    pub flags: u32,
    /// Commands in flight at most.
    pub window: u32,
    /// 0.
    pub reserved: u32,
}

/// What a plugin offers. Static memory, valid for the life of the process.
/// Every function pointer that the model does not need may be NULL. No function
/// may unwind; -EFAULT says that the plugin stopped a panic of its own.
#[repr(C)]
pub struct xcopy_plugin {
    /// sizeof as the plugin was compiled: the core reads nothing beyond it.
    pub struct_size: u32,
    /// XCOPY_ABI_VERSION that the plugin was compiled with.
    pub abi_version: u32,
    /// `[a-z][a-z0-9_]*`, at most 31 characters; the file is libxcopy_NAME.so.
    pub name: *const c_char,
    /// The plugin's own version.
    pub version: *const c_char,
    /// What it does, in one line.
    pub description: *const c_char,
    /// One of XCOPY_MODEL_.
    pub model: u32,
    /// XCOPY_PLUGIN_ flags.
    pub flags: u32,
    /// XCOPY_CAN_ bits: the commands it takes.
    pub commands: u32,
    /// Private bytes that each command carries for it, at most 65,536.
    pub cmd_private: u32,
    /// Ranges of one command at most, over all its methods: 1 to 65,536.
    pub max_ranges: u32,
    /// Number of methods; 0 for a plugin that only reads and writes.
    pub nmethods: u32,
    /// Its methods.
    pub methods: *const xcopy_plugin_method,
    /// Bytes from one method to the next.
    pub method_stride: usize,
    /// Called once for each context, before anything else; `state` comes back
    /// as the first argument of what follows. Any thread.
    pub start:
        Option<unsafe extern "C" fn(host_ctx: *mut c_void, state: *mut *mut c_void) -> c_int>,
    /// Called last, when all devices and queues of the context are gone.
    pub stop: Option<unsafe extern "C" fn(state: *mut c_void)>,
    /// Opens a device: 0 or -errno, with a text in props.
    pub open: Option<
        unsafe extern "C" fn(
            state: *mut c_void,
            desc: *const xcopy_device_desc,
            device: *mut *mut c_void,
            props: *mut xcopy_device_props,
        ) -> c_int,
    >,
    /// Closes a device that no command uses any more.
    pub close: Option<unsafe extern "C" fn(state: *mut c_void, device: *mut c_void)>,
    /// Judges the plugin's methods for a pair, one verdict each in their order.
    /// One of the devices is NULL when the question is about tokens: made of
    /// `src`, or written to `dst`. 0, or -errno if no verdict could be found now.
    pub probe: Option<
        unsafe extern "C" fn(
            state: *mut c_void,
            src: *mut c_void,
            dst: *mut c_void,
            verdicts: *mut xcopy_verdict,
            stride: usize,
            n: u32,
        ) -> c_int,
    >,
    /// Creates a queue on its owner's thread. Must not block.
    pub queue_create: Option<
        unsafe extern "C" fn(
            state: *mut c_void,
            host_queue: *mut xcopy_host_queue,
            options: *const xcopy_plugin_queue_options,
            queue: *mut *mut c_void,
        ) -> c_int,
    >,
    /// Destroys a queue that no command uses any more. Afterwards the plugin
    /// must not use the host_queue.
    pub queue_destroy: Option<unsafe extern "C" fn(queue: *mut c_void)>,
    /// Takes commands: the number taken, from the first on, or -errno for none.
    /// What was not taken is given again later.
    pub submit: Option<
        unsafe extern "C" fn(queue: *mut c_void, commands: *const *mut xcopy_cmd, n: u32) -> c_int,
    >,
    /// Advances the queue and ends at most about `max` commands. The answer is
    /// not used; 0 is usual.
    pub poll: Option<unsafe extern "C" fn(queue: *mut c_void, max: u32) -> c_int>,
    /// A pollable fd, the same for the queue's life, or -errno; readable, while
    /// armed, when poll has something to do. A plugin without one makes a
    /// sleeping consumer spin.
    pub queue_fd: Option<unsafe extern "C" fn(queue: *mut c_void) -> c_int>,
    /// Switches the fd on (1) or off (0); answers 1 if poll has something to do
    /// already, else 0.
    pub arm: Option<unsafe extern "C" fn(queue: *mut c_void, on: u32) -> c_int>,
    /// Asks a command to end early. It still ends by a result. 0 or -errno.
    pub cancel: Option<unsafe extern "C" fn(queue: *mut c_void, command: *mut xcopy_cmd) -> c_int>,
    /// BLOCKING: carries one command out and fills the result; 0, or -errno for
    /// a failure without further detail. Any thread of the pool.
    pub execute: Option<
        unsafe extern "C" fn(
            state: *mut c_void,
            command: *mut xcopy_cmd,
            result: *mut xcopy_result,
        ) -> c_int,
    >,
    /// Says what was found out of a device, for a person: lines of "key: value",
    /// NUL-terminated and cut to the `size` bytes at `text`. Answers the bytes of
    /// the whole text without its NUL, or -errno. A key may come more than once.
    /// May block, any thread; NULL for a plugin that has nothing to say, and not
    /// called where devices are opened on a queue (AFFINE).
    pub describe: Option<
        unsafe extern "C" fn(
            state: *mut c_void,
            device: *mut c_void,
            text: *mut c_char,
            size: usize,
        ) -> c_int,
    >,
}

/// The one function that a plugin exports, under the name
/// `xcopy_plugin_init_v0`: answers its table, or NULL if it cannot work with
/// this host. Called once for each context; must not block.
pub type xcopy_plugin_init_fn =
    Option<unsafe extern "C" fn(host: *const xcopy_host) -> *const xcopy_plugin>;

// SAFETY: the tables are immutable, and the pointers in them are to static
// memory and to functions, as their documentation demands.
unsafe impl Sync for xcopy_plugin {}
// SAFETY: as above.
unsafe impl Sync for xcopy_plugin_method {}
// SAFETY: as above.
unsafe impl Sync for xcopy_host {}

impl Default for xcopy_device_props {
    fn default() -> Self {
        xcopy_device_props {
            size: size_of::<Self>() as u32,
            block_size: 0,
            size_bytes: 0,
            preferred_io_bytes: 0,
            max_io_bytes: 0,
            identity: 0,
            identity_offset: 0,
            read_only: 0,
            reserved: 0,
            text: [0; 128],
        }
    }
}

impl Default for xcopy_verdict {
    fn default() -> Self {
        xcopy_verdict {
            usable: 0,
            reason: 0,
            ttl_s: 0,
            limits: xcopy_limits::default(),
            bytes_per_us: 0,
            flags: 0,
            text: [0; 160],
        }
    }
}

impl Default for xcopy_result {
    fn default() -> Self {
        xcopy_result {
            cookie: 0,
            status: 0,
            action: XCOPY_ACTION_DEFAULT,
            reason: 0,
            bytes: 0,
            detail: 0,
            flags: 0,
            sense_len: 0,
            sense: core::ptr::null(),
            token_size: 0,
            token_type: 0,
            token_lifetime_s: 0,
            reserved: 0,
        }
    }
}
