/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A complete plugin: devices "template:BYTES" in memory, the method "template"
 * between two of them. Copy this file, rename, and put your device behind it.
 * BLOCKING is the simplest model: the core's pool calls execute, several
 * commands at once, and each call returns when its command has ended.
 */
#include "xcopy_plugin.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK 512u

struct disk { uint64_t size; unsigned char bytes[]; };

/* `name` is what stood behind "template:". Refuse with a reason in props->text. */
static int disk_open(void *state, const struct xcopy_device_desc *desc, void **device,
                     struct xcopy_device_props *props) {
    char *end;
    uint64_t size = strtoull(desc->name, &end, 10);
    int legal = *end == '\0' && size != 0 && size % BLOCK == 0 && size <= SIZE_MAX / 2;
    struct disk *disk = legal ? calloc(1, sizeof *disk + size) : NULL;

    (void)state;
    if (disk == NULL) {
        strcpy(props->text, "give a size in bytes, a multiple of 512, that memory has room for");
        return legal ? -ENOMEM : -EINVAL;
    }
    props->block_size = BLOCK, props->size_bytes = disk->size = size;
    *device = disk;
    return 0;
}

static void disk_close(void *state, void *device) { (void)state, free(device); }

/* One verdict for each method. The core zeroed it: what is not set is not limited. */
static int disk_probe(void *state, void *src, void *dst, struct xcopy_verdict *verdicts,
                      size_t stride, uint32_t n) {
    (void)state, (void)stride, (void)n;
    verdicts->usable = src != NULL && dst != NULL;
    verdicts->reason = verdicts->usable ? XCOPY_REASON_NONE : XCOPY_REASON_WRONG_DEVICE;
    verdicts->limits = (struct xcopy_limits){.max_ranges = 16, .src_granularity = BLOCK,
                                             .dst_granularity = BLOCK, .length_granularity = BLOCK};
    return 0;
}

/* The place of a range on a disk, or NULL if it is not wholly there. */
static void *at(struct disk *disk, uint64_t start, uint64_t len) {
    return disk && start <= disk->size && len <= disk->size - start ? disk->bytes + start : NULL;
}

/* Success only for what certainly happened: a lost answer is an error. */
static int disk_execute(void *state, struct xcopy_cmd *cmd, struct xcopy_result *result) {
    (void)state;
    *result = (struct xcopy_result){.cookie = cmd->cookie};
    for (uint32_t i = 0; i < cmd->nranges && cmd->op != XCOPY_CMD_FLUSH; i++) {
        struct xcopy_range r = cmd->ranges[i];
        int reads = cmd->op == XCOPY_CMD_COPY || cmd->op == XCOPY_CMD_READ;
        void *from = reads ? at(cmd->src, r.src_offset, r.length) : cmd->buffer;
        void *to = cmd->op == XCOPY_CMD_READ ? cmd->buffer : at(cmd->dst, r.dst_offset, r.length);

        if (to == NULL || (from == NULL && cmd->op != XCOPY_CMD_ZERO))
            return -EINVAL;
        (void)(cmd->op == XCOPY_CMD_ZERO ? memset(to, 0, r.length) : memmove(to, from, r.length));
    }
    result->bytes = cmd->bytes;
    return 0;
}

static const struct xcopy_plugin_method methods[] = {{.name = "template"}};

/* The core gives only commands that are announced here. */
static const struct xcopy_plugin table = {
    .struct_size = sizeof table, .abi_version = XCOPY_ABI_VERSION, .model = XCOPY_MODEL_BLOCKING,
    .name = "template", .version = "0.1", .description = "memory", .flags = XCOPY_PLUGIN_NATIVE,
    .commands = XCOPY_CAN_COPY | XCOPY_CAN_ZERO | XCOPY_CAN_FLUSH | XCOPY_CAN_READ | XCOPY_CAN_WRITE,
    .max_ranges = 16, .nmethods = 1, .methods = methods, .method_stride = sizeof methods[0],
    .open = disk_open, .close = disk_close, .probe = disk_probe, .execute = disk_execute,
};

/* Keep `host` if you log, complete from threads of your own, or report events. */
const struct xcopy_plugin *xcopy_plugin_init_v0(const struct xcopy_host *host) {
    return host != NULL ? &table : NULL;
}
