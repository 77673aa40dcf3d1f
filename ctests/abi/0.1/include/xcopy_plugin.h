/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * xcopy_plugin.h - how a plugin of libxcopy is written, in C or C++.
 *
 * A plugin is a shared object libxcopy_NAME.so that exports one function,
 * xcopy_plugin_init_v0. The core calls it with its own table, struct xcopy_host,
 * and gets the plugin's, struct xcopy_plugin: static memory, filled with at
 * least struct_size, abi_version, name, version, description, model, commands
 * and what the model needs. Both tables grow at their end only, and each side
 * tests with XCOPY_HAS what the other one knows.
 *
 * Commands live in core memory. A plugin gets pointers to them, stable until
 * the command is completed, with cmd_private bytes of its own behind each, and
 * completes each exactly once by its cookie. What a device answered late, never
 * or wrongly is said so: a lost status is never success.
 *
 * Threads: POLLED and AFFINE plugins are called on the queue's owner thread,
 * BLOCKING ones on the core's pool, several at once; each model says more. No
 * call may unwind (C++: catch everything), and only execute, open, close and
 * probe of the models that say so may block.
 *
 * Errors are negative errno values. A plugin that answers against this contract
 * is caught where it can be and no longer used for the pair.
 *
 * Generated from core/abi/src/plugin.rs by `cargo run -p xcopy-headers`.
 */
#ifndef XCOPY_PLUGIN_H
#define XCOPY_PLUGIN_H

#include "xcopy_types.h"

/*
 * Whether the table that `table` points to, with the struct_size that its owner
 * was compiled with, reaches as far as `field`. Test whatever is younger than
 * the oldest core or plugin that you want to work with.
 */
#define XCOPY_HAS(table, field) \
    ((size_t)((const char *)(&(table)->field + 1) - (const char *)(table)) <= (table)->struct_size)

/* Put before the definition of xcopy_plugin_init_v0. */
#if defined(__GNUC__)
#define XCOPY_PLUGIN_EXPORT __attribute__((visibility("default")))
#else
#define XCOPY_PLUGIN_EXPORT
#endif

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Interface version of this header: major << 16 | minor. A core refuses
 * another major; a minor never matters, because both tables state their size
 * and only grow at their end.
 */
#define XCOPY_ABI_VERSION 1u

/*
 * All queue functions are called on the queue's owner thread and return at
 * once; commands end inside submit or poll, or, where one of them has to block,
 * on a thread of the plugin's by host.complete. open, close and probe may block:
 * the pool calls them.
 */
#define XCOPY_MODEL_POLLED 1u

/*
 * Like POLLED, but commands end on the plugin's own threads by host.complete;
 * `poll` may be NULL.
 */
#define XCOPY_MODEL_THREADED 2u

/*
 * `execute` blocks; the core's pool calls it, several at once. Where the pool has
 * two threads or more, no plugin gets all of them.
 */
#define XCOPY_MODEL_BLOCKING 3u

/*
 * Like POLLED, but opening, probing and closing come as commands too
 * (XCOPY_CMD_OPEN, _PROBE, _CLOSE), so that a plugin bound to one thread sees
 * no other. Each queue opens a device for itself; only `start`, `stop` are
 * called elsewhere.
 */
#define XCOPY_MODEL_AFFINE 4u

/*
 * Plugin flag: `open` takes what the kernel knows (files, disks) besides or
 * instead of native handles.
 */
#define XCOPY_PLUGIN_KERNEL (1u << 0)

/* Plugin flag: `open` takes `name:spec` strings and native handles. */
#define XCOPY_PLUGIN_NATIVE (1u << 1)

/* Method flag: bytes do not pass through the host. */
#define XCOPY_METHOD_OFFLOADS (1u << 0)

/*
 * Method flag: goes past the page cache; the core writes dirty pages before
 * and drops stale ones after.
 */
#define XCOPY_METHOD_BYPASSES_CACHE (1u << 1)

/* Method flag: chosen only when the caller names it. */
#define XCOPY_METHOD_BY_NAME (1u << 2)

/*
 * Method flag: the core must not have two commands of one queue touch the same
 * destination device at once.
 */
#define XCOPY_METHOD_SERIAL_DST (1u << 3)

/*
 * Method flag: holes of a source become written zeroes. A request with
 * XCOPY_REQ_KEEP_HOLES passes it over while another method that it allows is left.
 */
#define XCOPY_METHOD_FILLS_HOLES (1u << 4)

/*
 * Method flag: the last bytes of a source need not meet the length granularity,
 * if the destination does not go on behind them (FICLONERANGE).
 */
#define XCOPY_METHOD_TAIL_AT_END (1u << 5)

/*
 * Method flag: it has to switch a feature of the device on first. Only requests
 * with XCOPY_REQ_SET_HOST_BEHAVIOR take it.
 */
#define XCOPY_METHOD_NEEDS_FEATURE (1u << 6)

/*
 * Verdict flag: on this pair the method is chosen only when the caller names
 * it, as with XCOPY_METHOD_BY_NAME.
 */
#define XCOPY_VERDICT_BY_NAME (1u << 0)

/*
 * Verdict flag: on this pair bytes pass through the host, whatever
 * XCOPY_METHOD_OFFLOADS says.
 */
#define XCOPY_VERDICT_THROUGH_HOST (1u << 1)

/*
 * Verdict flag: on this pair the method fills holes, as with
 * XCOPY_METHOD_FILLS_HOLES.
 */
#define XCOPY_VERDICT_FILLS_HOLES (1u << 2)

/*
 * Verdict flag: on this pair a feature of the device has to be switched on
 * first, as with XCOPY_METHOD_NEEDS_FEATURE. Once it is on, tell
 * XCOPY_EVENT_LIMITS_CHANGED, and the pair is judged again.
 */
#define XCOPY_VERDICT_NEEDS_FEATURE (1u << 3)

/* Copy `ranges` from `src` to `dst`. */
#define XCOPY_CMD_COPY 1

/* Make `ranges` (dst_offset, length) of `dst` read as zeroes. */
#define XCOPY_CMD_ZERO 2

/* Make what was written to `dst` durable. */
#define XCOPY_CMD_FLUSH 3

/* Read `ranges[0]` (src_offset, length) of `src` into `buffer`. */
#define XCOPY_CMD_READ 4

/* Write `buffer` to `ranges[0]` (dst_offset, length) of `dst`. */
#define XCOPY_CMD_WRITE 5

/* Make one token for `ranges[0]` (src_offset, length) of `src`; put it in `token`. */
#define XCOPY_CMD_TOKEN_CREATE 6

/*
 * Write `ranges[0]` of the token `token` to `dst`; src_offset counts bytes into
 * this token.
 */
#define XCOPY_CMD_TOKEN_WRITE 7

/*
 * Release the token `token` on `dst`: a device that it was made of, perhaps as part
 * of one that failed.
 */
#define XCOPY_CMD_TOKEN_RELEASE 8

/* AFFINE: open the device that `arg`, an xcopy_open_args, describes. */
#define XCOPY_CMD_OPEN 9

/* AFFINE: close `src`. */
#define XCOPY_CMD_CLOSE 10

/*
 * AFFINE: fill the verdicts in `arg`, an xcopy_probe_args, for (`src`, `dst`),
 * of which one is NULL when the question is about tokens.
 */
#define XCOPY_CMD_PROBE 11

/* Bit of a command in xcopy_plugin.commands. */
#define XCOPY_CAN_COPY (1u << 1)

/* The plugin takes XCOPY_CMD_ZERO. */
#define XCOPY_CAN_ZERO (1u << 2)

/* The plugin takes XCOPY_CMD_FLUSH. */
#define XCOPY_CAN_FLUSH (1u << 3)

/* The plugin takes XCOPY_CMD_READ. */
#define XCOPY_CAN_READ (1u << 4)

/* The plugin takes XCOPY_CMD_WRITE. */
#define XCOPY_CAN_WRITE (1u << 5)

/* The plugin takes XCOPY_CMD_TOKEN_CREATE, _WRITE and _RELEASE. */
#define XCOPY_CAN_TOKEN (1u << 6)

/* Command flag: durable when it ends (FUA or the like), if the plugin has no FLUSH. */
#define XCOPY_CMD_DURABLE (1u << 0)

/* Command flag: fail rather than copy slower than the host would (NVMe SOPT FCO). */
#define XCOPY_CMD_FAST_ONLY (1u << 1)

/* Command flag: the caller allowed XCOPY_REQ_SET_HOST_BEHAVIOR. */
#define XCOPY_CMD_SET_HOST_BEHAVIOR (1u << 2)

/*
 * Command flag, COPY: the caller forbade that bytes pass through the host, or
 * did not name the method. What would not be offloaded fails with
 * XCOPY_ACTION_NEXT_METHOD. A method that always offloads may ignore it.
 */
#define XCOPY_CMD_OFFLOAD_ONLY (1u << 3)

/*
 * One command. Core memory: stable and unchanged from submit until it is
 * completed, after which the plugin must not touch it.
 */
struct xcopy_cmd {
    /* Give it back in the result. */
    uint64_t cookie;
    /* One of XCOPY_CMD_. */
    uint16_t op;
    /* The method's number, fixed or given at registration. */
    uint16_t method;
    /* XCOPY_CMD_ flags. */
    uint32_t flags;
    /* What `open` gave for the source, or NULL. */
    void *src;
    /* What `open` gave for the destination, or NULL. */
    void *dst;
    /* The ranges in bytes, absolute, within the method's limits. */
    const struct xcopy_range *ranges;
    /* Number of ranges, at most the plugin's max_ranges. */
    uint32_t nranges;
    /*
     * Milliseconds that the caller still gives the command; 0 is no limit. A
     * hint: the core does not take the command back.
     */
    uint32_t timeout_ms;
    /* Sum of the lengths, in bytes. */
    uint64_t bytes;
    /* READ: where to, WRITE: where from; `bytes` long, aligned to 4,096. */
    void *buffer;
    /* TOKEN_: the token. */
    uint8_t *token;
    /* TOKEN_CREATE: room at `token`; TOKEN_WRITE, _RELEASE: its length. */
    uint32_t token_size;
    /* TOKEN_CREATE: type wanted, 0 is the default. */
    uint32_t token_type;
    /* TOKEN_CREATE: seconds to live wanted, 0 is the default. */
    uint32_t token_lifetime_s;
    /*
     * Index of the method in xcopy_plugin.methods; 0 where `method` is none of the
     * plugin's. A plugin cannot know the numbers that the core gives to names.
     */
    uint32_t method_index;
    /* OPEN, PROBE: the arguments. */
    void *arg;
    /*
     * The plugin's private bytes of this command (xcopy_plugin.cmd_private),
     * aligned to 16; not cleared between commands.
     */
    void *private_data;
};

/* What the core does after a failure: by the error number. */
#define XCOPY_ACTION_DEFAULT 0

/* Transient (unit attention, busy, queue full): give the command again, later. */
#define XCOPY_ACTION_RETRY 1

/* Too large: limits are read again, the command is split and given again. */
#define XCOPY_ACTION_SPLIT 2

/*
 * This method cannot do it: the rest goes by the next method, and this one
 * rests on this pair for a while.
 */
#define XCOPY_ACTION_NEXT_METHOD 3

/* No method can: the request fails. */
#define XCOPY_ACTION_FATAL 4

/* Result flag: the error arose reading the source. */
#define XCOPY_RESULT_ERR_ON_READ (1u << 0)

/* Result flag: the error arose writing the destination. */
#define XCOPY_RESULT_ERR_ON_WRITE (1u << 1)

/* Result flag: the destination was certainly not touched. */
#define XCOPY_RESULT_UNTOUCHED (1u << 2)

/*
 * Result flag: the command's bytes passed through the host, although the
 * method offloads on this pair.
 */
#define XCOPY_RESULT_THROUGH_HOST (1u << 3)

/*
 * Result flag of a failure: the device would not say that the command ended, so
 * it may still write. The request fails, whatever the action says.
 */
#define XCOPY_RESULT_UNSETTLED (1u << 4)

/*
 * Result flag of a failure: nothing was sent to the device, so the destination was
 * not touched and no command is counted.
 */
#define XCOPY_RESULT_UNSENT (1u << 5)

/* The end of one command. */
struct xcopy_result {
    /* The command's; `execute` finds it set. */
    uint64_t cookie;
    /* 0 or -errno. */
    int32_t status;
    /* XCOPY_ACTION_ for a failure. */
    uint16_t action;
    /* XCOPY_REASON_ for a failure. */
    uint16_t reason;
    /*
     * Success: the command's bytes. Failure: bytes, from the first range on,
     * that are known to be copied (0 if not known).
     */
    uint64_t bytes;
    /* The error in the device's words, packed as in xcopy_completion.detail. */
    uint64_t detail;
    /* XCOPY_RESULT_ flags. */
    uint32_t flags;
    /* Bytes at `sense`, at most 252. */
    uint32_t sense_len;
    /* Sense data, valid during the call; or NULL. */
    const uint8_t *sense;
    /* TOKEN_CREATE: bytes put at xcopy_cmd.token. */
    uint32_t token_size;
    /* TOKEN_CREATE: type of the token. */
    uint32_t token_type;
    /*
     * TOKEN_CREATE: seconds that the token lives without being used; 0 is
     * not known, and the core takes what the caller asked for.
     */
    uint32_t token_lifetime_s;
    /* 0. */
    uint32_t reserved;
};

/* Describes a device to a plugin's `open`. */
struct xcopy_device_desc {
    /* sizeof as the core was compiled. */
    uint32_t size;
    /* One of XCOPY_KIND_. */
    uint32_t kind;
    /* XCOPY_OPEN_ flags. */
    uint32_t open_flags;
    /* The core's fd of the node or file, valid until `close`; -1 for native. */
    int fd;
    /*
     * Path or name as the caller gave it, NUL-terminated; for `name:spec` the
     * part after the colon. Empty when opened by fd. Not to be reopened.
     */
    const char *name;
    /* The caller's native handle, or NULL. */
    void *native;
    /* Name the device to host.device_event with this. */
    void *host_device;
    /* Device number of the node, or of the file's file system. */
    uint32_t dev_major;
    /* Its minor. */
    uint32_t dev_minor;
    /* Device number of the whole disk, or 0. */
    uint32_t disk_major;
    /* Its minor. */
    uint32_t disk_minor;
    /* First byte of the device on that disk. */
    uint64_t disk_offset;
    /* Inode of a file. */
    uint64_t inode;
    /* Size in bytes. */
    uint64_t size_bytes;
    /* Logical block size in bytes; 1 for files. */
    uint32_t block_size;
    /* Physical block size, or the file system's block. */
    uint32_t physical_block_size;
};

/*
 * What a plugin says of a device that it opened. The core sets `size` and
 * zeroes the rest.
 */
struct xcopy_device_props {
    /* sizeof as the core was compiled. */
    uint32_t size;
    /*
     * Logical block size in bytes: offsets and lengths of READ, WRITE and ZERO
     * are multiples of it.
     */
    uint32_t block_size;
    /* Size in bytes. Kernel devices may leave it 0: the core knows. */
    uint64_t size_bytes;
    /* Bytes of READ and WRITE that work best; 0 leaves it to the core. */
    uint64_t preferred_io_bytes;
    /* Bytes of READ, WRITE and ZERO at most; 0 is no limit. */
    uint64_t max_io_bytes;
    /*
     * Two native devices with the same non-zero identity are the same storage:
     * overlap is checked across them.
     */
    uint64_t identity;
    /* First byte of the device on that identity. */
    uint64_t identity_offset;
    /* 1 if it cannot be written. */
    uint32_t read_only;
    /* 0. */
    uint32_t reserved;
    /*
     * If `open` refuses: why, in words. Else what people call a native device, or
     * nothing: tokens made of it say that they come from there. NUL-terminated.
     */
    char text[128];
};

/* A plugin's verdict on one of its methods for a pair. The core zeroes it. */
struct xcopy_verdict {
    /* 1 if the method can be used. */
    uint32_t usable;
    /* XCOPY_REASON_ if not, or if it is chosen only by name or needs a feature. */
    uint16_t reason;
    /* Seconds for which this verdict holds; 0 leaves it to the core. */
    uint16_t ttl_s;
    /* The limits. */
    struct xcopy_limits limits;
    /*
     * Estimated throughput, in bytes per microsecond, for the choice between
     * methods; 0 is unknown.
     */
    uint32_t bytes_per_us;
    /* XCOPY_VERDICT_ flags. */
    uint32_t flags;
    /* The reason in words, with what to do next; NUL-terminated. */
    char text[160];
};

/* Arguments of XCOPY_CMD_OPEN. */
struct xcopy_open_args {
    /* The device. */
    const struct xcopy_device_desc *desc;
    /* Receives the plugin's handle. */
    void *device;
    /* To be filled. */
    struct xcopy_device_props props;
};

/* Arguments of XCOPY_CMD_PROBE. */
struct xcopy_probe_args {
    /* One verdict for each of the plugin's methods, in their order, to be filled. */
    struct xcopy_verdict *verdicts;
    /* Bytes from one verdict to the next. */
    size_t stride;
    /* Number of verdicts. */
    uint32_t n;
    /* 0. */
    uint32_t reserved;
};

/* The core's side of one plugin queue. */
struct xcopy_host_queue;

/* What the core offers. Valid for the life of the process. */
struct xcopy_host {
    /* sizeof as the core was compiled: a field beyond it is not there. */
    uint32_t struct_size;
    /* XCOPY_ABI_VERSION of the core. */
    uint32_t abi_version;
    /*
     * Writes a message to the context's log. Any thread. `host_ctx` as given
     * to `start`.
     */
    void (*log)(void *host_ctx, uint32_t level, const char *message);
    /* Memory for data buffers from the context's allocator, or NULL. Any thread. */
    void *(*alloc)(void *host_ctx, size_t size, size_t align);
    /* Frees what `alloc` gave. Any thread. */
    void (*free)(void *host_ctx, void *memory, size_t size, size_t align);
    /*
     * Ends commands, from any thread. `stride` is sizeof(struct xcopy_result)
     * as the plugin was compiled.
     */
    void (*complete)(struct xcopy_host_queue *queue,
                     const struct xcopy_result *results,
                     size_t stride,
                     uint32_t n);
    /*
     * Ends commands, on the queue's owner thread only: inside submit, inside
     * poll, or between the library's calls. Cheaper than `complete`.
     */
    void (*complete_local)(struct xcopy_host_queue *queue,
                           const struct xcopy_result *results,
                           size_t stride,
                           uint32_t n);
    /*
     * Tells that a device was removed, resized, or changed its limits
     * (XCOPY_EVENT_). Any thread. `size_bytes` is the new size for RESIZED.
     */
    void (*device_event)(void *host_device, uint32_t events, uint64_t size_bytes);
};

/* One method of a plugin. */
struct xcopy_plugin_method {
    /*
     * Its name, `[a-z][a-z0-9_]*`, at most 31 characters. The names of the fixed
     * methods have their fixed numbers; any other is given a free one.
     */
    const char *name;
    /* XCOPY_METHOD_ flags. */
    uint32_t flags;
    /* Higher is tried first; 0 is the place that the core gives the name. */
    uint32_t worth;
};

/* What a queue of a plugin is created with. */
struct xcopy_plugin_queue_options {
    /* sizeof as the core was compiled. */
    uint32_t size;
    /* XCOPY_QUEUE_ flags of the queue. */
    uint32_t flags;
    /* Commands in flight at most. */
    uint32_t window;
    /* 0. */
    uint32_t reserved;
};

/*
 * What a plugin offers. Static memory, valid for the life of the process.
 * Every function pointer that the model does not need may be NULL. No function
 * may unwind; -EFAULT says that the plugin stopped a panic of its own.
 */
struct xcopy_plugin {
    /* sizeof as the plugin was compiled: the core reads nothing beyond it. */
    uint32_t struct_size;
    /* XCOPY_ABI_VERSION that the plugin was compiled with. */
    uint32_t abi_version;
    /* `[a-z][a-z0-9_]*`, at most 31 characters; the file is libxcopy_NAME.so. */
    const char *name;
    /* The plugin's own version. */
    const char *version;
    /* What it does, in one line. */
    const char *description;
    /* One of XCOPY_MODEL_. */
    uint32_t model;
    /* XCOPY_PLUGIN_ flags. */
    uint32_t flags;
    /* XCOPY_CAN_ bits: the commands it takes. */
    uint32_t commands;
    /* Private bytes that each command carries for it, at most 65,536. */
    uint32_t cmd_private;
    /* Ranges of one command at most, over all its methods: 1 to 65,536. */
    uint32_t max_ranges;
    /* Number of methods; 0 for a plugin that only reads and writes. */
    uint32_t nmethods;
    /* Its methods. */
    const struct xcopy_plugin_method *methods;
    /* Bytes from one method to the next. */
    size_t method_stride;
    /*
     * Called once for each context, before anything else; `state` comes back
     * as the first argument of what follows. Any thread.
     */
    int (*start)(void *host_ctx, void **state);
    /* Called last, when all devices and queues of the context are gone. */
    void (*stop)(void *state);
    /* Opens a device: 0 or -errno, with a text in props. */
    int (*open)(void *state,
                const struct xcopy_device_desc *desc,
                void **device,
                struct xcopy_device_props *props);
    /* Closes a device that no command uses any more. */
    void (*close)(void *state, void *device);
    /*
     * Judges the plugin's methods for a pair, one verdict each in their order.
     * One of the devices is NULL when the question is about tokens: made of
     * `src`, or written to `dst`. 0, or -errno if no verdict could be found now.
     */
    int (*probe)(void *state,
                 void *src,
                 void *dst,
                 struct xcopy_verdict *verdicts,
                 size_t stride,
                 uint32_t n);
    /* Creates a queue on its owner's thread. Must not block. */
    int (*queue_create)(void *state,
                        struct xcopy_host_queue *host_queue,
                        const struct xcopy_plugin_queue_options *options,
                        void **queue);
    /*
     * Destroys a queue that no command uses any more. Afterwards the plugin
     * must not use the host_queue.
     */
    void (*queue_destroy)(void *queue);
    /*
     * Takes commands: the number taken, from the first on, or -errno for none.
     * What was not taken is given again later.
     */
    int (*submit)(void *queue, struct xcopy_cmd *const *commands, uint32_t n);
    /*
     * Advances the queue and ends at most about `max` commands. The answer is
     * not used; 0 is usual.
     */
    int (*poll)(void *queue, uint32_t max);
    /*
     * A pollable fd, the same for the queue's life, or -errno; readable, while
     * armed, when poll has something to do. A plugin without one makes a
     * sleeping consumer spin.
     */
    int (*queue_fd)(void *queue);
    /*
     * Switches the fd on (1) or off (0); answers 1 if poll has something to do
     * already, else 0.
     */
    int (*arm)(void *queue, uint32_t on);
    /* Asks a command to end early. It still ends by a result. 0 or -errno. */
    int (*cancel)(void *queue, struct xcopy_cmd *command);
    /*
     * BLOCKING: carries one command out and fills the result; 0, or -errno for
     * a failure without further detail. Any thread of the pool.
     */
    int (*execute)(void *state, struct xcopy_cmd *command, struct xcopy_result *result);
    /*
     * Says what was found out of a device, for a person: lines of "key: value",
     * NUL-terminated and cut to the `size` bytes at `text`. Answers the bytes of
     * the whole text without its NUL, or -errno. A key may come more than once.
     * May block, any thread; NULL for a plugin that has nothing to say, and not
     * called where devices are opened on a queue (AFFINE).
     */
    int (*describe)(void *state, void *device, char *text, size_t size);
};

/*
 * The entry point of a shared object; see xcopy_plugin_init_fn. A plugin that
 * is linked statically has a function of this type under a name of its own.
 */
XCOPY_PLUGIN_EXPORT const struct xcopy_plugin *xcopy_plugin_init_v0(const struct xcopy_host *host);

#ifdef __cplusplus
}
#endif

#endif /* XCOPY_PLUGIN_H */
