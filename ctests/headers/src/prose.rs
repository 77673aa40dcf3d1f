//! What stands around the generated items: the headers' own words, the map.

/// Source files of the C surface in the order in which their functions stand;
/// others follow by name.
pub const NOUNS: &[&str] = &[
    "mod", "error", "context", "plugin", "device", "token", "queue", "request", "text",
];

const LICENCE: &str = "/* SPDX-License-Identifier: MIT OR Apache-2.0 */\n";

/// xcopy_types.h
pub fn types(items: &str) -> String {
    format!(
        "{LICENCE}\
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
extern \"C\" {{
#endif

/* Described in xcopy_plugin.h. */
struct xcopy_host;
struct xcopy_plugin;

{items}\
#ifdef __cplusplus
}}
#endif

#endif /* XCOPY_TYPES_H */
"
    )
}

/// xcopy_plugin.h
pub fn plugin(items: &str) -> String {
    format!(
        "{LICENCE}\
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

#include \"xcopy_types.h\"

/*
 * Whether the table that `table` points to, with the struct_size that its owner
 * was compiled with, reaches as far as `field`. Test whatever is younger than
 * the oldest core or plugin that you want to work with.
 */
#define XCOPY_HAS(table, field) \\
    ((size_t)((const char *)(&(table)->field + 1) - (const char *)(table)) <= (table)->struct_size)

/* Put before the definition of xcopy_plugin_init_v0. */
#if defined(__GNUC__)
#define XCOPY_PLUGIN_EXPORT __attribute__((visibility(\"default\")))
#else
#define XCOPY_PLUGIN_EXPORT
#endif

#ifdef __cplusplus
extern \"C\" {{
#endif

{items}\
/*
 * The entry point of a shared object; see xcopy_plugin_init_fn. A plugin that
 * is linked statically has a function of this type under a name of its own.
 */
XCOPY_PLUGIN_EXPORT const struct xcopy_plugin *xcopy_plugin_init_v0(const struct xcopy_host *host);

#ifdef __cplusplus
}}
#endif

#endif /* XCOPY_PLUGIN_H */
"
    )
}

/// xcopy_scsi.h
pub fn scsi(items: &str) -> String {
    format!(
        "{LICENCE}\
/*
 * xcopy_scsi.h - a program's own way to a SCSI logical unit, as a device of the
 * plugins `scsi` and `odx`: an iSCSI initiator in user space, a target's own
 * back end, an emulator.
 *
 * Fill a struct xcopy_scsi_transport and hand it to xcopy_device_open_native
 * with the plugin's name. The plugin asks the unit who it is (INQUIRY, READ
 * CAPACITY) and then sends it copies, reads and writes.
 *
 * Threads: the plugin calls `execute` from any thread, up to max_concurrent at
 * once, and expects the call to return when the command has ended.
 *
 * Generated from plugins/scsi-protocol/src/native.rs by `cargo run -p xcopy-headers`.
 */
#ifndef XCOPY_SCSI_H
#define XCOPY_SCSI_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern \"C\" {{
#endif

{items}\
#ifdef __cplusplus
}}
#endif

#endif /* XCOPY_SCSI_H */
"
    )
}

/// xcopy.h
pub fn surface(items: &str) -> String {
    format!(
        "{LICENCE}\
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

#include \"xcopy_types.h\"

#ifdef __cplusplus
extern \"C\" {{
#endif

{items}\
#ifdef __cplusplus
}}
#endif

#endif /* XCOPY_H */
"
    )
}
