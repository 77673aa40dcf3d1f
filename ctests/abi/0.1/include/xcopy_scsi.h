/* SPDX-License-Identifier: MIT OR Apache-2.0 */
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
extern "C" {
#endif

/* Command data: there is none. */
#define XCOPY_SCSI_NO_DATA 0u

/* Command data comes from the logical unit. */
#define XCOPY_SCSI_FROM_UNIT 1u

/* Command data goes to the logical unit. */
#define XCOPY_SCSI_TO_UNIT 2u

/* One SCSI command and its end. The library's memory, valid during the call. */
struct xcopy_scsi_command {
    /* sizeof as the library was compiled. */
    uint32_t size;
    /* One of XCOPY_SCSI_. */
    uint32_t direction;
    /* The command descriptor block. */
    const uint8_t *cdb;
    /* Its bytes: 6, 10, 12 or 16. */
    uint32_t cdb_len;
    /* Milliseconds after which the command should be aborted. */
    uint32_t timeout_ms;
    /* Data to or from the unit; NULL if there is none. */
    void *data;
    /* Its bytes. */
    uint32_t data_len;
    /* Bytes of room at `sense`. */
    uint32_t sense_room;
    /* Room for sense data. */
    uint8_t *sense;
    /* To be filled: bytes of sense data put there. */
    uint32_t sense_len;
    /* To be filled: bytes of data that were not transferred. */
    uint32_t residual;
    /* To be filled: SAM status (0 GOOD, 2 CHECK CONDITION, 8 BUSY and so on). */
    uint32_t status;
    /*
     * To be filled: a host status by Linux's DID_ numbers (3 is a timeout), if
     * the command was sent and its status never came; else 0. It must be able to
     * do nothing more by then: abort it first, or wait, as Linux does before it
     * answers SG_IO. What it still wrote would lie over what is copied since.
     */
    uint32_t host_status;
};

/*
 * A connection to one logical unit: the native device of the plugins `scsi` and
 * `odx`. It and what it points to must stay valid until the device was released.
 */
struct xcopy_scsi_transport {
    /* sizeof of the struct that the caller was compiled with. */
    uint32_t size;
    /* Bytes of data of one command at most; 0 is 1 MiB. */
    uint32_t max_transfer;
    /*
     * Calls of `execute` at once at most: 1 if the connection is for one thread
     * at a time; 0 is no limit.
     */
    uint32_t max_concurrent;
    /* Must be 0. */
    uint32_t reserved;
    /* First argument of `execute`. */
    void *ctx;
    /*
     * Carries a command out, waits for its end and fills its end: 0, or -errno
     * if it was not sent (-ENODEV: the unit is gone). Called from any thread;
     * must not unwind.
     */
    int (*execute)(void *ctx, struct xcopy_scsi_command *command);
    /* What to call it in texts, NUL-terminated; or NULL. */
    const char *name;
};

#ifdef __cplusplus
}
#endif

#endif /* XCOPY_SCSI_H */
