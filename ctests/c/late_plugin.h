/* A THREADED plugin that ends each command a little later, from a thread of its
 * own, and moves nothing. */
#ifndef LATE_PLUGIN_H
#define LATE_PLUGIN_H

#include "check.h"
#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <xcopy_plugin.h>

enum { LATE_MAX = 256, LATE_US = 900 };

static struct {
    const struct xcopy_host *host;
    struct xcopy_host_queue *queue;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct xcopy_result results[LATE_MAX];
    uint32_t n;
    int stop;
} late = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

static void *late_thread(void *arg)
{
    static struct xcopy_result batch[LATE_MAX];
    const struct timespec pause = {0, LATE_US * 1000};
    (void)arg;
    pthread_mutex_lock(&late.lock);
    for (;;) {
        while (late.n == 0 && !late.stop)
            pthread_cond_wait(&late.wake, &late.lock);
        if (late.n == 0)
            break;
        uint32_t n = late.n;
        memcpy(batch, late.results, n * sizeof batch[0]);
        late.n = 0;
        pthread_mutex_unlock(&late.lock);
        nanosleep(&pause, NULL);
        late.host->complete(late.queue, batch, sizeof batch[0], n);
        pthread_mutex_lock(&late.lock);
    }
    pthread_mutex_unlock(&late.lock);
    return NULL;
}

static int late_open(void *state, const struct xcopy_device_desc *desc, void **device,
                     struct xcopy_device_props *props)
{
    (void)state;
    (void)desc;
    *device = &late;
    props->block_size = 512;
    props->size_bytes = UINT64_C(1) << 30;
    return 0;
}

static void late_close(void *state, void *device)
{
    (void)state;
    (void)device;
}

static int late_probe(void *state, void *src, void *dst, struct xcopy_verdict *verdicts,
                      size_t stride, uint32_t n)
{
    (void)state;
    (void)src;
    (void)dst;
    (void)stride;
    verdicts[0].usable = n > 0;
    return 0;
}

static int late_queue_create(void *state, struct xcopy_host_queue *host_queue,
                             const struct xcopy_plugin_queue_options *options, void **queue)
{
    sigset_t all, old;
    (void)state;
    (void)options;
    late.queue = host_queue;
    late.stop = 0;
    *queue = &late;
    /* The process's signals belong to its own threads. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int error = pthread_create(&late.thread, NULL, late_thread, NULL);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return -error;
}

static void late_queue_destroy(void *queue)
{
    (void)queue;
    pthread_mutex_lock(&late.lock);
    late.stop = 1;
    pthread_cond_signal(&late.wake);
    pthread_mutex_unlock(&late.lock);
    pthread_join(late.thread, NULL);
}

static int late_submit(void *queue, struct xcopy_cmd *const *commands, uint32_t n)
{
    uint32_t taken = 0;
    (void)queue;
    pthread_mutex_lock(&late.lock);
    while (taken < n && late.n < LATE_MAX) {
        struct xcopy_result *result = &late.results[late.n++];
        memset(result, 0, sizeof *result);
        result->cookie = commands[taken]->cookie;
        result->bytes = commands[taken++]->bytes;
    }
    pthread_cond_signal(&late.wake);
    pthread_mutex_unlock(&late.lock);
    return (int)taken;
}

static const struct xcopy_plugin *late_init(const struct xcopy_host *host)
{
    static const struct xcopy_plugin_method methods[] = {
        {.name = "late", .flags = XCOPY_METHOD_OFFLOADS},
    };
    static const struct xcopy_plugin plugin = {
        .struct_size = sizeof plugin,
        .abi_version = XCOPY_ABI_VERSION,
        .name = "late",
        .version = "1",
        .description = "ends its commands a little later, from a thread",
        .model = XCOPY_MODEL_THREADED,
        .flags = XCOPY_PLUGIN_NATIVE,
        .commands = XCOPY_CAN_COPY,
        .max_ranges = 1,
        .nmethods = 1,
        .methods = methods,
        .method_stride = sizeof methods[0],
        .open = late_open,
        .close = late_close,
        .probe = late_probe,
        .queue_create = late_queue_create,
        .queue_destroy = late_queue_destroy,
        .submit = late_submit,
    };
    if (!XCOPY_HAS(host, complete))
        return NULL;
    late.host = host;
    return &plugin;
}

#endif
