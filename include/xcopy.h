/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * xcopy.h - copies data with what the storage offers: shared extents, NVMe Copy,
 * SCSI EXTENDED COPY, tokens; by the host where nothing better works; and tells
 * which of them it was.
 *
 * Life: a context holds plugins, devices and tokens. A queue takes requests
 * (xcopy_submit) and gives exactly one completion for each that it accepted
 * (xcopy_poll). What was refused was never started.
 *
 * Ownership: contexts and queues are pointers, freed by their own function.
 * Devices and tokens are numbers; a number that is no longer valid is answered
 * with -EBADF. Requests are copied by xcopy_submit; what xcopy_request.ext points
 * to, and the ranges and the report behind it, stay yours and must stay where
 * they are until the completion was taken. Strings that the library gives are
 * not freed by the caller.
 *
 * Threads: a queue belongs to one thread at a time; once idle it may be handed
 * to another. What may be called from any thread says so: all functions of
 * contexts, devices and tokens, cancel, drain, resume, in_flight, stats and
 * progress. In a forked child every call answers -ECHILD.
 *
 * Errors: a negative errno, and xcopy_last_error() has a text for a person, of
 * this thread's last failure. NULL, stale and foreign handles, unknown flags and
 * non-zero reserved fields are refused and change nothing.
 *
 * Growth: structs that begin with `size`, or are passed with a size or stride,
 * may be longer in later versions; pass sizeof.
 *
 * Generated from core/src/capi by `cargo run -p xcopy-headers`.
 */
#ifndef XCOPY_H
#define XCOPY_H

#include "xcopy_types.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Plugins, devices, tokens, a pool of threads, and what is known of pairs of
 * devices. Opaque. Any thread may use a context at any time.
 */
struct xcopy_context;

/*
 * Where requests go in and completions come out. Opaque. One thread at a time
 * owns a queue and makes the calls that have no other word about threads; an
 * idle queue may change its owner.
 */
struct xcopy_queue;

/*
 * Text of the calling thread's last failed call: what went wrong and what to
 * do next. Wording may change between versions; decide by the error number.
 * Calls that succeed leave it as it is; xcopy_submit and xcopy_poll also set it
 * when they do a part.
 *
 * @return NUL-terminated text owned by the library, "" if no call of this
 * thread failed. Valid until this thread's next failing call, or its end: copy
 * what has to live longer.
 */
const char *xcopy_last_error(void);

/*
 * Fills options with their defaults: a pool of 8 threads, silence, malloc, a
 * memory budget of 128 MiB, all methods, 180 s before a failed method is tried
 * again.
 *
 * @param options Receives the defaults; `options->size` becomes `size`.
 * @param size sizeof(struct xcopy_context_options) as the caller was compiled.
 * @return 0, or -EINVAL.
 */
int xcopy_context_options_init(struct xcopy_context_options *options, size_t size);

/*
 * Creates a context. No thread is started and no plugin is loaded yet.
 *
 * @param options NULL for the defaults. Copied. Functions and their arguments
 * must stay valid while the context lives.
 * @param context Receives the context; the caller frees it.
 * @return 0, or -errno: -EINVAL (options), -E2BIG (options of a newer version
 * that are not 0), -ENOMEM, -ENOSYS (Linux before 4.14).
 */
int xcopy_context_create(const struct xcopy_context_options *options,
                         struct xcopy_context **context);

/*
 * Frees a context: its devices are closed, its tokens wiped, its threads end.
 * In a forked child it only leaks. Waits up to 5 s for what its threads still do.
 * One that then hangs in a plugin or in the kernel is left behind, with the
 * plugins and the memory that it may use; the same holds for what backends kept
 * of a queue that was destroyed by force. In no case are the functions in
 * xcopy_context_options called afterwards.
 *
 * @param context May be NULL. Not to be used afterwards, unless refused.
 * @return 0, or -EBUSY while a queue of it exists; -ECHILD in a forked child.
 */
int xcopy_context_free(struct xcopy_context *context);

/*
 * Loads one plugin. The file must belong to root or the caller and must not be
 * writable by others. Plugins stay loaded until the process ends.
 *
 * @param context The context.
 * @param name_or_path A name ("scsi"), looked for as libxcopy_NAME.so in the
 * directories of XCOPY_PLUGIN_DIR (ignored in a set-uid program) and then in
 * the installed directory; or a path, if it contains a '/'.
 * @return 0, or -errno: -ENOENT, -EACCES (owner or mode), -EEXIST (a plugin of
 * that name is registered), -ENOEXEC (no plugin, or another major version),
 * -ELIBACC (the loader refuses it), -EINVAL (no name of a plugin, or a table
 * that breaks the contract), or what its start function answers.
 */
int xcopy_plugin_load(struct xcopy_context *context, const char *name_or_path);

/*
 * Loads every plugin of a directory. A file that is refused is logged and
 * passed over; so is a name that is registered already.
 *
 * @param context The context.
 * @param directory NULL for the directories that xcopy_plugin_load searches.
 * @return The number loaded, or -errno.
 */
int xcopy_plugin_load_all(struct xcopy_context *context, const char *directory);

/*
 * Registers a plugin that is linked into the program.
 *
 * @param context The context.
 * @param init The plugin's init function.
 * @return 0, or -errno as for xcopy_plugin_load.
 */
int xcopy_plugin_register(struct xcopy_context *context, xcopy_plugin_init_fn init);

/*
 * Number of registered plugins.
 *
 * @param context The context.
 * @return The number, or -errno.
 */
int xcopy_plugin_count(const struct xcopy_context *context);

/*
 * Describes a registered plugin.
 *
 * @param context The context.
 * @param index 0 to xcopy_plugin_count - 1.
 * @param info Receives the description.
 * @param size sizeof(struct xcopy_plugin_info) as the caller was compiled.
 * @return 0, or -errno: -ENOENT (index).
 */
int xcopy_plugin_info(const struct xcopy_context *context,
                      uint32_t index,
                      struct xcopy_plugin_info *info,
                      size_t size);

/*
 * Opens a device: open and fstat, no probe. A block device opened for writing
 * is claimed (O_EXCL) by the first handle of the process, and refused if it is
 * mounted or claimed by somebody else; so are the loop devices that are made of a
 * file that is opened for writing, and the file with them.
 *
 * @param context The context.
 * @param name A path; or "plugin:spec", if a registered plugin of that name
 * opens devices of its own. Begin a path with "./" or "/" to be sure.
 * @param flags XCOPY_OPEN_ flags; READ for a source, WRITE for a destination.
 * @param device Receives the handle. The caller closes it.
 * @return 0, or -errno: -EINVAL, -ENOENT, -EACCES, -EPERM, -EROFS, -EBUSY
 * (mounted or claimed), -EMFILE, or what the plugin says.
 */
int xcopy_device_open(struct xcopy_context *context,
                      const char *name,
                      uint32_t flags,
                      uint32_t *device);

/*
 * Borrows an open file descriptor: it is duplicated, never reopened by path,
 * and stays the caller's.
 *
 * @param context The context.
 * @param fd Open in the modes that `flags` ask for.
 * @param flags XCOPY_OPEN_ flags.
 * @param device Receives the handle.
 * @return 0, or -errno as for xcopy_device_open; -EBADF.
 */
int xcopy_device_open_fd(struct xcopy_context *context, int fd, uint32_t flags, uint32_t *device);

/*
 * Hands a plugin the caller's own handle of a device that the kernel does not
 * know: a namespace, a connection, a volume. What it is, and who owns it
 * afterwards, is between the caller and the plugin.
 *
 * @param context The context.
 * @param plugin Name of a registered plugin.
 * @param native The handle; must stay valid until the device is released.
 * @param flags XCOPY_OPEN_ flags.
 * @param device Receives the handle.
 * @return 0, or -errno: -ENOENT (plugin), -ENOTSUP, or what the plugin says.
 */
int xcopy_device_open_native(struct xcopy_context *context,
                             const char *plugin,
                             void *native,
                             uint32_t flags,
                             uint32_t *device);

/*
 * Closes a device. The handle is dead at once (-EBADF everywhere); requests in
 * flight finish, and then the fd or native handle is released.
 *
 * @param context The context.
 * @param device The handle.
 * @return 0 released, 1 it will be when the last request in flight has ended
 * (ask xcopy_device_is_closed), or -EBADF.
 */
int xcopy_device_close(struct xcopy_context *context, uint32_t device);

/*
 * Whether what was behind a closed handle has been released.
 *
 * @param context The context.
 * @param device A handle that was once given out.
 * @return 1 released, 0 not closed or still in use, -EBADF never a handle.
 */
int xcopy_device_is_closed(const struct xcopy_context *context, uint32_t device);

/*
 * Describes a device.
 *
 * @param context The context.
 * @param device The handle.
 * @param info Receives the description.
 * @param size sizeof(struct xcopy_device_info) as the caller was compiled.
 * @return 0, or -errno: -EBADF.
 */
int xcopy_device_info(const struct xcopy_context *context,
                      uint32_t device,
                      struct xcopy_device_info *info,
                      size_t size);

/*
 * Says what plugins found out of a device, for a person: lines of
 * "plugin: key: value", of which a key may come more than once. Asks the plugins
 * and opens the device for them if need be, which may block; silent on plugins
 * that open devices on a queue.
 *
 * @param context The context.
 * @param device The handle.
 * @param text Receives the text, NUL-terminated and cut if it is longer; may be
 * NULL if `size` is 0.
 * @param size Bytes at `text`.
 * @return Bytes of the whole text without its NUL, or -errno: -EBADF.
 */
int xcopy_device_describe(struct xcopy_context *context, uint32_t device, char *text, size_t size);

/*
 * What happened to a device since the last call.
 *
 * @param context The context.
 * @param device The handle.
 * @param events Receives XCOPY_EVENT_ flags and resets them.
 * @return 0, or -errno: -EBADF.
 */
int xcopy_device_events(struct xcopy_context *context, uint32_t device, uint32_t *events);

/*
 * Forgets what is known of a device: verdicts, limits, methods that failed; and
 * looks at its size again. May block.
 *
 * @param context The context.
 * @param device The handle.
 * @return 0, or -errno: -EBADF.
 */
int xcopy_device_invalidate(struct xcopy_context *context, uint32_t device);

/*
 * Which methods can copy between two devices, best first, with their limits or
 * the reason why not. Synchronous; asks the plugins the first time, which may
 * block, and then answers from a cache. What a plugin says that opens devices
 * on a queue is known once XCOPY_OP_PREPARE has completed there.
 *
 * @param context The context.
 * @param src Source.
 * @param dst Destination.
 * @param methods Receives up to `n` verdicts; may be NULL if `n` is 0.
 * @param stride sizeof(struct xcopy_method_info) as the caller was compiled.
 * @param n Places at `methods`.
 * @return The number of methods known, which may be more than `n`, or -errno:
 * -EINVAL for a stride smaller than the struct.
 */
int xcopy_pair_query(struct xcopy_context *context,
                     uint32_t src,
                     uint32_t dst,
                     struct xcopy_method_info *methods,
                     size_t stride,
                     uint32_t n);

/*
 * Makes an empty token. XCOPY_OP_TOKEN_CREATE fills it, after which
 * XCOPY_OP_TOKEN_WRITE writes from it. A token is a bearer secret: whoever has
 * it can read the data.
 *
 * @param context The context.
 * @param token Receives the handle. The caller frees it.
 * @return 0, or -errno: -EMFILE.
 */
int xcopy_token_create(struct xcopy_context *context, uint32_t *token);

/*
 * Forgets a token and overwrites it. The device may keep it until it expires;
 * XCOPY_OP_TOKEN_RELEASE tells it not to.
 *
 * @param context The context.
 * @param token The handle.
 * @return 0, or -errno: -EBADF, -EBUSY while a request uses it.
 */
int xcopy_token_free(struct xcopy_context *context, uint32_t token);

/*
 * Describes a token, without its secret.
 *
 * @param context The context.
 * @param token The handle.
 * @param info Receives the description.
 * @param size sizeof(struct xcopy_token_info) as the caller was compiled.
 * @return 0, or -errno: -EBADF.
 */
int xcopy_token_info(const struct xcopy_context *context,
                     uint32_t token,
                     struct xcopy_token_info *info,
                     size_t size);

/*
 * Writes a filled token into the caller's buffer, for another process or host.
 * The buffer is then a secret of the caller's. A checksum finds damage, not
 * malice.
 *
 * @param context The context.
 * @param token The handle.
 * @param buffer Receives the serialised token.
 * @param size Bytes at `buffer`.
 * @param used Receives the bytes written, or needed.
 * @return 0, or -errno: -EBADF, -EINVAL (empty token), -ENOBUFS (`*used` says
 * how many bytes it takes).
 */
int xcopy_token_export(const struct xcopy_context *context,
                       uint32_t token,
                       void *buffer,
                       size_t size,
                       size_t *used);

/*
 * Makes a token from what xcopy_token_export wrote.
 *
 * @param context The context.
 * @param buffer The serialised token.
 * @param size Its length in bytes.
 * @param token Receives the handle.
 * @return 0, or -errno: -EINVAL; the text says whether it is foreign, cut off,
 * damaged, or of another version.
 */
int xcopy_token_import(struct xcopy_context *context,
                       const void *buffer,
                       size_t size,
                       uint32_t *token);

/*
 * Fills options with their defaults: 256 requests, as many commands, size and
 * depth left to the adaptive policy.
 *
 * @param options Receives the defaults; `options->size` becomes `size`.
 * @param size sizeof(struct xcopy_queue_options) as the caller was compiled.
 * @return 0, or -EINVAL.
 */
int xcopy_queue_options_init(struct xcopy_queue_options *options, size_t size);

/*
 * Creates a queue. Bounded: nothing is probed and no thread is started.
 *
 * @param context The context; must outlive the queue.
 * @param options NULL for the defaults. Copied.
 * @param queue Receives the queue. The caller destroys it.
 * @return 0, or -errno: -EINVAL, -ENOMEM, -EMFILE.
 */
int xcopy_queue_create(struct xcopy_context *context,
                       const struct xcopy_queue_options *options,
                       struct xcopy_queue **queue);

/*
 * Destroys a queue.
 *
 * @param queue May be NULL. Not to be used afterwards, unless refused.
 * @param flags XCOPY_DESTROY_FORCE, or 0. By force, completions that were not
 * taken are lost, commands in flight are asked to end, and what a backend
 * may still write to is left to it: the caller must not reuse buffers or
 * devices of such requests.
 * @return 0, or -errno: -EBUSY while a request is in flight or not taken;
 * -ECHILD in a forked child, where it only leaks.
 */
int xcopy_queue_destroy(struct xcopy_queue *queue, uint32_t flags);

/*
 * The queue's file descriptor, the same for its life: readable, while armed,
 * when poll has something to do. Never to be read or closed by the caller. A
 * wake-up may find nothing. Any thread.
 *
 * @param queue The queue.
 * @return The fd, or -errno.
 */
int xcopy_queue_fd(const struct xcopy_queue *queue);

/*
 * Makes the queue's fd readable whenever something is ready, until
 * xcopy_queue_disarm. Idempotent. Not armed, a queue costs no system call.
 *
 * @param queue The queue.
 * @return 1 if something is ready already (do not sleep), 0 if not, or -errno.
 */
int xcopy_queue_arm(struct xcopy_queue *queue);

/*
 * Ends what xcopy_queue_arm began.
 *
 * @param queue The queue.
 * @return 0, or -errno.
 */
int xcopy_queue_disarm(struct xcopy_queue *queue);

/*
 * Advances polled backends and counts the completions that xcopy_poll would
 * take without waiting; takes none.
 *
 * @param queue The queue.
 * @return The number, or -errno.
 */
int xcopy_queue_ready(struct xcopy_queue *queue);

/*
 * Requests accepted and not yet taken by xcopy_poll. Any thread.
 *
 * @param queue The queue.
 * @return The number, or -errno.
 */
int xcopy_queue_in_flight(const struct xcopy_queue *queue);

/*
 * Closes the door: from now on xcopy_submit answers -ESHUTDOWN. What is in
 * flight goes on and is taken by xcopy_poll. Never blocks. Any thread.
 *
 * @param queue The queue.
 * @return Requests in flight or not yet taken, or -errno.
 */
int xcopy_queue_drain(struct xcopy_queue *queue);

/*
 * Opens the door that xcopy_queue_drain closed. Any thread.
 *
 * @param queue The queue.
 * @return 0, or -errno.
 */
int xcopy_queue_resume(struct xcopy_queue *queue);

/*
 * Counters of a queue. Any thread.
 *
 * @param queue The queue.
 * @param stats Receives them.
 * @param size sizeof(struct xcopy_queue_stats) as the caller was compiled.
 * @return 0, or -errno.
 */
int xcopy_queue_stats(const struct xcopy_queue *queue,
                      struct xcopy_queue_stats *stats,
                      size_t size);

/*
 * Submits requests, in order, up to the first that is refused. Each accepted
 * one ends in exactly one completion; a refused one was never started. Never
 * blocks.
 *
 * A request is copied; its ext, ranges and report stay the caller's memory,
 * unchanged, until its completion was taken. Requests have no order among each
 * other, nor have the ranges of one, and nothing is atomic.
 *
 * @param queue The queue.
 * @param requests `n` requests, aligned to 8 bytes.
 * @param stride Bytes from one to the next: a multiple of 8, at least 64.
 * @param n Number of requests.
 * @return How many were accepted. If fewer than `n`, xcopy_last_error says why
 * the next one was not, and submitting it again answers its -errno. If the
 * first is refused, -errno: -EAGAIN (no place is free; only while requests
 * are in flight: poll), -EBADF (handle), -EINVAL (what the text says),
 * -E2BIG (fields of a newer version), -EACCES or -EROFS (opened without READ
 * or WRITE), -ENODEV (removed), -ENOTCONN (not prepared, and there is no
 * pool), -ESHUTDOWN (drained), -EBUSY (concurrent call), -ECHILD (forked).
 */
int xcopy_submit(struct xcopy_queue *queue,
                 const struct xcopy_request *requests,
                 size_t stride,
                 uint32_t n);

/*
 * Takes completions, waiting for them if asked to.
 *
 * @param queue The queue.
 * @param completions Receives up to `max`.
 * @param stride Bytes from one to the next, at least 64; what this version does
 * not know is zeroed.
 * @param min Wait until so many are taken; 0 never waits. More than `max` counts
 * as `max`. A wait ends early when nothing is in flight.
 * @param max Take at most so many.
 * @param timeout_ns Nanoseconds to wait at most; negative is for ever.
 * @return How many were taken, 0 after the timeout; or -errno: -EINTR (a signal
 * came and there was nothing), -EINVAL, -EBUSY, -ECHILD.
 */
int xcopy_poll(struct xcopy_queue *queue,
               struct xcopy_completion *completions,
               size_t stride,
               uint32_t min,
               uint32_t max,
               int64_t timeout_ns);

/*
 * Asks requests to end early. What was not dispatched is dropped, commands in
 * flight are asked to end; each request still ends in its completion, once
 * nothing of it can write any more. Any thread.
 *
 * @param queue The queue.
 * @param user_data Of the requests.
 * @return How many were asked, or -errno: -ENOENT.
 */
int xcopy_cancel(struct xcopy_queue *queue, uint64_t user_data);

/*
 * Asks all requests of a queue that touch a device to end early. Any thread.
 *
 * @param queue The queue.
 * @param device The handle.
 * @return How many were asked, or -errno: -ENOENT.
 */
int xcopy_cancel_device(struct xcopy_queue *queue, uint32_t device);

/*
 * How far a request in flight is. Any thread.
 *
 * @param queue The queue.
 * @param user_data Of the request; the first that fits, if there are several.
 * @param progress Receives the answer.
 * @param size sizeof(struct xcopy_progress) as the caller was compiled.
 * @return 0, or -errno: -ENOENT.
 */
int xcopy_progress(const struct xcopy_queue *queue,
                   uint64_t user_data,
                   struct xcopy_progress *progress,
                   size_t size);

/* Version of the library in use: major << 16 | minor << 8 | patch. */
uint32_t xcopy_version(void);

/*
 * A reason in words. Pure.
 *
 * @param reason One of XCOPY_REASON_.
 * @return Static text, never NULL.
 */
const char *xcopy_reason_string(uint16_t reason);

/*
 * Name of a method.
 *
 * @param context A context, for methods that plugins brought; NULL knows the
 * fixed ones only.
 * @param method Number of the method.
 * @return NUL-terminated name, valid while the context lives; NULL if unknown.
 */
const char *xcopy_method_name(const struct xcopy_context *context, uint16_t method);

/*
 * Turns names of methods into a mask.
 *
 * @param context A context, or NULL for the fixed methods only.
 * @param names Names separated by commas.
 * @param mask Receives one bit for each.
 * @return 0, or -EINVAL; the text names what is unknown.
 */
int xcopy_method_mask(const struct xcopy_context *context, const char *names, uint32_t *mask);

/*
 * A detail word in words. Pure.
 *
 * @param detail From a completion or a report.
 * @param buffer Receives NUL-terminated text, cut to `size` bytes; may be NULL
 * if `size` is 0.
 * @param size Bytes at `buffer`.
 * @return Bytes that the whole text has, without the NUL.
 */
int xcopy_detail_string(uint64_t detail, char *buffer, size_t size);

/*
 * Size of a public struct as this library was compiled, so that a binding in
 * another language can check its own.
 *
 * @param name The struct's name, "xcopy_request" for example.
 * @return sizeof in bytes; 0 if there is no such struct.
 */
size_t xcopy_struct_size(const char *name);

#ifdef __cplusplus
}
#endif

#endif /* XCOPY_H */
