/* An AFFINE plugin as an SPDK bdev module would be: its devices are native
 * handles, every call has to come from the reactor, and it does its work in
 * poll. The "disks" behind it are files. */
#ifndef BDEV_PLUGIN_H
#define BDEV_PLUGIN_H

#include "check.h"
#include <pthread.h>
#include <unistd.h>
#include <xcopy_plugin.h>

enum { BDEV_CHANNEL = 5, BDEV_BLOCK = 512, BDEV_MAX_COPY = 65536 };

/* What the program opens with xcopy_device_open_native. */
struct bdev {
    int fd;
    uint64_t size;
    uint64_t identity;
    int can_copy;      /* the pair copies by itself if both can */
    int hold;          /* keep commands */
    int removed;       /* end them with -ENODEV */
    int opens, closes; /* how often the plugin was told */
    void *host_device;
};

static struct {
    const struct xcopy_host *host;
    struct xcopy_host_queue *queue;
    pthread_t reactor;
    struct xcopy_cmd *ring[2 * BDEV_CHANNEL];
    uint32_t n;
    int has_queue;
    int wrong_thread, commands, refusals, highest;
} bdevs;

/* SPDK asserts its thread; here a breach is counted and checked at the end. */
static int bdev_thread(void)
{
    if (!pthread_equal(pthread_self(), bdevs.reactor)) {
        __atomic_fetch_add(&bdevs.wrong_thread, 1, __ATOMIC_RELAXED);
        return -EPERM;
    }
    return 0;
}

static int bdev_queue_create(void *state, struct xcopy_host_queue *host_queue,
                             const struct xcopy_plugin_queue_options *options, void **queue)
{
    (void)state;
    (void)options;
    if (bdev_thread() != 0 || bdevs.has_queue)
        return -EPERM;
    bdevs.queue = host_queue;
    bdevs.has_queue = 1;
    *queue = &bdevs;
    return 0;
}

static void bdev_queue_destroy(void *queue)
{
    (void)queue;
    bdev_thread();
    CHECK_EQ(bdevs.n, 0);
    bdevs.has_queue = 0;
}

/* Holds a few commands and refuses more, as a full channel does. */
static int bdev_submit(void *queue, struct xcopy_cmd *const *commands, uint32_t n)
{
    uint32_t taken = 0;
    (void)queue;
    if (bdev_thread() != 0)
        return -EPERM;
    while (taken < n && bdevs.n < BDEV_CHANNEL)
        bdevs.ring[bdevs.n++] = commands[taken++];
    if (taken < n)
        bdevs.refusals++;
    if ((int)bdevs.n > bdevs.highest)
        bdevs.highest = (int)bdevs.n;
    return taken == 0 ? -EAGAIN : (int)taken;
}

static int bdev_whole(ssize_t done, uint64_t want)
{
    if (done < 0)
        return -errno;
    return (uint64_t)done == want ? 0 : -EIO;
}

static int bdev_copy(struct bdev *from, struct bdev *to, const struct xcopy_range *range)
{
    static unsigned char buffer[BDEV_MAX_COPY];
    if (range->length > sizeof buffer)
        return -EINVAL;
    int status = bdev_whole(pread(from->fd, buffer, range->length, (off_t)range->src_offset),
                            range->length);
    if (status == 0)
        status = bdev_whole(pwrite(to->fd, buffer, range->length, (off_t)range->dst_offset),
                            range->length);
    return status;
}

static int bdev_zero(struct bdev *to, const struct xcopy_range *range)
{
    static const unsigned char zeroes[BDEV_BLOCK];
    for (uint64_t at = 0; at < range->length; at += sizeof zeroes) {
        ssize_t n = pwrite(to->fd, zeroes, sizeof zeroes, (off_t)(range->dst_offset + at));
        if (n != (ssize_t)sizeof zeroes)
            return n < 0 ? -errno : -EIO;
    }
    return 0;
}

static int bdev_open(struct xcopy_open_args *args)
{
    struct bdev *bdev = args->desc->native;
    if (bdev == NULL || args->desc->kind != XCOPY_KIND_NATIVE)
        return -EINVAL;
    args->device = bdev;
    args->props.block_size = BDEV_BLOCK;
    args->props.size_bytes = bdev->size;
    args->props.max_io_bytes = BDEV_MAX_COPY;
    args->props.identity = bdev->identity;
    bdev->host_device = args->desc->host_device;
    bdev->opens++;
    return 0;
}

static int bdev_probe(const struct xcopy_cmd *cmd)
{
    struct xcopy_probe_args *args = cmd->arg;
    const struct bdev *src = cmd->src, *dst = cmd->dst;
    for (uint32_t i = 0; i < args->n; i++) {
        struct xcopy_verdict *verdict =
            (struct xcopy_verdict *)(void *)((char *)args->verdicts + i * args->stride);
        verdict->usable = src != NULL && dst != NULL && src->can_copy && dst->can_copy;
        verdict->reason = verdict->usable ? XCOPY_REASON_NONE : XCOPY_REASON_NOT_SUPPORTED;
        verdict->limits.max_bytes = BDEV_MAX_COPY;
        verdict->limits.preferred_bytes = BDEV_MAX_COPY;
        verdict->limits.src_granularity = BDEV_BLOCK;
        verdict->limits.dst_granularity = BDEV_BLOCK;
        verdict->limits.length_granularity = BDEV_BLOCK;
        if (!verdict->usable)
            strcpy(verdict->text, "one of the disks cannot copy");
    }
    return 0;
}

static int bdev_execute(struct xcopy_cmd *cmd)
{
    struct bdev *src = cmd->src, *dst = cmd->dst;
    bdevs.commands++;
    switch (cmd->op) {
    case XCOPY_CMD_OPEN:
        return bdev_open(cmd->arg);
    case XCOPY_CMD_CLOSE:
        src->closes++;
        return 0;
    case XCOPY_CMD_PROBE:
        return bdev_probe(cmd);
    case XCOPY_CMD_READ:
        return bdev_whole(pread(src->fd, cmd->buffer, cmd->bytes,
                                (off_t)cmd->ranges[0].src_offset), cmd->bytes);
    case XCOPY_CMD_WRITE:
        return bdev_whole(pwrite(dst->fd, cmd->buffer, cmd->bytes,
                                 (off_t)cmd->ranges[0].dst_offset), cmd->bytes);
    case XCOPY_CMD_ZERO:
        return bdev_zero(dst, &cmd->ranges[0]);
    case XCOPY_CMD_FLUSH:
        return fdatasync(dst->fd) == 0 ? 0 : -errno;
    case XCOPY_CMD_COPY:
        return bdev_copy(src, dst, &cmd->ranges[0]);
    default:
        return -EOPNOTSUPP;
    }
}

static int bdev_data(const struct xcopy_cmd *cmd)
{
    return cmd->op != XCOPY_CMD_OPEN && cmd->op != XCOPY_CMD_CLOSE && cmd->op != XCOPY_CMD_PROBE;
}

static int bdev_poll(void *queue, uint32_t max)
{
    /* A completion may bring the next command at once: work on a copy. */
    struct xcopy_cmd *work[2 * BDEV_CHANNEL];
    uint32_t n = bdevs.n;
    (void)queue;
    (void)max;
    if (bdev_thread() != 0)
        return -EPERM;
    memcpy(work, bdevs.ring, n * sizeof work[0]);
    bdevs.n = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct xcopy_cmd *cmd = work[i];
        const struct bdev *src = cmd->src, *dst = cmd->dst;
        int hold = (src && src->hold) || (dst && dst->hold);
        int removed = (src && src->removed) || (dst && dst->removed);
        if (hold && bdev_data(cmd)) {
            bdevs.ring[bdevs.n++] = cmd;
            continue;
        }
        struct xcopy_result result;
        memset(&result, 0, sizeof result);
        result.cookie = cmd->cookie;
        result.status = removed && bdev_data(cmd) ? -ENODEV : bdev_execute(cmd);
        result.bytes = result.status == 0 ? cmd->bytes : 0;
        if (result.status == -ENODEV)
            result.reason = XCOPY_REASON_REMOVED;
        bdevs.host->complete_local(bdevs.queue, &result, sizeof result, 1);
    }
    return 0;
}

static int bdev_arm(void *queue, uint32_t on)
{
    (void)queue;
    (void)on;
    bdev_thread();
    return bdevs.n > 0;
}

static const struct xcopy_plugin *bdev_init(const struct xcopy_host *host)
{
    static const struct xcopy_plugin_method methods[] = {
        {.name = "bdev_copy", .flags = XCOPY_METHOD_OFFLOADS},
    };
    static const struct xcopy_plugin plugin = {
        .struct_size = sizeof plugin,
        .abi_version = XCOPY_ABI_VERSION,
        .name = "bdev",
        .version = "1",
        .description = "disks that belong to a reactor",
        .model = XCOPY_MODEL_AFFINE,
        .flags = XCOPY_PLUGIN_NATIVE,
        .commands = XCOPY_CAN_COPY | XCOPY_CAN_READ | XCOPY_CAN_WRITE | XCOPY_CAN_ZERO |
                    XCOPY_CAN_FLUSH,
        .max_ranges = 1,
        .nmethods = 1,
        .methods = methods,
        .method_stride = sizeof methods[0],
        .queue_create = bdev_queue_create,
        .queue_destroy = bdev_queue_destroy,
        .submit = bdev_submit,
        .poll = bdev_poll,
        .arm = bdev_arm,
    };
    bdevs.host = host;
    return &plugin;
}

#endif
