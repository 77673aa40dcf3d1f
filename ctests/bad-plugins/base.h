/*
 * A plugin over memory that keeps the contract, in the four models. A file that
 * includes it defines one of the hooks below so that the contract is broken in
 * one place; its first line names the fault that the check has to find.
 */
#define _GNU_SOURCE
#include "xcopy_plugin.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#ifndef MODEL
#define MODEL XCOPY_MODEL_POLLED
#endif
#ifndef FLAGS
#define FLAGS XCOPY_PLUGIN_NATIVE
#endif
#ifndef COMMANDS
#define COMMANDS \
    (XCOPY_CAN_COPY | XCOPY_CAN_ZERO | XCOPY_CAN_FLUSH | XCOPY_CAN_READ | XCOPY_CAN_WRITE)
#endif
#ifndef METHODS
#define METHODS {.name = NAME, .flags = XCOPY_METHOD_OFFLOADS}
#endif

#define BLOCK 512u
enum { HELD = 256 };

struct disk {
    uint64_t size;
    int fd;
    const struct xcopy_device_desc *desc;
    void *host_device;
    unsigned char bytes[];
};

struct queue {
    struct xcopy_host_queue *host;
    struct xcopy_cmd *held[HELD];
    uint32_t n;
    int fd;
    int armed;
    int stop;
    pthread_t worker;
    pthread_mutex_t lock;
    pthread_cond_t wake;
};

static const struct xcopy_host *host;
static void *context;

/* Ends one command as the model has it. */
static inline void end_local(struct queue *q, struct xcopy_result *r)
{
    host->complete_local(q->host, r, sizeof *r, 1);
}

static inline void end_anywhere(struct queue *q, struct xcopy_result *r)
{
    host->complete(q->host, r, sizeof *r, 1);
}

/* The hooks, and what they are in a plugin that keeps the contract. */
#ifndef ON_INIT
#define ON_INIT() (void)0
#endif
#ifndef ON_START
#define ON_START() (void)0
#endif
#ifndef ON_STOP
#define ON_STOP() (void)0
#endif
#ifndef ON_OPEN
#define ON_OPEN(disk, props) (void)0
#endif
#ifndef ON_CLOSE
#define ON_CLOSE(disk) free(disk)
#endif
#ifndef ON_PROBE
#define ON_PROBE() (void)0
#endif
#ifndef VERDICT
#define VERDICT(verdicts, stride, i) \
    ((struct xcopy_verdict *)(void *)((char *)(verdicts) + (i) * (stride)))
#endif
#ifndef ON_VERDICT
#define ON_VERDICT(v) (void)0
#endif
#ifndef ON_SUBMIT
#define ON_SUBMIT(q, commands, n) (void)0
#endif
#ifndef TAKEN
#define TAKEN(n) (int)(n)
#endif
#ifndef ON_QUEUE
#define ON_QUEUE(q) (void)0
#endif
#ifndef ON_DESTROY
#define ON_DESTROY(q) (void)0
#endif
#ifndef ON_POLL
#define ON_POLL(q) (void)0
#endif
#ifndef ON_RESULT
#define ON_RESULT(cmd, r) (void)0
#endif
#ifndef FINISH
#define FINISH(q, cmd, r) ((MODEL) == XCOPY_MODEL_THREADED ? end_anywhere(q, r) : end_local(q, r))
#endif
#ifndef SIGNAL
#define SIGNAL(q) signal_fd(q)
#endif
#ifndef DRAIN
#define DRAIN(q) drain_fd(q)
#endif
#ifndef QUEUE_FD
#define QUEUE_FD(q) (q)->fd
#endif
#ifndef CANCEL
#define CANCEL NULL
#endif
#ifndef ON_EXECUTE
#define ON_EXECUTE(cmd, r) 0
#endif

static int start(void *host_ctx, void **state)
{
    context = host_ctx;
    ON_START();
    *state = host_ctx;
    return 0;
}

static void stop(void *state)
{
    (void)state;
    ON_STOP();
}

static int open_disk(void *state, const struct xcopy_device_desc *desc, void **device,
                     struct xcopy_device_props *props)
{
    uint64_t size = desc->kind == XCOPY_KIND_NATIVE ? 1u << 20 : desc->size_bytes;
    struct disk *disk = calloc(1, sizeof *disk + size);

    (void)state;
    if (disk == NULL)
        return -ENOMEM;
    disk->size = size;
    disk->fd = desc->fd;
    disk->desc = desc;
    disk->host_device = desc->host_device;
    props->block_size = BLOCK;
    props->size_bytes = size;
    ON_OPEN(disk, props);
    *device = disk;
    return 0;
}

static void close_disk(void *state, void *device)
{
    struct disk *disk = device;

    (void)state;
    ON_CLOSE(disk);
}

static int probe(void *state, void *src, void *dst, struct xcopy_verdict *verdicts, size_t stride,
                 uint32_t n)
{
    (void)state;
    (void)src;
    (void)dst;
    ON_PROBE();
    for (uint32_t i = 0; i < n; i++) {
        struct xcopy_verdict *v = VERDICT(verdicts, stride, i);

        v->usable = 1;
        v->limits.max_ranges = 16;
        v->limits.src_granularity = BLOCK;
        v->limits.dst_granularity = BLOCK;
        v->limits.length_granularity = BLOCK;
        ON_VERDICT(v);
    }
    return 0;
}

static void *at(struct disk *disk, uint64_t start, uint64_t len)
{
    return disk && start <= disk->size && len <= disk->size - start ? disk->bytes + start : NULL;
}

static int control(struct xcopy_cmd *cmd)
{
    struct xcopy_open_args *o = cmd->arg;
    struct xcopy_probe_args *p = cmd->arg;

    switch (cmd->op) {
    case XCOPY_CMD_OPEN:
        return open_disk(NULL, o->desc, &o->device, &o->props);
    case XCOPY_CMD_PROBE:
        return probe(NULL, cmd->src, cmd->dst, p->verdicts, p->stride, p->n);
    default:
        close_disk(NULL, cmd->src);
        return 0;
    }
}

static struct xcopy_result perform(struct xcopy_cmd *cmd)
{
    struct xcopy_result r = {.cookie = cmd->cookie};

    if (cmd->op == XCOPY_CMD_OPEN || cmd->op == XCOPY_CMD_CLOSE || cmd->op == XCOPY_CMD_PROBE) {
        r.status = control(cmd);
        return r;
    }
    for (uint32_t i = 0; i < cmd->nranges; i++) {
        const struct xcopy_range *x = &cmd->ranges[i];
        int reads = cmd->op == XCOPY_CMD_COPY || cmd->op == XCOPY_CMD_READ;
        void *from = reads ? at(cmd->src, x->src_offset, x->length) : cmd->buffer;
        void *to =
            cmd->op == XCOPY_CMD_READ ? cmd->buffer : at(cmd->dst, x->dst_offset, x->length);

        if (to == NULL || (from == NULL && cmd->op != XCOPY_CMD_ZERO)) {
            r.status = -EINVAL;
            return r;
        }
        if (cmd->op == XCOPY_CMD_ZERO)
            memset(to, 0, x->length);
        else
            memmove(to, from, x->length);
    }
    r.bytes = cmd->bytes;
    ON_RESULT(cmd, (&r));
    return r;
}

static inline void signal_fd(struct queue *q)
{
    uint64_t one = 1;

    if (q->armed && write(q->fd, &one, sizeof one) < 0)
        q->armed = 0;
}

static inline void drain_fd(struct queue *q)
{
    uint64_t count;

    while (read(q->fd, &count, sizeof count) > 0)
        ;
}

static inline void *work(void *argument)
{
    struct queue *q = argument;

    pthread_mutex_lock(&q->lock);
    while (!q->stop) {
        struct xcopy_cmd *cmd;
        struct xcopy_result r;

        if (q->n == 0) {
            pthread_cond_wait(&q->wake, &q->lock);
            continue;
        }
        cmd = q->held[--q->n];
        pthread_mutex_unlock(&q->lock);
        r = perform(cmd);
        FINISH(q, cmd, &r);
        pthread_mutex_lock(&q->lock);
    }
    pthread_mutex_unlock(&q->lock);
    return NULL;
}

static int queue_create(void *state, struct xcopy_host_queue *host_queue,
                        const struct xcopy_plugin_queue_options *options, void **queue)
{
    struct queue *q = calloc(1, sizeof *q);

    (void)state;
    if (q == NULL || options->window > HELD)
        return -ENOMEM;
    q->host = host_queue;
    q->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->wake, NULL);
    if ((MODEL) == XCOPY_MODEL_THREADED)
        pthread_create(&q->worker, NULL, work, q);
    ON_QUEUE(q);
    *queue = q;
    return 0;
}

static void queue_destroy(void *queue)
{
    struct queue *q = queue;

    ON_DESTROY(q);
    if ((MODEL) == XCOPY_MODEL_THREADED) {
        pthread_mutex_lock(&q->lock);
        q->stop = 1;
        pthread_cond_signal(&q->wake);
        pthread_mutex_unlock(&q->lock);
        pthread_join(q->worker, NULL);
    }
    close(q->fd);
    free(q);
}

static int submit(void *queue, struct xcopy_cmd *const *commands, uint32_t n)
{
    struct queue *q = queue;

    ON_SUBMIT(q, commands, n);
    pthread_mutex_lock(&q->lock);
    for (uint32_t i = 0; i < n && q->n < HELD; i++)
        q->held[q->n++] = commands[i];
    pthread_cond_signal(&q->wake);
    pthread_mutex_unlock(&q->lock);
    SIGNAL(q);
    return TAKEN(n);
}

static int poll_queue(void *queue, uint32_t max)
{
    struct queue *q = queue;

    ON_POLL(q);
    if ((MODEL) == XCOPY_MODEL_THREADED)
        return 0;
    while (q->n > 0 && max-- > 0) {
        struct xcopy_cmd *cmd = q->held[0];
        struct xcopy_result r = perform(cmd);

        q->n--;
        memmove(q->held, q->held + 1, q->n * sizeof q->held[0]);
        FINISH(q, cmd, &r);
    }
    if (q->n == 0)
        DRAIN(q);
    return 0;
}

static int queue_fd(void *queue)
{
    struct queue *q = queue;

    return QUEUE_FD(q);
}

static int arm(void *queue, uint32_t on)
{
    struct queue *q = queue;

    q->armed = on != 0;
    if (q->armed && q->n > 0)
        SIGNAL(q);
    return 0;
}

static int execute(void *state, struct xcopy_cmd *cmd, struct xcopy_result *result)
{
    (void)state;
    *result = perform(cmd);
    return ON_EXECUTE(cmd, result);
}

static const struct xcopy_plugin_method methods[] = {METHODS};

/* What a model does not need. */
#define NOT_THREADED(function) ((MODEL) == XCOPY_MODEL_THREADED ? NULL : (function))
#define NOT_AFFINE(function) ((MODEL) == XCOPY_MODEL_AFFINE ? NULL : (function))

static const struct xcopy_plugin table = {
    .struct_size = sizeof table,
    .abi_version = XCOPY_ABI_VERSION,
    .name = NAME,
    .version = "1",
    .description = "breaks the contract on purpose",
    .model = MODEL,
    .flags = FLAGS,
    .commands = COMMANDS,
    .cmd_private = 24,
    .max_ranges = 16,
    .nmethods = sizeof methods / sizeof methods[0],
    .methods = methods,
    .method_stride = sizeof methods[0],
    .start = start,
    .stop = stop,
    .open = NOT_AFFINE(open_disk),
    .close = NOT_AFFINE(close_disk),
    .probe = NOT_AFFINE(probe),
    .queue_create = queue_create,
    .queue_destroy = queue_destroy,
    .submit = submit,
    .poll = poll_queue,
    .queue_fd = NOT_THREADED(queue_fd),
    .arm = NOT_THREADED(arm),
    .cancel = CANCEL,
    .execute = execute,
};

const struct xcopy_plugin *xcopy_plugin_init_v0(const struct xcopy_host *offered);

const struct xcopy_plugin *xcopy_plugin_init_v0(const struct xcopy_host *offered)
{
    host = offered;
    ON_INIT();
    return &table;
}
