/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * xcopy_types.h - what callers and plugins of libxcopy share: constants,
 * requests, completions, reports, limits. Include xcopy.h to call the library,
 * xcopy_plugin.h to write a plugin; both include this file.
 *
 * Sizes, offsets and lengths are bytes, always. Errors are negative errno
 * values. A struct that begins with `size` states the sizeof that its owner was
 * compiled with; structs only grow at their end. Fields named reserved are 0.
 *
 * Generated from core/abi/src/types.rs by `cargo run -p xcopy-headers`.
 */
#ifndef XCOPY_TYPES_H
#define XCOPY_TYPES_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Described in xcopy_plugin.h. */
struct xcopy_host;
struct xcopy_plugin;

/*
 * Version of the interface described by these headers: major. While it is 0,
 * a minor version may change what proved wrong.
 */
#define XCOPY_VERSION_MAJOR 0u

/* Version of the interface: minor. Structs and tables only grow at their end. */
#define XCOPY_VERSION_MINOR 1u

/* Version of the library: patch. Never changes the interface. */
#define XCOPY_VERSION_PATCH 0u

/* The handle that names nothing. */
#define XCOPY_HANDLE_NONE 0u

/* Copy bytes from `src` to `dst`. */
#define XCOPY_OP_COPY 1

/* Make a range of `dst` read as zeroes; `src` is 0. */
#define XCOPY_OP_ZERO 2

/*
 * Make all that was written to `dst` survive power loss; `src`, offsets and
 * length are 0.
 */
#define XCOPY_OP_FLUSH 3

/*
 * Probe the pair (`src`, `dst`) and create what its methods need on this
 * queue, so that the first copy costs no more than the millionth. Offsets and
 * length are 0. With XCOPY_REQ_EXCLUSIVE the caller vouches, for the life of
 * both handles, that nobody else caches or writes them.
 */
#define XCOPY_OP_PREPARE 4

/*
 * Fill the empty token `dst` with a representation of a range of `src`. Whether
 * it shows what is written to the source later, xcopy_token_info.shows says. One
 * that fails leaves `dst` empty: what the device made for it is released.
 */
#define XCOPY_OP_TOKEN_CREATE 5

/*
 * Write from the token `src` (`src_offset` counts bytes into the token) to `dst`, by
 * the plugin and the method that made the token: others are refused.
 */
#define XCOPY_OP_TOKEN_WRITE 6

/* Tell `dst`, the device that made the token `src`, that it may forget it. */
#define XCOPY_OP_TOKEN_RELEASE 7

/*
 * Offload or fail: -ENOTSUP instead of any byte passing through the host
 * (misaligned heads and tails too).
 */
#define XCOPY_REQ_NO_FALLBACK (1u << 0)

/* The bytes, and the size of a file, survive power loss once the request completes. */
#define XCOPY_REQ_DURABLE (1u << 1)

/* The caller manages page caches itself; none is flushed or dropped. */
#define XCOPY_REQ_NO_COHERENCE (1u << 2)

/*
 * The caller vouches that no destination range overlaps another range of the
 * request; lists of more than 16 ranges are then not checked.
 */
#define XCOPY_REQ_DISJOINT (1u << 3)

/* Only methods that the device itself calls faster than a host copy. */
#define XCOPY_REQ_FAST_ONLY (1u << 4)

/*
 * The library may switch device features on that the copy needs (NVMe Host
 * Behavior Support, feature 16h).
 */
#define XCOPY_REQ_SET_HOST_BEHAVIOR (1u << 5)

/*
 * Holes of a source file become holes of a destination file; their bytes count
 * as method `zero`.
 */
#define XCOPY_REQ_KEEP_HOLES (1u << 6)

/*
 * When the deadline passes, answer at once with INDETERMINATE and UNSETTLED
 * instead of waiting until nothing can write any more.
 */
#define XCOPY_REQ_ABANDON_ON_TIMEOUT (1u << 7)

/*
 * With XCOPY_OP_PREPARE: the caller is the only user of both devices while the
 * handles live; coherence work is skipped for them.
 */
#define XCOPY_REQ_EXCLUSIVE (1u << 8)

/* All request flags that this version knows; any other is refused with -EINVAL. */
#define XCOPY_REQ_ALL 511u

/* No method: the value of xcopy_completion.method when no byte was moved. */
#define XCOPY_METHOD_NONE 0

/* Extents shared by the file system (FICLONERANGE). */
#define XCOPY_METHOD_REFLINK 1

/* NVMe Copy (opcode 19h). */
#define XCOPY_METHOD_NVME_COPY 2

/* SCSI EXTENDED COPY. */
#define XCOPY_METHOD_SCSI_XCOPY 3

/* SCSI tokens: POPULATE TOKEN and WRITE USING TOKEN. */
#define XCOPY_METHOD_ODX 4

/* copy_file_range(2). */
#define XCOPY_METHOD_COPY_FILE_RANGE 5

/* sendfile(2). */
#define XCOPY_METHOD_SENDFILE 6

/* Read into host memory and write from there: the core's own method. */
#define XCOPY_METHOD_READ_WRITE 7

/* Holes and zeroes, written without reading. */
#define XCOPY_METHOD_ZERO 8

/* The null plugin: completes and moves nothing. */
#define XCOPY_METHOD_NULL 9

/* Methods from this number on are given to plugins at registration, in order. */
#define XCOPY_METHOD_DYNAMIC 16

/* Number of methods there can be; bit `m` of a mask stands for method `m`. */
#define XCOPY_METHOD_MAX 32

/* Nothing better was passed over. */
#define XCOPY_REASON_NONE 0

/* The request's method mask, or the context's, leaves the better method out. */
#define XCOPY_REASON_NOT_ALLOWED 1

/*
 * No loaded plugin offers the method that was named, or a better one, for these
 * devices.
 */
#define XCOPY_REASON_NO_PLUGIN 2

/* The plugin does not serve this kind of device. */
#define XCOPY_REASON_WRONG_DEVICE 3

/* Source and destination belong to different devices, file systems or controllers. */
#define XCOPY_REASON_CROSS_DEVICE 4

/* The device or file system says that it does not support the operation. */
#define XCOPY_REASON_NOT_SUPPORTED 5

/* Offset or length does not meet the method's granularity, or the device's block. */
#define XCOPY_REASON_MISALIGNED 6

/* Block sizes of source and destination differ. */
#define XCOPY_REASON_BLOCK_SIZE 7

/* The process lacks a privilege; the detail text names it. */
#define XCOPY_REASON_PERMISSION 8

/* The device's stated limits leave nothing usable. */
#define XCOPY_REASON_LIMITS 9

/* The method failed on this request; the report has the error. */
#define XCOPY_REASON_FAILED 10

/* The method failed before on this pair and is not tried again for a while. */
#define XCOPY_REASON_FAILED_BEFORE 11

/*
 * Measured or known to be slower than what was used: not used, or for a part only,
 * as much as it took to find out.
 */
#define XCOPY_REASON_SLOWER 12

/* The stack of devices (device-mapper, md, loop) cannot be resolved to one disk. */
#define XCOPY_REASON_STACKED 13

/* The context has no pool and the method needs one. */
#define XCOPY_REASON_NO_POOL 14

/* A plugin answered against its contract; it is no longer used for this pair. */
#define XCOPY_REASON_PLUGIN_FAULT 15

/* The request's deadline passed. */
#define XCOPY_REASON_TIMED_OUT 16

/* The request was cancelled. */
#define XCOPY_REASON_CANCELED 17

/* The device went away. */
#define XCOPY_REASON_REMOVED 18

/* Ranges of the request overlap, or a long list of them does not ascend. */
#define XCOPY_REASON_OVERLAP 19

/*
 * A range is empty, or lies beyond the end of a device or source file or beyond
 * what 64 bits count.
 */
#define XCOPY_REASON_BOUNDS 20

/* A persistent reservation of another host forbids the write. */
#define XCOPY_REASON_RESERVED 21

/* The device has no resources for the operation now, or the host no memory. */
#define XCOPY_REASON_RESOURCES 22

/* A token is unknown, expired, revoked, damaged or another plugin's. */
#define XCOPY_REASON_TOKEN 23

/* A feature has to be switched on first and was not allowed to be. */
#define XCOPY_REASON_FEATURE_OFF 24

/* The running kernel refuses or lacks the interface. */
#define XCOPY_REASON_KERNEL 25

/* Only by name: the method is never chosen by itself. */
#define XCOPY_REASON_BY_NAME_ONLY 26

/* The queue was destroyed by force. */
#define XCOPY_REASON_DESTROYED 27

/* Number of reasons of this version. */
#define XCOPY_REASON_COUNT 28

/* All copied bytes were moved without passing through the host. */
#define XCOPY_CPL_OFFLOADED (1u << 0)

/* Some bytes passed through the host. */
#define XCOPY_CPL_EMULATED (1u << 1)

/* A method was tried or expected and another one did the rest. */
#define XCOPY_CPL_FELL_BACK (1u << 2)

/*
 * What the destination holds between bytes_done and the report's
 * untouched_from is not known.
 */
#define XCOPY_CPL_INDETERMINATE (1u << 3)

/*
 * Commands of the request may still write: it was abandoned, or the device
 * would not say that they ended.
 */
#define XCOPY_CPL_UNSETTLED (1u << 4)

/*
 * Stale cached pages of the destination could not be ruled out. Looked at is the
 * cache of the node that was opened: a disk and each of its partitions have one
 * of their own, and who holds another node of the disk open has to see to that
 * one (BLKFLSBUF) before and after a copy past the kernel.
 */
#define XCOPY_CPL_CACHE_UNVERIFIED (1u << 5)

/* The error arose reading the source. */
#define XCOPY_CPL_ERR_ON_READ (1u << 6)

/* The error arose writing the destination. */
#define XCOPY_CPL_ERR_ON_WRITE (1u << 7)

/* Domain of a detail word (bits 60-63): none. */
#define XCOPY_DETAIL_NONE UINT64_C(0)

/*
 * Domain: an errno of the host kernel in bits 0-31. Bit 32: the source ended
 * before the range that was to be read.
 */
#define XCOPY_DETAIL_ERRNO UINT64_C(1)

/*
 * Domain: SCSI. Bits 0-7 SAM status, 8-15 host byte, 16-19 sense key, 20-27
 * ASC, 28-35 ASCQ, 36-51 segment.
 */
#define XCOPY_DETAIL_SCSI UINT64_C(2)

/* Domain: NVMe. Bits 0-15 status field, 16-31 index of the first failed range. */
#define XCOPY_DETAIL_NVME UINT64_C(3)

/* Domain: a plugin broke its contract; bits 0-31 one of XCOPY_FAULT_*. */
#define XCOPY_DETAIL_FAULT UINT64_C(4)

/* Domain: a plugin's own code in bits 0-47. */
#define XCOPY_DETAIL_VENDOR UINT64_C(5)

/* Shift of the domain; bits 52-59 hold the method. */
#define XCOPY_DETAIL_DOMAIN_SHIFT 60u

/* Shift of the method within a detail word. */
#define XCOPY_DETAIL_METHOD_SHIFT 52u

/* Fault: a plugin claimed success with fewer bytes than the command had. */
#define XCOPY_FAULT_SHORT 1u

/* Fault: a plugin claimed more bytes than the command had. */
#define XCOPY_FAULT_OVER_REPORT 2u

/* Fault: a cookie that names no command in flight (unknown, late or twice). */
#define XCOPY_FAULT_COOKIE 3u

/* Fault: a positive or unknown status. */
#define XCOPY_FAULT_STATUS 4u

/* Fault: submit answered a count out of range. */
#define XCOPY_FAULT_COUNT 5u

/* Fault: a plugin function reported that it had panicked (-EFAULT). */
#define XCOPY_FAULT_PANIC 6u

/* Open for reading: the device may be a source. */
#define XCOPY_OPEN_READ (1u << 0)

/* Open for writing: the device may be a destination. */
#define XCOPY_OPEN_WRITE (1u << 1)

/* The caller has claimed the device already; no claim is taken or checked. */
#define XCOPY_OPEN_OWNED (1u << 2)

/* Take the device although it is mounted or claimed by somebody else. */
#define XCOPY_OPEN_FORCE (1u << 3)

/* All open flags that this version knows. */
#define XCOPY_OPEN_ALL 15u

/* Kind of a device: a regular file. */
#define XCOPY_KIND_FILE 1u

/* Kind: a whole disk. */
#define XCOPY_KIND_DISK 2u

/* Kind: a partition of a disk. */
#define XCOPY_KIND_PARTITION 3u

/* Kind: a block device made of others (device-mapper, md, loop). */
#define XCOPY_KIND_STACKED 4u

/* Kind: a character node of a storage driver (sg, ng). */
#define XCOPY_KIND_CHAR 5u

/* Kind: opened by a plugin, not known to the kernel. */
#define XCOPY_KIND_NATIVE 6u

/* Event: the device is gone. */
#define XCOPY_EVENT_REMOVED (1u << 0)

/* Event: its size changed. */
#define XCOPY_EVENT_RESIZED (1u << 1)

/* Event: limits of a method changed; query the pair again. */
#define XCOPY_EVENT_LIMITS_CHANGED (1u << 2)

/* What a token shows of its source: not known. */
#define XCOPY_TOKEN_SHOWS_UNKNOWN 0u

/*
 * The source as it is when the token is written from (SPC-4's access upon
 * reference): what is written to the source meanwhile is seen, in parts even.
 */
#define XCOPY_TOKEN_SHOWS_SOURCE 1u

/* The source as it was when the token was made (point in time copy). */
#define XCOPY_TOKEN_SHOWS_PAST 2u

/*
 * The same, until the source is written to: then the token is refused (point
 * in time copy, change vulnerable).
 */
#define XCOPY_TOKEN_SHOWS_PAST_UNCHANGED 3u

/* Zeroes. */
#define XCOPY_TOKEN_SHOWS_ZEROES 4u

/* Log level: something failed that the caller will see as an error too. */
#define XCOPY_LOG_ERROR 1u

/* Log level: something was odd and was dealt with. */
#define XCOPY_LOG_WARNING 2u

/* Log level: what was chosen and why. */
#define XCOPY_LOG_INFO 3u

/* Log level: for the library's own developers. */
#define XCOPY_LOG_DEBUG 4u

/*
 * Queue option: the queue stays with the thread that created it. Backends may
 * then use what is bound to one thread (io_uring SINGLE_ISSUER).
 */
#define XCOPY_QUEUE_PINNED (1u << 0)

/*
 * Destroy option: answer what is in flight as abandoned, free what can be
 * freed, and leave to the plugins what they still hold.
 */
#define XCOPY_DESTROY_FORCE (1u << 0)

/*
 * Called for each message of a context at or under its log level. May be
 * called from any thread that is inside the library or a plugin; must not call
 * the library. `message` is valid during the call only.
 */
typedef void (*xcopy_log_fn)(void *log_ctx, uint32_t level, const char *message);

/*
 * Allocates `size` bytes aligned to `align` (a power of two) for a bounce
 * buffer, or answers NULL. Called from any thread.
 */
typedef void *(*xcopy_alloc_fn)(void *alloc_ctx, size_t size, size_t align);

/* Frees what xcopy_alloc_fn gave, with the same size and alignment. */
typedef void (*xcopy_free_fn)(void *alloc_ctx, void *memory, size_t size, size_t align);

/*
 * Called first thing on each thread that the library starts, to set affinity
 * or scheduling; must not call the library.
 */
typedef void (*xcopy_thread_fn)(void *thread_ctx);

/*
 * What a context is created with. Fill it with xcopy_context_options_init and
 * change what you need; 0 is a value, not a default.
 */
struct xcopy_context_options {
    /* sizeof of the struct that the caller was compiled with. */
    uint32_t size;
    /* Must be 0. */
    uint32_t flags;
    /*
     * Threads of the pool that runs what blocks, started when first needed. 0
     * is legal: methods that block are then refused, and a pair that was not
     * prepared gets -ENOTCONN.
     */
    uint32_t pool_threads;
    /* Messages at or under this XCOPY_LOG_ level reach `log`. */
    uint32_t log_level;
    /* Receives messages; NULL is silence. */
    xcopy_log_fn log;
    /* First argument of `log`. */
    void *log_ctx;
    /* Replaces the allocator of bounce buffers; NULL, with `free` NULL too, is anonymous pages. */
    xcopy_alloc_fn alloc;
    /* Frees what `alloc` gave. */
    xcopy_free_fn free;
    /* First argument of `alloc` and `free`. */
    void *alloc_ctx;
    /* Called first on each thread of the pool; NULL is nothing. */
    xcopy_thread_fn thread_start;
    /* First argument of `thread_start`. */
    void *thread_ctx;
    /*
     * Bytes of bounce buffers that the context uses at most; 65,536 at least. Under
     * 1 MiB a copy through the host is slower. A request that finds all of it in use
     * by others waits, about 15 s at most, and fails with -ENOMEM, as it does at once
     * where `alloc` gives nothing and nothing is in use.
     */
    uint64_t memory_budget;
    /* Methods that the context uses at all, as a mask; 0 is all of them. */
    uint32_t methods;
    /* Seconds for which a method that failed on a pair is not tried again. */
    uint32_t retry_after_s;
};

/* What a queue is created with. Fill it with xcopy_queue_options_init. */
struct xcopy_queue_options {
    /* sizeof of the struct that the caller was compiled with. */
    uint32_t size;
    /* XCOPY_QUEUE_ flags. */
    uint32_t flags;
    /*
     * Requests that can be in flight or unreaped at once: 1 to 65,536. Each
     * costs 256 bytes.
     */
    uint32_t capacity;
    /*
     * Commands that can be in flight at once, over all requests: 1 to 65,536;
     * 0 is the capacity. Each costs the private memory of every plugin used.
     */
    uint32_t window;
    /*
     * Commands of one request in flight at once at most; 0 leaves it to the
     * targets' limits and the adaptive policy.
     */
    uint32_t depth;
    /* Must be 0. */
    uint32_t reserved;
    /* Bytes per command; 0 leaves it to the targets' limits and the adaptive policy. */
    uint64_t chunk;
};

/* One piece of a request, in bytes. */
struct xcopy_range {
    /* Byte offset in the source; xcopy_request.src_offset is added. */
    uint64_t src_offset;
    /* Byte offset in the destination; xcopy_request.dst_offset is added. */
    uint64_t dst_offset;
    /* Length in bytes, not 0. */
    uint64_t length;
};

/*
 * What does not fit into a request. Stays the caller's, unchanged, until the
 * completion was taken by xcopy_poll.
 */
struct xcopy_ext {
    /* sizeof of the struct that the caller was compiled with. */
    uint32_t size;
    /* Must be 0. */
    uint32_t reserved;
    /*
     * Ranges, or NULL for the one that the request itself states. Same
     * ownership as this struct. Destination ranges must not overlap and must
     * ascend when there are more than 4,096.
     */
    const struct xcopy_range *ranges;
    /* Number of ranges. */
    uint64_t nranges;
    /*
     * Receives what does not fit into a completion; may be NULL. Written
     * before the completion is visible, never after.
     */
    struct xcopy_report *report;
    /* Seconds that a token made by TOKEN_CREATE should live; 0 is the device's default. */
    uint32_t token_lifetime_s;
    /* Type of the token wanted (SPC-4 ROD TYPE); 0 is the device's default. */
    uint32_t token_type;
};

/*
 * One operation. 64 bytes; reserved fields and unknown flags must be 0. An
 * array of longer structs is legal: its stride tells, and the bytes that this
 * version does not know must be 0 (-E2BIG).
 */
struct xcopy_request {
    /* Comes back in the completion; names the request for cancel and progress. */
    uint64_t user_data;
    /* One of XCOPY_OP_. */
    uint16_t op;
    /* Must be 0. */
    uint16_t reserved;
    /* XCOPY_REQ_ flags. */
    uint32_t flags;
    /* Source: a device, or a token for TOKEN_WRITE and TOKEN_RELEASE. */
    uint32_t src;
    /* Destination: a device, or a token for TOKEN_CREATE. */
    uint32_t dst;
    /* Byte offset in the source; with ranges a base that is added to each. */
    uint64_t src_offset;
    /* Byte offset in the destination; with ranges a base that is added to each. */
    uint64_t dst_offset;
    /* Length in bytes; 0 with ranges. */
    uint64_t length;
    /*
     * Methods allowed, as a mask; 0 is any. Between devices, not files, a COPY
     * that may go by an offload and by the host takes the faster one: a request of
     * 64 MiB or more finds it out, and others follow it (XCOPY_REASON_SLOWER).
     */
    uint32_t methods;
    /* Milliseconds from acceptance to the deadline; 0 is none. */
    uint32_t timeout_ms;
    /* NULL, or what does not fit. */
    const struct xcopy_ext *ext;
};

/* The end of one request. 64 bytes. */
struct xcopy_completion {
    /* The request's. */
    uint64_t user_data;
    /*
     * 0, or -errno: EIO, EREMOTEIO (device), ENODATA (medium), EILSEQ
     * (protection), EBADE (reservation), ENOSPC, EROFS, ENODEV, ENOTSUP,
     * ETIMEDOUT, ECANCELED, EINVAL (ranges), ENOTCONN, EACCES, EPERM, EBUSY,
     * ENOMEM, ESTALE (token), EFBIG, EDQUOT.
     */
    int32_t res;
    /* XCOPY_CPL_ flags. */
    uint32_t flags;
    /* Longest prefix of the request, in bytes and in range order, known to be copied. */
    uint64_t bytes_done;
    /* All bytes known to be copied. */
    uint64_t bytes_copied;
    /* Of those, the bytes that never passed through the host. */
    uint64_t bytes_offloaded;
    /*
     * The last error as the device gave it; xcopy_detail_string says it in words. 0
     * with `res` 0, unless a method was left (XCOPY_CPL_FELL_BACK): then that failure.
     */
    uint64_t detail;
    /*
     * Commands that backends were given for this request, without those that a
     * plugin ended unsent; a flush that made it durable counts here and in no
     * method's share.
     */
    uint32_t commands;
    /* The XCOPY_METHOD_ that moved most bytes. */
    uint16_t method;
    /* The XCOPY_REASON_ why a better method was not used. */
    uint16_t reason;
    /* 0. */
    uint64_t reserved;
};

/* What one method did for a request. */
struct xcopy_method_share {
    /* One of XCOPY_METHOD_. */
    uint16_t method;
    /* 1 if its bytes did not pass through the host. */
    uint16_t offloaded;
    /* Commands that it was given, without those that its plugin ended unsent. */
    uint32_t commands;
    /* Bytes that it is known to have copied. */
    uint64_t bytes;
};

/* Why a request left, or never took, a method. */
struct xcopy_fallback {
    /* The method that was not used, or not for all. */
    uint16_t method;
    /* XCOPY_REASON_. */
    uint16_t reason;
    /* -errno of the failure, or 0. */
    int32_t error;
    /* The error as the device gave it. */
    uint64_t detail;
};

/* Entries of xcopy_report.fallbacks. */
#define XCOPY_REPORT_FALLBACKS 16

/* Bytes of xcopy_report.sense (SPC-4 4.5: sense data is at most 252 bytes). */
#define XCOPY_SENSE_MAX 252

/*
 * What does not fit into a completion; the caller's memory. Set `size` before
 * submit; the library writes at most that many bytes.
 */
struct xcopy_report {
    /* sizeof of the struct that the caller was compiled with. */
    uint32_t size;
    /* Number of entries in `shares`. */
    uint32_t nshares;
    /* Number of entries in `fallbacks`. */
    uint32_t nfallbacks;
    /* Bytes in `sense`. */
    uint32_t sense_len;
    /* Index of the first range that failed, or the number of ranges. */
    uint64_t failed_index;
    /*
     * The first piece known to have failed, in absolute bytes; all 0 if none. A
     * range that was refused is all of the piece, as it was given.
     */
    struct xcopy_range failed;
    /*
     * No byte at or after this position, counted in range order from the
     * request's start, was touched.
     */
    uint64_t untouched_from;
    /* Bytes and commands by method; the bytes sum to the completion's. */
    struct xcopy_method_share shares[XCOPY_METHOD_MAX];
    /* Methods that were left or passed over, best first. */
    struct xcopy_fallback fallbacks[XCOPY_REPORT_FALLBACKS];
    /* Sense data of the last failure, as the target sent it. */
    uint8_t sense[XCOPY_SENSE_MAX];
    /* 0. */
    uint32_t reserved;
};

/*
 * What a method can do for a pair. Bytes throughout; 0 in a maximum is
 * "not stated".
 */
struct xcopy_limits {
    /* Bytes of one command that work best. */
    uint64_t preferred_bytes;
    /* Bytes of one command at most. */
    uint64_t max_bytes;
    /* Bytes of one range of a command at most. */
    uint64_t max_range_bytes;
    /* Source offsets must be multiples of this; 0 and 1 are no restriction. */
    uint32_t src_granularity;
    /* Destination offsets must be multiples of this. */
    uint32_t dst_granularity;
    /* Lengths must be multiples of this. */
    uint32_t length_granularity;
    /* Ranges of one command at most; 0 and 1 are one. */
    uint32_t max_ranges;
    /*
     * Commands at once, for the pair and queue; 0 is not stated. Copies by a
     * BLOCKING plugin's offload are counted for the destination's storage, over
     * all queues of the context.
     */
    uint32_t max_concurrent;
    /*
     * 1 if several ranges of one command must fill one contiguous destination
     * (NVMe Copy), 0 if each has its own.
     */
    uint32_t contiguous_dst;
};

/* One method's verdict on a pair. */
struct xcopy_method_info {
    /* One of XCOPY_METHOD_, or given at registration. */
    uint16_t method;
    /*
     * XCOPY_REASON_ if not usable, or usable only by name, or only with
     * XCOPY_REQ_SET_HOST_BEHAVIOR (XCOPY_REASON_FEATURE_OFF).
     */
    uint16_t reason;
    /* 1 if the method can be used for the pair. */
    uint32_t usable;
    /* 1 if its bytes do not pass through the host. */
    uint32_t offloaded;
    /* Changes whenever verdict or limits do. */
    uint32_t generation;
    /* Its limits on this pair. */
    struct xcopy_limits limits;
    /* Name of the method, NUL-terminated. */
    char name[32];
    /* Name of the plugin, NUL-terminated; "core" for the core's own. */
    char plugin[32];
    /* The reason in words, with what to do next; NUL-terminated, empty if there is none. */
    char text[160];
};

/* What a device is. */
struct xcopy_device_info {
    /* One of XCOPY_KIND_. */
    uint32_t kind;
    /* The XCOPY_OPEN_ flags it was opened with. */
    uint32_t open_flags;
    /*
     * Size in bytes when last looked at; 0 and `size_known` 0 before a plugin
     * that opens on its queue has opened it.
     */
    uint64_t size_bytes;
    /* Bytes of a logical block; 1 for files. */
    uint32_t block_size;
    /* Bytes of a physical block or file-system block: what aligned copies should use. */
    uint32_t physical_block_size;
    /* Device number of the node or of the file's file system. */
    uint32_t dev_major;
    /* Its minor. */
    uint32_t dev_minor;
    /* Device number of the whole disk; 0 if there is none or it is not one. */
    uint32_t disk_major;
    /* Its minor. */
    uint32_t disk_minor;
    /* First byte of the device on its disk. */
    uint64_t disk_offset;
    /* Requests in flight that touch it, over all queues. */
    uint32_t in_flight;
    /* XCOPY_EVENT_ flags since xcopy_device_events was last called; not reset here. */
    uint32_t events;
    /* 1 if size_bytes is known. */
    uint32_t size_known;
    /* 0. */
    uint32_t reserved;
    /* What it was opened with, NUL-terminated, cut if longer. */
    char name[256];
};

/* One method that a plugin offers. */
struct xcopy_plugin_info {
    /* Name of the plugin, NUL-terminated. */
    char name[32];
    /* Version of the plugin, NUL-terminated. */
    char version[32];
    /* What it does, NUL-terminated. */
    char description[128];
    /* File it was loaded from, NUL-terminated; empty for a static one. */
    char path[256];
    /* Methods it serves, as a mask. */
    uint32_t methods;
    /* Its XCOPY_MODEL_. */
    uint32_t model;
    /* The interface version it was built with: major << 16 | minor. */
    uint32_t abi_version;
    /* Private bytes per command that it asks for. */
    uint32_t cmd_private;
};

/* How far a running request is. Read from any thread. */
struct xcopy_progress {
    /* Bytes of the request. */
    uint64_t bytes_total;
    /* Bytes known to be copied so far. */
    uint64_t bytes_copied;
    /* Of those, the bytes that never passed through the host. */
    uint64_t bytes_offloaded;
    /* Commands in flight for it now. */
    uint32_t commands_in_flight;
    /* Method of the last command that ended. */
    uint32_t method;
};

/*
 * Counters of a queue since its creation. Read from any thread; each is exact
 * by itself, but they are not one snapshot.
 */
struct xcopy_queue_stats {
    /* Requests accepted. */
    uint64_t requests;
    /* Completions taken by xcopy_poll. */
    uint64_t completions;
    /* Commands given to backends. */
    uint64_t commands;
    /* Commands that failed. */
    uint64_t command_errors;
    /* Commands given again after a transient failure. */
    uint64_t retries;
    /* Methods left for another one. */
    uint64_t fallbacks;
    /* Bytes known to be copied. */
    uint64_t bytes_copied;
    /* Of those, bytes that never passed through the host. */
    uint64_t bytes_offloaded;
    /* Answers of plugins that named no command in flight, swallowed. */
    uint64_t late_answers;
    /* Answers of plugins that broke the contract. */
    uint64_t plugin_faults;
    /* Requests answered before they were settled. */
    uint64_t abandoned;
    /* Bytes of memory that the queue holds. */
    uint64_t memory_bytes;
};

/* What a token is. */
struct xcopy_token_info {
    /* Bytes that the token represents; 0 while it is empty. */
    uint64_t bytes;
    /* Bytes that xcopy_token_export needs. */
    uint64_t export_bytes;
    /* Seconds that it lives without being used; 0 is unknown. */
    uint32_t lifetime_s;
    /* Its type (SPC-4 ROD TYPE), or 0. */
    uint32_t token_type;
    /*
     * Method that made it, by its number in this process; XCOPY_METHOD_NONE if
     * no loaded plugin has a method of its name.
     */
    uint16_t method;
    /* 0. */
    uint16_t reserved;
    /* 1 once it was filled. */
    uint32_t filled;
    /* Plugin that made it, NUL-terminated. */
    char plugin[32];
    /*
     * When it was made, in seconds since 1970 by the clock of the host that made
     * it; 0 is unknown.
     */
    uint64_t created_s;
    /* First byte that it represents, on the device that it was made of. */
    uint64_t origin_offset;
    /* XCOPY_TOKEN_SHOWS_: what it shows of a source that changes. */
    uint32_t shows;
    /* 0. */
    uint32_t reserved2;
    /*
     * Where it was made, `HOST:DEVICE` by the names used there, NUL-terminated,
     * cut if longer. For people: a device may have another name tomorrow.
     */
    char origin[128];
};

/*
 * The one function that a plugin exports, under the name
 * `xcopy_plugin_init_v0`: answers its table, or NULL if it cannot work with
 * this host. Called once for each context; must not block.
 */
typedef const struct xcopy_plugin *(*xcopy_plugin_init_fn)(const struct xcopy_host *host);

#ifdef __cplusplus
}
#endif

#endif /* XCOPY_TYPES_H */
