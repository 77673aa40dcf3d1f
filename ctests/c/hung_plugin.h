/* A POLLED plugin that keeps its commands until it is told to end them. */
#ifndef HUNG_PLUGIN_H
#define HUNG_PLUGIN_H

#include "check.h"
#include <sys/eventfd.h>
#include <unistd.h>
#include <xcopy_plugin.h>

enum { HUNG_MAX = 64 };

static struct {
    const struct xcopy_host *host;
    struct xcopy_host_queue *queue;
    uint64_t cookies[HUNG_MAX];
    uint64_t bytes[HUNG_MAX];
    uint32_t n;
    int fd;
    int release;  /* end everything with success at the next poll */
    int obey;     /* end a command that is cancelled */
    int cancels;
} hung = {.fd = -1};

static int hung_open(void *state, const struct xcopy_device_desc *desc, void **device,
                     struct xcopy_device_props *props)
{
    (void)state;
    (void)desc;
    *device = &hung;
    props->block_size = 512;
    props->size_bytes = UINT64_C(1) << 30;
    return 0;
}

static void hung_close(void *state, void *device)
{
    (void)state;
    (void)device;
}

static int hung_probe(void *state, void *src, void *dst, struct xcopy_verdict *verdicts,
                      size_t stride, uint32_t n)
{
    (void)state;
    (void)src;
    (void)dst;
    (void)stride;
    for (uint32_t i = 0; i < n; i++) {
        verdicts[i].usable = 1;
        verdicts[i].limits.max_bytes = 1 << 20;
    }
    return 0;
}

static int hung_queue_create(void *state, struct xcopy_host_queue *host_queue,
                             const struct xcopy_plugin_queue_options *options, void **queue)
{
    (void)state;
    (void)options;
    hung.queue = host_queue;
    hung.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    *queue = &hung;
    return hung.fd < 0 ? -errno : 0;
}

static void hung_queue_destroy(void *queue)
{
    (void)queue;
    close(hung.fd);
    hung.fd = -1;
}

static int hung_submit(void *queue, struct xcopy_cmd *const *commands, uint32_t n)
{
    uint32_t taken = 0;
    (void)queue;
    while (taken < n && hung.n < HUNG_MAX) {
        hung.cookies[hung.n] = commands[taken]->cookie;
        hung.bytes[hung.n++] = commands[taken++]->bytes;
    }
    return (int)taken;
}

static void hung_end(uint64_t cookie, int status, uint64_t bytes)
{
    struct xcopy_result result;
    memset(&result, 0, sizeof result);
    result.cookie = cookie;
    result.status = status;
    result.bytes = bytes;
    hung.host->complete_local(hung.queue, &result, sizeof result, 1);
}

static int hung_poll(void *queue, uint32_t max)
{
    uint64_t value;
    (void)queue;
    (void)max;
    if (!hung.release)
        return 0;
    if (read(hung.fd, &value, sizeof value) < 0 && errno != EAGAIN)
        return -errno;
    while (hung.n > 0) {
        hung.n--;
        hung_end(hung.cookies[hung.n], hung.release < 0 ? hung.release : 0,
                 hung.release < 0 ? 0 : hung.bytes[hung.n]);
    }
    hung.release = 0;
    return 0;
}

static int hung_queue_fd(void *queue)
{
    (void)queue;
    return hung.fd;
}

static int hung_arm(void *queue, uint32_t on)
{
    (void)queue;
    (void)on;
    return hung.release != 0;
}

static int hung_cancel(void *queue, struct xcopy_cmd *command)
{
    uint64_t one = 1;
    (void)queue;
    (void)command;
    hung.cancels++;
    if (!hung.obey)
        return 0;
    hung.release = -ECANCELED;
    return write(hung.fd, &one, sizeof one) == sizeof one ? 0 : -EIO;
}

static const struct xcopy_plugin *hung_init(const struct xcopy_host *host)
{
    static const struct xcopy_plugin_method methods[] = {
        {.name = "hung", .flags = XCOPY_METHOD_OFFLOADS},
    };
    static const struct xcopy_plugin plugin = {
        .struct_size = sizeof plugin,
        .abi_version = XCOPY_ABI_VERSION,
        .name = "hung",
        .version = "1",
        .description = "keeps its commands until it is told to end them",
        .model = XCOPY_MODEL_POLLED,
        .flags = XCOPY_PLUGIN_NATIVE,
        .commands = XCOPY_CAN_COPY,
        .max_ranges = 1,
        .nmethods = 1,
        .methods = methods,
        .method_stride = sizeof methods[0],
        .open = hung_open,
        .close = hung_close,
        .probe = hung_probe,
        .queue_create = hung_queue_create,
        .queue_destroy = hung_queue_destroy,
        .submit = hung_submit,
        .poll = hung_poll,
        .queue_fd = hung_queue_fd,
        .arm = hung_arm,
        .cancel = hung_cancel,
    };
    if (!XCOPY_HAS(host, complete_local))
        return NULL;
    hung.host = host;
    return &plugin;
}

#endif
