/* A SCSI target in memory that copies and makes tokens: test equipment, from
 * ctests/copy-manager/library. Its units are opened with xcopy_device_open_native
 * by the plugins scsi and odx. */
#ifndef COPY_MANAGER_H
#define COPY_MANAGER_H

#include <stddef.h>
#include <stdint.h>

struct copy_manager;

/* Of a personality: "ctl", "array", "windows", "lio"; NULL if there is none. */
struct copy_manager *copy_manager_new(const char *personality);
/* Adds a disk and answers its unit. */
size_t copy_manager_add_disk(const struct copy_manager *target, uint32_t block_size, uint64_t bytes);
/* A native handle for a unit, valid until copy_manager_free. */
void *copy_manager_connect(const struct copy_manager *target, const char *initiator, size_t unit);
/* The medium, past every command. */
void copy_manager_peek(const struct copy_manager *target, size_t unit, uint64_t at, void *into,
                       size_t bytes);
void copy_manager_poke(const struct copy_manager *target, size_t unit, uint64_t at,
                       const void *from, size_t bytes);
/* Tokens that live. */
size_t copy_manager_live_tokens(const struct copy_manager *target);
/* Ends all tokens by a qualifier of 23h: 4 unknown, 6 revoked, 7 expired, 8 cancelled, 9 deleted. */
int copy_manager_end_tokens(const struct copy_manager *target, int fate);
/* Microseconds that every command takes from now on. */
void copy_manager_service(const struct copy_manager *target, uint64_t microseconds);
/* Nanoseconds of processor that its commands took so far. */
uint64_t copy_manager_cpu_ns(const struct copy_manager *target);
void copy_manager_free(struct copy_manager *target);

#endif
