/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A plugin that is kept as a binary: storage in memory, in the model that MODEL
 * names, under the name NAME. Small, and yet it fills and reads every part of
 * the tables that its model has. With TAIL it is built with the headers of
 * ctests/abi/variant, whose tables have one function more.
 */
#include <xcopy_plugin.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK 512u
#define TEXT_(name) #name
#define TEXT(name) TEXT_(name)

#define EXPORT __attribute__((visibility("default")))
/* What the test asks for: how often each side called the other's tail. */
EXPORT int kept_host_tail, kept_plugin_tail;
EXPORT int kept_misplaced; /* private memory that was not where it belongs */

struct disk { uint64_t size; unsigned char bytes[]; };

/* In the private bytes of a command. */
struct item { struct item *next; struct xcopy_cmd *cmd; };

struct queue {
    struct xcopy_host_queue *host;
    struct item *first, **last;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    int ends;
};

static const struct xcopy_host *core;

static int opens(const struct xcopy_device_desc *desc, void **device, struct xcopy_device_props *props)
{
    char *end;
    uint64_t size = strtoull(desc->name, &end, 10);
    struct disk *disk = NULL;
    if (desc->kind == XCOPY_KIND_NATIVE && *end == '\0' && size != 0 && size % BLOCK == 0)
        disk = calloc(1, sizeof *disk + size);
    if (disk == NULL) {
        strcpy(props->text, "give a size in bytes, a multiple of 512");
        return -EINVAL;
    }
    disk->size = props->size_bytes = size;
    props->block_size = BLOCK;
    props->max_io_bytes = 65536;
    *device = disk;
    return 0;
}

static void judge(void *src, void *dst, struct xcopy_verdict *verdict)
{
    verdict->usable = src != NULL && dst != NULL;
    verdict->reason = verdict->usable ? XCOPY_REASON_NONE : XCOPY_REASON_WRONG_DEVICE;
    verdict->limits.max_bytes = 1 << 20;
    verdict->limits.max_ranges = 4;
    verdict->limits.src_granularity = BLOCK;
    verdict->limits.dst_granularity = BLOCK;
    verdict->limits.length_granularity = BLOCK;
    strcpy(verdict->text, "kept");
}

static int each(void *src, void *dst, struct xcopy_verdict *verdicts, size_t stride, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        judge(src, dst, (void *)((char *)verdicts + i * stride));
    return 0;
}

static void *at(struct disk *disk, uint64_t start, uint64_t len)
{
    return disk && start <= disk->size && len <= disk->size - start ? disk->bytes + start : NULL;
}

static int carry_out(struct xcopy_cmd *cmd)
{
    struct xcopy_open_args *open = cmd->arg;
    struct xcopy_probe_args *probe = cmd->arg;
    switch (cmd->op) {
    case XCOPY_CMD_OPEN:
        return opens(open->desc, &open->device, &open->props);
    case XCOPY_CMD_PROBE:
        return each(cmd->src, cmd->dst, probe->verdicts, probe->stride, probe->n);
    case XCOPY_CMD_CLOSE:
        free(cmd->src);
        return 0;
    case XCOPY_CMD_FLUSH:
        return 0;
    default:
        break;
    }
    char *buffer = cmd->buffer;
    for (uint32_t i = 0; i < cmd->nranges; i++) {
        struct xcopy_range r = cmd->ranges[i];
        int reads = cmd->op == XCOPY_CMD_COPY || cmd->op == XCOPY_CMD_READ;
        void *from = reads ? at(cmd->src, r.src_offset, r.length) : buffer;
        void *to = cmd->op == XCOPY_CMD_READ ? buffer : at(cmd->dst, r.dst_offset, r.length);
        if (to == NULL || (from == NULL && cmd->op != XCOPY_CMD_ZERO))
            return -EINVAL;
        if (cmd->op == XCOPY_CMD_ZERO)
            memset(to, 0, r.length);
        else
            memmove(to, from, r.length);
        if (buffer != NULL)
            buffer += r.length;
    }
    return 0;
}

static struct xcopy_result answer(struct xcopy_cmd *cmd)
{
    struct xcopy_result result = {.cookie = cmd->cookie};
    result.status = carry_out(cmd);
    result.bytes = result.status == 0 ? cmd->bytes : 0;
    return result;
}

/* The command's private bytes: where it says, aligned, and ours until it ends. */
static struct item *item_of(struct xcopy_cmd *cmd)
{
    struct item *item = cmd->private_data;
    kept_misplaced += item == NULL || (uintptr_t)item % 16 != 0;
    item->cmd = cmd;
    item->next = NULL;
    return item;
}

static struct item *take(struct queue *queue)
{
    struct item *item = queue->first;
    if (item != NULL && (queue->first = item->next) == NULL)
        queue->last = &queue->first;
    return item;
}

static void *work(void *argument)
{
    struct queue *queue = argument;
    pthread_mutex_lock(&queue->lock);
    while (!queue->ends || queue->first != NULL) {
        struct item *item = take(queue);
        if (item == NULL) {
            pthread_cond_wait(&queue->wake, &queue->lock);
            continue;
        }
        pthread_mutex_unlock(&queue->lock);
        struct xcopy_result result = answer(item->cmd);
        core->complete(queue->host, &result, sizeof result, 1);
        pthread_mutex_lock(&queue->lock);
    }
    pthread_mutex_unlock(&queue->lock);
    return NULL;
}

static int queue_create(void *state, struct xcopy_host_queue *host_queue,
                        const struct xcopy_plugin_queue_options *options, void **created)
{
    struct queue *queue = calloc(1, sizeof *queue);
    if (state != (void *)&core || options->size < sizeof *options || options->window == 0 || queue == NULL) {
        free(queue);
        return -EINVAL;
    }
    queue->host = host_queue;
    queue->last = &queue->first;
    pthread_mutex_init(&queue->lock, NULL);
    pthread_cond_init(&queue->wake, NULL);
    if (MODEL == XCOPY_MODEL_THREADED && pthread_create(&queue->thread, NULL, work, queue) != 0) {
        free(queue);
        return -EAGAIN;
    }
    *created = queue;
    return 0;
}

static void queue_destroy(void *destroyed)
{
    struct queue *queue = destroyed;
    if (MODEL == XCOPY_MODEL_THREADED) {
        pthread_mutex_lock(&queue->lock);
        queue->ends = 1;
        pthread_cond_signal(&queue->wake);
        pthread_mutex_unlock(&queue->lock);
        pthread_join(queue->thread, NULL);
    }
    free(queue);
}

static int submit(void *given, struct xcopy_cmd *const *commands, uint32_t n)
{
    struct queue *queue = given;
    pthread_mutex_lock(&queue->lock);
    for (uint32_t i = 0; i < n; i++) {
        struct item *item = item_of(commands[i]);
        *queue->last = item;
        queue->last = &item->next;
    }
    pthread_cond_signal(&queue->wake);
    pthread_mutex_unlock(&queue->lock);
    return (int)n;
}

static int poll_queue(void *given, uint32_t max)
{
    struct queue *queue = given;
    struct item *item;
    for (uint32_t done = 0; done < max && (item = take(queue)) != NULL; done++) {
        struct xcopy_result result = answer(item->cmd);
        core->complete_local(queue->host, &result, sizeof result, 1);
    }
    return 0;
}

static int queue_arm(void *given, uint32_t on)
{
    struct queue *queue = given;
    return on && queue->first != NULL;
}

static int disk_open(void *state, const struct xcopy_device_desc *desc, void **device,
                     struct xcopy_device_props *props)
{
    return state == (void *)&core ? opens(desc, device, props) : -EINVAL;
}

static void disk_close(void *state, void *device)
{
    (void)state;
    free(device);
}

static int disk_probe(void *state, void *src, void *dst, struct xcopy_verdict *verdicts, size_t stride,
                      uint32_t n)
{
    (void)state;
    return each(src, dst, verdicts, stride, n);
}

static int execute(void *state, struct xcopy_cmd *cmd, struct xcopy_result *result)
{
    (void)state;
    item_of(cmd);
    *result = answer(cmd);
    return result->status;
}

static int start(void *host_ctx, void **state)
{
    core->log(host_ctx, XCOPY_LOG_DEBUG, "kept plugin starts");
    void *memory = core->alloc(host_ctx, 4096, 512);
    if (memory == NULL || (uintptr_t)memory % 512 != 0)
        return -ENOMEM;
    core->free(host_ctx, memory, 4096, 512);
    *state = (void *)&core;
    return 0;
}

static void stop(void *state) { kept_misplaced += state != (void *)&core; }

#ifdef TAIL
static uint64_t plugin_tail(uint64_t number)
{
    kept_plugin_tail += number == 7 ? 1 : 1000;
    return number;
}
#endif

#define QUEUES (MODEL != XCOPY_MODEL_BLOCKING)
#define OPENS (MODEL != XCOPY_MODEL_AFFINE)

static const struct xcopy_plugin_method methods[] = {
    {.name = TEXT(NAME), .flags = XCOPY_METHOD_OFFLOADS},
};

static const struct xcopy_plugin table = {
    .struct_size = sizeof table,
    .abi_version = XCOPY_ABI_VERSION,
    .name = TEXT(NAME),
    .version = "kept",
    .description = "memory, to see that an older plugin still works",
    .model = MODEL,
    .flags = XCOPY_PLUGIN_NATIVE,
    .commands = XCOPY_CAN_COPY | XCOPY_CAN_ZERO | XCOPY_CAN_FLUSH | XCOPY_CAN_READ | XCOPY_CAN_WRITE,
    .cmd_private = sizeof(struct item),
    .max_ranges = 4,
    .nmethods = 1,
    .methods = methods,
    .method_stride = sizeof methods[0],
    .start = start,
    .stop = stop,
    .open = OPENS ? disk_open : NULL,
    .close = OPENS ? disk_close : NULL,
    .probe = OPENS ? disk_probe : NULL,
    .queue_create = QUEUES ? queue_create : NULL,
    .queue_destroy = QUEUES ? queue_destroy : NULL,
    .submit = QUEUES ? submit : NULL,
    .poll = QUEUES && MODEL != XCOPY_MODEL_THREADED ? poll_queue : NULL,
    .arm = QUEUES && MODEL != XCOPY_MODEL_THREADED ? queue_arm : NULL,
    .execute = QUEUES ? NULL : execute,
#ifdef TAIL
    .tail = plugin_tail,
#endif
};

EXPORT const struct xcopy_plugin *xcopy_plugin_init_v0(const struct xcopy_host *host)
{
    if (host == NULL || !XCOPY_HAS(host, device_event))
        return NULL;
    core = host;
#ifdef TAIL
    /* The one right way to use what may not be there. */
    if (XCOPY_HAS(host, tail) && host->tail != NULL)
        kept_host_tail += host->tail(41) == 42 ? 1 : 1000;
#endif
    return &table;
}
