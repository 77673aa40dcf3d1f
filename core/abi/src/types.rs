//! What a consumer and a plugin both see: requests, completions, reports, limits.

use core::ffi::{c_char, c_void};

/// Version of the interface described by these headers: major. While it is 0,
/// a minor version may change what proved wrong.
pub const XCOPY_VERSION_MAJOR: u32 = 0;
/// Version of the interface: minor. Structs and tables only grow at their end.
pub const XCOPY_VERSION_MINOR: u32 = 1;
/// Version of the library: patch. Never changes the interface.
pub const XCOPY_VERSION_PATCH: u32 = 0;

/// The handle that names nothing.
pub const XCOPY_HANDLE_NONE: u32 = 0;

/* ------------------------------------------------------------ operations */

/// Copy bytes from `src` to `dst`.
pub const XCOPY_OP_COPY: u16 = 1;
/// Make a range of `dst` read as zeroes; `src` is 0.
pub const XCOPY_OP_ZERO: u16 = 2;
/// Make all that was written to `dst` survive power loss; `src`, offsets and
/// length are 0.
pub const XCOPY_OP_FLUSH: u16 = 3;
/// Probe the pair (`src`, `dst`) and create what its methods need on this
/// queue, so that the first copy costs no more than the millionth. Offsets and
/// length are 0. With XCOPY_REQ_EXCLUSIVE the caller vouches, for the life of
/// both handles, that nobody else caches or writes them.
pub const XCOPY_OP_PREPARE: u16 = 4;
/// Fill the empty token `dst` with a representation of a range of `src`. Whether
/// it shows what is written to the source later, xcopy_token_info.shows says. One
/// that fails leaves `dst` empty: what the device made for it is released.
pub const XCOPY_OP_TOKEN_CREATE: u16 = 5;
/// Write from the token `src` (`src_offset` counts bytes into the token) to `dst`, by
/// the plugin and the method that made the token: others are refused.
pub const XCOPY_OP_TOKEN_WRITE: u16 = 6;
/// Tell `dst`, the device that made the token `src`, that it may forget it.
pub const XCOPY_OP_TOKEN_RELEASE: u16 = 7;

/* --------------------------------------------------------- request flags */

/// Offload or fail: -ENOTSUP instead of any byte passing through the host
/// (misaligned heads and tails too).
pub const XCOPY_REQ_NO_FALLBACK: u32 = 1 << 0;
/// The bytes, and the size of a file, survive power loss once the request completes.
pub const XCOPY_REQ_DURABLE: u32 = 1 << 1;
/// The caller manages page caches itself; none is flushed or dropped.
pub const XCOPY_REQ_NO_COHERENCE: u32 = 1 << 2;
/// The caller vouches that no destination range overlaps another range of the
/// request; lists of more than 16 ranges are then not checked.
pub const XCOPY_REQ_DISJOINT: u32 = 1 << 3;
/// Only methods that the device itself calls faster than a host copy.
pub const XCOPY_REQ_FAST_ONLY: u32 = 1 << 4;
/// The library may switch device features on that the copy needs (NVMe Host
/// Behavior Support, feature 16h).
pub const XCOPY_REQ_SET_HOST_BEHAVIOR: u32 = 1 << 5;
/// Holes of a source file become holes of a destination file; their bytes count
/// as method `zero`.
pub const XCOPY_REQ_KEEP_HOLES: u32 = 1 << 6;
/// When the deadline passes, answer at once with INDETERMINATE and UNSETTLED
/// instead of waiting until nothing can write any more.
pub const XCOPY_REQ_ABANDON_ON_TIMEOUT: u32 = 1 << 7;
/// With XCOPY_OP_PREPARE: the caller is the only user of both devices while the
/// handles live; coherence work is skipped for them.
pub const XCOPY_REQ_EXCLUSIVE: u32 = 1 << 8;
/// All request flags that this version knows; any other is refused with -EINVAL.
pub const XCOPY_REQ_ALL: u32 = 0x1ff;

/* --------------------------------------------------------------- methods */

/// No method: the value of xcopy_completion.method when no byte was moved.
pub const XCOPY_METHOD_NONE: u16 = 0;
/// Extents shared by the file system (FICLONERANGE).
pub const XCOPY_METHOD_REFLINK: u16 = 1;
/// NVMe Copy (opcode 19h).
pub const XCOPY_METHOD_NVME_COPY: u16 = 2;
/// SCSI EXTENDED COPY.
pub const XCOPY_METHOD_SCSI_XCOPY: u16 = 3;
/// SCSI tokens: POPULATE TOKEN and WRITE USING TOKEN.
pub const XCOPY_METHOD_ODX: u16 = 4;
/// copy_file_range(2).
pub const XCOPY_METHOD_COPY_FILE_RANGE: u16 = 5;
/// sendfile(2).
pub const XCOPY_METHOD_SENDFILE: u16 = 6;
/// Read into host memory and write from there: the core's own method.
pub const XCOPY_METHOD_READ_WRITE: u16 = 7;
/// Holes and zeroes, written without reading.
pub const XCOPY_METHOD_ZERO: u16 = 8;
/// The null plugin: completes and moves nothing.
pub const XCOPY_METHOD_NULL: u16 = 9;
/// Methods from this number on are given to plugins at registration, in order.
pub const XCOPY_METHOD_DYNAMIC: u16 = 16;
/// Number of methods there can be; bit `m` of a mask stands for method `m`.
pub const XCOPY_METHOD_MAX: usize = 32;

/* --------------------------------------------------------------- reasons */

/// Nothing better was passed over.
pub const XCOPY_REASON_NONE: u16 = 0;
/// The request's method mask, or the context's, leaves the better method out.
pub const XCOPY_REASON_NOT_ALLOWED: u16 = 1;
/// No loaded plugin offers the method that was named, or a better one, for these
/// devices.
pub const XCOPY_REASON_NO_PLUGIN: u16 = 2;
/// The plugin does not serve this kind of device.
pub const XCOPY_REASON_WRONG_DEVICE: u16 = 3;
/// Source and destination belong to different devices, file systems or controllers.
pub const XCOPY_REASON_CROSS_DEVICE: u16 = 4;
/// The device or file system says that it does not support the operation.
pub const XCOPY_REASON_NOT_SUPPORTED: u16 = 5;
/// Offset or length does not meet the method's granularity, or the device's block.
pub const XCOPY_REASON_MISALIGNED: u16 = 6;
/// Block sizes of source and destination differ.
pub const XCOPY_REASON_BLOCK_SIZE: u16 = 7;
/// The process lacks a privilege; the detail text names it.
pub const XCOPY_REASON_PERMISSION: u16 = 8;
/// The device's stated limits leave nothing usable.
pub const XCOPY_REASON_LIMITS: u16 = 9;
/// The method failed on this request; the report has the error.
pub const XCOPY_REASON_FAILED: u16 = 10;
/// The method failed before on this pair and is not tried again for a while.
pub const XCOPY_REASON_FAILED_BEFORE: u16 = 11;
/// Measured or known to be slower than what was used: not used, or for a part only,
/// as much as it took to find out.
pub const XCOPY_REASON_SLOWER: u16 = 12;
/// The stack of devices (device-mapper, md, loop) cannot be resolved to one disk.
pub const XCOPY_REASON_STACKED: u16 = 13;
/// The context has no pool and the method needs one.
pub const XCOPY_REASON_NO_POOL: u16 = 14;
/// A plugin answered against its contract; it is no longer used for this pair.
pub const XCOPY_REASON_PLUGIN_FAULT: u16 = 15;
/// The request's deadline passed.
pub const XCOPY_REASON_TIMED_OUT: u16 = 16;
/// The request was cancelled.
pub const XCOPY_REASON_CANCELED: u16 = 17;
/// The device went away.
pub const XCOPY_REASON_REMOVED: u16 = 18;
/// Ranges of the request overlap, or a long list of them does not ascend.
pub const XCOPY_REASON_OVERLAP: u16 = 19;
/// A range is empty, or lies beyond the end of a device or source file or beyond
/// what 64 bits count.
pub const XCOPY_REASON_BOUNDS: u16 = 20;
/// A persistent reservation of another host forbids the write.
pub const XCOPY_REASON_RESERVED: u16 = 21;
/// The device has no resources for the operation now, or the host no memory.
pub const XCOPY_REASON_RESOURCES: u16 = 22;
/// A token is unknown, expired, revoked, damaged or another plugin's.
pub const XCOPY_REASON_TOKEN: u16 = 23;
/// A feature has to be switched on first and was not allowed to be.
pub const XCOPY_REASON_FEATURE_OFF: u16 = 24;
/// The running kernel refuses or lacks the interface.
pub const XCOPY_REASON_KERNEL: u16 = 25;
/// Only by name: the method is never chosen by itself.
pub const XCOPY_REASON_BY_NAME_ONLY: u16 = 26;
/// The queue was destroyed by force.
pub const XCOPY_REASON_DESTROYED: u16 = 27;
/// Number of reasons of this version.
pub const XCOPY_REASON_COUNT: u16 = 28;

/* ------------------------------------------------------ completion flags */

/// All copied bytes were moved without passing through the host.
pub const XCOPY_CPL_OFFLOADED: u32 = 1 << 0;
/// Some bytes passed through the host.
pub const XCOPY_CPL_EMULATED: u32 = 1 << 1;
/// A method was tried or expected and another one did the rest.
pub const XCOPY_CPL_FELL_BACK: u32 = 1 << 2;
/// What the destination holds between bytes_done and the report's
/// untouched_from is not known.
pub const XCOPY_CPL_INDETERMINATE: u32 = 1 << 3;
/// Commands of the request may still write: it was abandoned, or the device
/// would not say that they ended.
pub const XCOPY_CPL_UNSETTLED: u32 = 1 << 4;
/// Stale cached pages of the destination could not be ruled out. Looked at is the
/// cache of the node that was opened: a disk and each of its partitions have one
/// of their own, and who holds another node of the disk open has to see to that
/// one (BLKFLSBUF) before and after a copy past the kernel.
pub const XCOPY_CPL_CACHE_UNVERIFIED: u32 = 1 << 5;
/// The error arose reading the source.
pub const XCOPY_CPL_ERR_ON_READ: u32 = 1 << 6;
/// The error arose writing the destination.
pub const XCOPY_CPL_ERR_ON_WRITE: u32 = 1 << 7;

/* ---------------------------------------------------------------- detail */

/// Domain of a detail word (bits 60-63): none.
pub const XCOPY_DETAIL_NONE: u64 = 0;
/// Domain: an errno of the host kernel in bits 0-31. Bit 32: the source ended
/// before the range that was to be read.
pub const XCOPY_DETAIL_ERRNO: u64 = 1;
/// Domain: SCSI. Bits 0-7 SAM status, 8-15 host byte, 16-19 sense key, 20-27
/// ASC, 28-35 ASCQ, 36-51 segment.
pub const XCOPY_DETAIL_SCSI: u64 = 2;
/// Domain: NVMe. Bits 0-15 status field, 16-31 index of the first failed range.
pub const XCOPY_DETAIL_NVME: u64 = 3;
/// Domain: a plugin broke its contract; bits 0-31 one of XCOPY_FAULT_*.
pub const XCOPY_DETAIL_FAULT: u64 = 4;
/// Domain: a plugin's own code in bits 0-47.
pub const XCOPY_DETAIL_VENDOR: u64 = 5;
/// Shift of the domain; bits 52-59 hold the method.
pub const XCOPY_DETAIL_DOMAIN_SHIFT: u32 = 60;
/// Shift of the method within a detail word.
pub const XCOPY_DETAIL_METHOD_SHIFT: u32 = 52;

/// Fault: a plugin claimed success with fewer bytes than the command had.
pub const XCOPY_FAULT_SHORT: u32 = 1;
/// Fault: a plugin claimed more bytes than the command had.
pub const XCOPY_FAULT_OVER_REPORT: u32 = 2;
/// Fault: a cookie that names no command in flight (unknown, late or twice).
pub const XCOPY_FAULT_COOKIE: u32 = 3;
/// Fault: a positive or unknown status.
pub const XCOPY_FAULT_STATUS: u32 = 4;
/// Fault: submit answered a count out of range.
pub const XCOPY_FAULT_COUNT: u32 = 5;
/// Fault: a plugin function reported that it had panicked (-EFAULT).
pub const XCOPY_FAULT_PANIC: u32 = 6;

/* --------------------------------------------------------------- devices */

/// Open for reading: the device may be a source.
pub const XCOPY_OPEN_READ: u32 = 1 << 0;
/// Open for writing: the device may be a destination.
pub const XCOPY_OPEN_WRITE: u32 = 1 << 1;
/// The caller has claimed the device already; no claim is taken or checked.
pub const XCOPY_OPEN_OWNED: u32 = 1 << 2;
/// Take the device although it is mounted or claimed by somebody else.
pub const XCOPY_OPEN_FORCE: u32 = 1 << 3;
/// All open flags that this version knows.
pub const XCOPY_OPEN_ALL: u32 = 0xf;

/// Kind of a device: a regular file.
pub const XCOPY_KIND_FILE: u32 = 1;
/// Kind: a whole disk.
pub const XCOPY_KIND_DISK: u32 = 2;
/// Kind: a partition of a disk.
pub const XCOPY_KIND_PARTITION: u32 = 3;
/// Kind: a block device made of others (device-mapper, md, loop).
pub const XCOPY_KIND_STACKED: u32 = 4;
/// Kind: a character node of a storage driver (sg, ng).
pub const XCOPY_KIND_CHAR: u32 = 5;
/// Kind: opened by a plugin, not known to the kernel.
pub const XCOPY_KIND_NATIVE: u32 = 6;

/// Event: the device is gone.
pub const XCOPY_EVENT_REMOVED: u32 = 1 << 0;
/// Event: its size changed.
pub const XCOPY_EVENT_RESIZED: u32 = 1 << 1;
/// Event: limits of a method changed; query the pair again.
pub const XCOPY_EVENT_LIMITS_CHANGED: u32 = 1 << 2;

/* ---------------------------------------------------------------- tokens */

/// What a token shows of its source: not known.
pub const XCOPY_TOKEN_SHOWS_UNKNOWN: u32 = 0;
/// The source as it is when the token is written from (SPC-4's access upon
/// reference): what is written to the source meanwhile is seen, in parts even.
pub const XCOPY_TOKEN_SHOWS_SOURCE: u32 = 1;
/// The source as it was when the token was made (point in time copy).
pub const XCOPY_TOKEN_SHOWS_PAST: u32 = 2;
/// The same, until the source is written to: then the token is refused (point
/// in time copy, change vulnerable).
pub const XCOPY_TOKEN_SHOWS_PAST_UNCHANGED: u32 = 3;
/// Zeroes.
pub const XCOPY_TOKEN_SHOWS_ZEROES: u32 = 4;

/* ---------------------------------------------------------- log, options */

/// Log level: something failed that the caller will see as an error too.
pub const XCOPY_LOG_ERROR: u32 = 1;
/// Log level: something was odd and was dealt with.
pub const XCOPY_LOG_WARNING: u32 = 2;
/// Log level: what was chosen and why.
pub const XCOPY_LOG_INFO: u32 = 3;
/// Log level: for the library's own developers.
pub const XCOPY_LOG_DEBUG: u32 = 4;

/// Queue option: the queue stays with the thread that created it. Backends may
/// then use what is bound to one thread (io_uring SINGLE_ISSUER).
pub const XCOPY_QUEUE_PINNED: u32 = 1 << 0;

/// Destroy option: answer what is in flight as abandoned, free what can be
/// freed, and leave to the plugins what they still hold.
pub const XCOPY_DESTROY_FORCE: u32 = 1 << 0;

/// Called for each message of a context at or under its log level. May be
/// called from any thread that is inside the library or a plugin; must not call
/// the library. `message` is valid during the call only.
pub type xcopy_log_fn =
    Option<unsafe extern "C" fn(log_ctx: *mut c_void, level: u32, message: *const c_char)>;
/// Allocates `size` bytes aligned to `align` (a power of two) for a bounce
/// buffer, or answers NULL. Called from any thread.
pub type xcopy_alloc_fn =
    Option<unsafe extern "C" fn(alloc_ctx: *mut c_void, size: usize, align: usize) -> *mut c_void>;
/// Frees what xcopy_alloc_fn gave, with the same size and alignment.
pub type xcopy_free_fn = Option<
    unsafe extern "C" fn(alloc_ctx: *mut c_void, memory: *mut c_void, size: usize, align: usize),
>;
/// Called first thing on each thread that the library starts, to set affinity
/// or scheduling; must not call the library.
pub type xcopy_thread_fn = Option<unsafe extern "C" fn(thread_ctx: *mut c_void)>;

/// What a context is created with. Fill it with xcopy_context_options_init and
/// change what you need; 0 is a value, not a default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct xcopy_context_options {
    /// sizeof of the struct that the caller was compiled with.
    pub size: u32,
    /// Must be 0.
    pub flags: u32,
    /// Threads of the pool that runs what blocks, started when first needed. 0
    /// is legal: methods that block are then refused, and a pair that was not
    /// prepared gets -ENOTCONN.
    pub pool_threads: u32,
    /// Messages at or under this XCOPY_LOG_ level reach `log`.
    pub log_level: u32,
    /// Receives messages; NULL is silence.
    pub log: xcopy_log_fn,
    /// First argument of `log`.
    pub log_ctx: *mut c_void,
    /// Replaces the allocator of bounce buffers; NULL, with `free` NULL too, is anonymous pages.
    pub alloc: xcopy_alloc_fn,
    /// Frees what `alloc` gave.
    pub free: xcopy_free_fn,
    /// First argument of `alloc` and `free`.
    pub alloc_ctx: *mut c_void,
    /// Called first on each thread of the pool; NULL is nothing.
    pub thread_start: xcopy_thread_fn,
    /// First argument of `thread_start`.
    pub thread_ctx: *mut c_void,
    /// Bytes of bounce buffers that the context uses at most; 65,536 at least. Under
    /// 1 MiB a copy through the host is slower. A request that finds all of it in use
    /// by others waits, about 15 s at most, and fails with -ENOMEM, as it does at once
    /// where `alloc` gives nothing and nothing is in use.
    pub memory_budget: u64,
    /// Methods that the context uses at all, as a mask; 0 is all of them.
    pub methods: u32,
    /// Seconds for which a method that failed on a pair is not tried again.
    pub retry_after_s: u32,
}

/// What a queue is created with. Fill it with xcopy_queue_options_init.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct xcopy_queue_options {
    /// sizeof of the struct that the caller was compiled with.
    pub size: u32,
    /// XCOPY_QUEUE_ flags.
    pub flags: u32,
    /// Requests that can be in flight or unreaped at once: 1 to 65,536. Each
    /// costs 256 bytes.
    pub capacity: u32,
    /// Commands that can be in flight at once, over all requests: 1 to 65,536;
    /// 0 is the capacity. Each costs the private memory of every plugin used.
    pub window: u32,
    /// Commands of one request in flight at once at most; 0 leaves it to the
    /// targets' limits and the adaptive policy.
    pub depth: u32,
    /// Must be 0.
    pub reserved: u32,
    /// Bytes per command; 0 leaves it to the targets' limits and the adaptive policy.
    pub chunk: u64,
}

/// One piece of a request, in bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct xcopy_range {
    /// Byte offset in the source; xcopy_request.src_offset is added.
    pub src_offset: u64,
    /// Byte offset in the destination; xcopy_request.dst_offset is added.
    pub dst_offset: u64,
    /// Length in bytes, not 0.
    pub length: u64,
}

/// What does not fit into a request. Stays the caller's, unchanged, until the
/// completion was taken by xcopy_poll.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct xcopy_ext {
    /// sizeof of the struct that the caller was compiled with.
    pub size: u32,
    /// Must be 0.
    pub reserved: u32,
    /// Ranges, or NULL for the one that the request itself states. Same
    /// ownership as this struct. Destination ranges must not overlap and must
    /// ascend when there are more than 4,096.
    pub ranges: *const xcopy_range,
    /// Number of ranges.
    pub nranges: u64,
    /// Receives what does not fit into a completion; may be NULL. Written
    /// before the completion is visible, never after.
    pub report: *mut xcopy_report,
    /// Seconds that a token made by TOKEN_CREATE should live; 0 is the device's default.
    pub token_lifetime_s: u32,
    /// Type of the token wanted (SPC-4 ROD TYPE); 0 is the device's default.
    pub token_type: u32,
}

/// One operation. 64 bytes; reserved fields and unknown flags must be 0. An
/// array of longer structs is legal: its stride tells, and the bytes that this
/// version does not know must be 0 (-E2BIG).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct xcopy_request {
    /// Comes back in the completion; names the request for cancel and progress.
    pub user_data: u64,
    /// One of XCOPY_OP_.
    pub op: u16,
    /// Must be 0.
    pub reserved: u16,
    /// XCOPY_REQ_ flags.
    pub flags: u32,
    /// Source: a device, or a token for TOKEN_WRITE and TOKEN_RELEASE.
    pub src: u32,
    /// Destination: a device, or a token for TOKEN_CREATE.
    pub dst: u32,
    /// Byte offset in the source; with ranges a base that is added to each.
    pub src_offset: u64,
    /// Byte offset in the destination; with ranges a base that is added to each.
    pub dst_offset: u64,
    /// Length in bytes; 0 with ranges.
    pub length: u64,
    /// Methods allowed, as a mask; 0 is any. Between devices, not files, a COPY
    /// that may go by an offload and by the host takes the faster one: a request of
    /// 64 MiB or more finds it out, and others follow it (XCOPY_REASON_SLOWER).
    pub methods: u32,
    /// Milliseconds from acceptance to the deadline; 0 is none.
    pub timeout_ms: u32,
    /// NULL, or what does not fit.
    pub ext: *const xcopy_ext,
}

/// The end of one request. 64 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct xcopy_completion {
    /// The request's.
    pub user_data: u64,
    /// 0, or -errno: EIO, EREMOTEIO (device), ENODATA (medium), EILSEQ
    /// (protection), EBADE (reservation), ENOSPC, EROFS, ENODEV, ENOTSUP,
    /// ETIMEDOUT, ECANCELED, EINVAL (ranges), ENOTCONN, EACCES, EPERM, EBUSY,
    /// ENOMEM, ESTALE (token), EFBIG, EDQUOT.
    pub res: i32,
    /// XCOPY_CPL_ flags.
    pub flags: u32,
    /// Longest prefix of the request, in bytes and in range order, known to be copied.
    pub bytes_done: u64,
    /// All bytes known to be copied.
    pub bytes_copied: u64,
    /// Of those, the bytes that never passed through the host.
    pub bytes_offloaded: u64,
    /// The last error as the device gave it; xcopy_detail_string says it in words. 0
    /// with `res` 0, unless a method was left (XCOPY_CPL_FELL_BACK): then that failure.
    pub detail: u64,
    /// Commands that backends were given for this request, without those that a
    /// plugin ended unsent; a flush that made it durable counts here and in no
    /// method's share.
    pub commands: u32,
    /// The XCOPY_METHOD_ that moved most bytes.
    pub method: u16,
    /// The XCOPY_REASON_ why a better method was not used.
    pub reason: u16,
    /// 0.
    pub reserved: u64,
}

/// What one method did for a request.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct xcopy_method_share {
    /// One of XCOPY_METHOD_.
    pub method: u16,
    /// 1 if its bytes did not pass through the host.
    pub offloaded: u16,
    /// Commands that it was given, without those that its plugin ended unsent.
    pub commands: u32,
    /// Bytes that it is known to have copied.
    pub bytes: u64,
}

/// Why a request left, or never took, a method.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct xcopy_fallback {
    /// The method that was not used, or not for all.
    pub method: u16,
    /// XCOPY_REASON_.
    pub reason: u16,
    /// -errno of the failure, or 0.
    pub error: i32,
    /// The error as the device gave it.
    pub detail: u64,
}

/// Entries of xcopy_report.fallbacks.
pub const XCOPY_REPORT_FALLBACKS: usize = 16;
/// Bytes of xcopy_report.sense (SPC-4 4.5: sense data is at most 252 bytes).
pub const XCOPY_SENSE_MAX: usize = 252;

/// What does not fit into a completion; the caller's memory. Set `size` before
/// submit; the library writes at most that many bytes.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct xcopy_report {
    /// sizeof of the struct that the caller was compiled with.
    pub size: u32,
    /// Number of entries in `shares`.
    pub nshares: u32,
    /// Number of entries in `fallbacks`.
    pub nfallbacks: u32,
    /// Bytes in `sense`.
    pub sense_len: u32,
    /// Index of the first range that failed, or the number of ranges.
    pub failed_index: u64,
    /// The first piece known to have failed, in absolute bytes; all 0 if none. A
    /// range that was refused is all of the piece, as it was given.
    pub failed: xcopy_range,
    /// No byte at or after this position, counted in range order from the
    /// request's start, was touched.
    pub untouched_from: u64,
    /// Bytes and commands by method; the bytes sum to the completion's.
    pub shares: [xcopy_method_share; XCOPY_METHOD_MAX],
    /// Methods that were left or passed over, best first.
    pub fallbacks: [xcopy_fallback; XCOPY_REPORT_FALLBACKS],
    /// Sense data of the last failure, as the target sent it.
    pub sense: [u8; XCOPY_SENSE_MAX],
    /// 0.
    pub reserved: u32,
}

/* ----------------------------------------------------------------- queries */

/// What a method can do for a pair. Bytes throughout; 0 in a maximum is
/// "not stated".
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct xcopy_limits {
    /// Bytes of one command that work best.
    pub preferred_bytes: u64,
    /// Bytes of one command at most.
    pub max_bytes: u64,
    /// Bytes of one range of a command at most.
    pub max_range_bytes: u64,
    /// Source offsets must be multiples of this; 0 and 1 are no restriction.
    pub src_granularity: u32,
    /// Destination offsets must be multiples of this.
    pub dst_granularity: u32,
    /// Lengths must be multiples of this.
    pub length_granularity: u32,
    /// Ranges of one command at most; 0 and 1 are one.
    pub max_ranges: u32,
    /// Commands at once, for the pair and queue; 0 is not stated. Copies by a
    /// BLOCKING plugin's offload are counted for the destination's storage, over
    /// all queues of the context.
    pub max_concurrent: u32,
    /// 1 if several ranges of one command must fill one contiguous destination
    /// (NVMe Copy), 0 if each has its own.
    pub contiguous_dst: u32,
}

/// One method's verdict on a pair.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct xcopy_method_info {
    /// One of XCOPY_METHOD_, or given at registration.
    pub method: u16,
    /// XCOPY_REASON_ if not usable, or usable only by name, or only with
    /// XCOPY_REQ_SET_HOST_BEHAVIOR (XCOPY_REASON_FEATURE_OFF).
    pub reason: u16,
    /// 1 if the method can be used for the pair.
    pub usable: u32,
    /// 1 if its bytes do not pass through the host.
    pub offloaded: u32,
    /// Changes whenever verdict or limits do.
    pub generation: u32,
    /// Its limits on this pair.
    pub limits: xcopy_limits,
    /// Name of the method, NUL-terminated.
    pub name: [c_char; 32],
    /// Name of the plugin, NUL-terminated; "core" for the core's own.
    pub plugin: [c_char; 32],
    /// The reason in words, with what to do next; NUL-terminated, empty if there is none.
    pub text: [c_char; 160],
}

/// What a device is.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct xcopy_device_info {
    /// One of XCOPY_KIND_.
    pub kind: u32,
    /// The XCOPY_OPEN_ flags it was opened with.
    pub open_flags: u32,
    /// Size in bytes when last looked at; 0 and `size_known` 0 before a plugin
    /// that opens on its queue has opened it.
    pub size_bytes: u64,
    /// Bytes of a logical block; 1 for files.
    pub block_size: u32,
    /// Bytes of a physical block or file-system block: what aligned copies should use.
    pub physical_block_size: u32,
    /// Device number of the node or of the file's file system.
    pub dev_major: u32,
    /// Its minor.
    pub dev_minor: u32,
    /// Device number of the whole disk; 0 if there is none or it is not one.
    pub disk_major: u32,
    /// Its minor.
    pub disk_minor: u32,
    /// First byte of the device on its disk.
    pub disk_offset: u64,
    /// Requests in flight that touch it, over all queues.
    pub in_flight: u32,
    /// XCOPY_EVENT_ flags since xcopy_device_events was last called; not reset here.
    pub events: u32,
    /// 1 if size_bytes is known.
    pub size_known: u32,
    /// 0.
    pub reserved: u32,
    /// What it was opened with, NUL-terminated, cut if longer.
    pub name: [c_char; 256],
}

/// One method that a plugin offers.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct xcopy_plugin_info {
    /// Name of the plugin, NUL-terminated.
    pub name: [c_char; 32],
    /// Version of the plugin, NUL-terminated.
    pub version: [c_char; 32],
    /// What it does, NUL-terminated.
    pub description: [c_char; 128],
    /// File it was loaded from, NUL-terminated; empty for a static one.
    pub path: [c_char; 256],
    /// Methods it serves, as a mask.
    pub methods: u32,
    /// Its XCOPY_MODEL_.
    pub model: u32,
    /// The interface version it was built with: major << 16 | minor.
    pub abi_version: u32,
    /// Private bytes per command that it asks for.
    pub cmd_private: u32,
}

/// How far a running request is. Read from any thread.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct xcopy_progress {
    /// Bytes of the request.
    pub bytes_total: u64,
    /// Bytes known to be copied so far.
    pub bytes_copied: u64,
    /// Of those, the bytes that never passed through the host.
    pub bytes_offloaded: u64,
    /// Commands in flight for it now.
    pub commands_in_flight: u32,
    /// Method of the last command that ended.
    pub method: u32,
}

/// Counters of a queue since its creation. Read from any thread; each is exact
/// by itself, but they are not one snapshot.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct xcopy_queue_stats {
    /// Requests accepted.
    pub requests: u64,
    /// Completions taken by xcopy_poll.
    pub completions: u64,
    /// Commands given to backends.
    pub commands: u64,
    /// Commands that failed.
    pub command_errors: u64,
    /// Commands given again after a transient failure.
    pub retries: u64,
    /// Methods left for another one.
    pub fallbacks: u64,
    /// Bytes known to be copied.
    pub bytes_copied: u64,
    /// Of those, bytes that never passed through the host.
    pub bytes_offloaded: u64,
    /// Answers of plugins that named no command in flight, swallowed.
    pub late_answers: u64,
    /// Answers of plugins that broke the contract.
    pub plugin_faults: u64,
    /// Requests answered before they were settled.
    pub abandoned: u64,
    /// Bytes of memory that the queue holds.
    pub memory_bytes: u64,
}

/// What a token is.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct xcopy_token_info {
    /// Bytes that the token represents; 0 while it is empty.
    pub bytes: u64,
    /// Bytes that xcopy_token_export needs.
    pub export_bytes: u64,
    /// Seconds that it lives without being used; 0 is unknown.
    pub lifetime_s: u32,
    /// Its type (SPC-4 ROD TYPE), or 0.
    pub token_type: u32,
    /// Method that made it, by its number in this process; XCOPY_METHOD_NONE if
    /// no loaded plugin has a method of its name.
    pub method: u16,
    /// 0.
    pub reserved: u16,
    /// 1 once it was filled.
    pub filled: u32,
    /// Plugin that made it, NUL-terminated.
    pub plugin: [c_char; 32],
    /// When it was made, in seconds since 1970 by the clock of the host that made
    /// it; 0 is unknown.
    pub created_s: u64,
    /// First byte that it represents, on the device that it was made of.
    pub origin_offset: u64,
    /// XCOPY_TOKEN_SHOWS_: what it shows of a source that changes.
    pub shows: u32,
    /// 0.
    pub reserved2: u32,
    /// Where it was made, `HOST:DEVICE` by the names used there, NUL-terminated,
    /// cut if longer. For people: a device may have another name tomorrow.
    pub origin: [c_char; 128],
}
