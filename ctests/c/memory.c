/* Bounce buffers: what the context uses stays within its budget, whatever moves the
 * bytes, and an allocator that has nothing ends a copy at once, with -ENOMEM. */
#include "check.h"
#include "stamp.h"
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

enum { BLOCKS = 16384, SIZE = BLOCKS * STAMP_BLOCK, KIB = 1024 };

static char src_path[320], dst_path[320];
static int src_fd, dst_fd;
static long held, most;
static int empty;

static void *count_alloc(void *alloc_ctx, size_t size, size_t align)
{
    (void)alloc_ctx;
    if (empty)
        return NULL;
    long now = __atomic_add_fetch(&held, (long)size, __ATOMIC_SEQ_CST);
    long seen = __atomic_load_n(&most, __ATOMIC_SEQ_CST);
    while (now > seen && !__atomic_compare_exchange_n(&most, &seen, now, 0, __ATOMIC_SEQ_CST,
                                                      __ATOMIC_SEQ_CST))
        ;
    return aligned_alloc(align, size);
}

static void count_free(void *alloc_ctx, void *memory, size_t size, size_t align)
{
    (void)alloc_ctx;
    (void)align;
    __atomic_sub_fetch(&held, (long)size, __ATOMIC_SEQ_CST);
    free(memory);
}

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* By read_write between files, and between the null plugin's devices over a buffer. */
struct world {
    struct xcopy_context *ctx;
    struct xcopy_queue *queue[2];
    uint32_t src[2], dst[2];
};

static void make(struct world *w, uint64_t budget, uint32_t threads, uint32_t flags)
{
    struct xcopy_context_options options;
    struct xcopy_queue_options with;
    memset(w, 0, sizeof *w);
    REQUIRE(xcopy_context_options_init(&options, sizeof options) == 0);
    options.alloc = count_alloc;
    options.free = count_free;
    options.memory_budget = budget;
    options.pool_threads = threads;
    held = most = 0;
    REQUIRE(xcopy_context_create(&options, &w->ctx) == 0);
    REQUIRE(xcopy_plugin_load(w->ctx, "null") >= 0);
    REQUIRE(xcopy_queue_options_init(&with, sizeof with) == 0);
    with.flags = flags;
    REQUIRE(xcopy_queue_create(w->ctx, &with, &w->queue[0]) == 0);
    REQUIRE(xcopy_queue_create(w->ctx, &with, &w->queue[1]) == 0);
    REQUIRE(xcopy_device_open(w->ctx, src_path, XCOPY_OPEN_READ, &w->src[0]) == 0);
    REQUIRE(xcopy_device_open(w->ctx, dst_path, XCOPY_OPEN_WRITE, &w->dst[0]) == 0);
    REQUIRE(xcopy_device_open(w->ctx, "null:1G", XCOPY_OPEN_READ, &w->src[1]) == 0);
    REQUIRE(xcopy_device_open(w->ctx, "null:1G", XCOPY_OPEN_WRITE, &w->dst[1]) == 0);
    for (int way = 0; way < 2; way++)
        for (int at = 0; at < 2; at++) {
            struct xcopy_completion c;
            struct xcopy_request r;
            memset(&r, 0, sizeof r);
            r.op = XCOPY_OP_PREPARE;
            r.src = w->src[way];
            r.dst = w->dst[way];
            REQUIRE(xcopy_submit(w->queue[at], &r, sizeof r, 1) == 1);
            REQUIRE(xcopy_poll(w->queue[at], &c, sizeof c, 1, 1, INT64_C(10000000000)) == 1);
            REQUIRE(c.res == 0);
        }
}

static void end(struct world *w)
{
    CHECK_EQ(xcopy_queue_destroy(w->queue[0], 0), 0);
    CHECK_EQ(xcopy_queue_destroy(w->queue[1], 0), 0);
    CHECK_EQ(xcopy_context_free(w->ctx), 0);
    CHECK_EQ(held, 0);
}

static void submit(struct world *w, int at, int way)
{
    struct xcopy_request r;
    memset(&r, 0, sizeof r);
    r.op = XCOPY_OP_COPY;
    r.src = w->src[way];
    r.dst = w->dst[way];
    r.length = SIZE;
    r.methods = UINT32_C(1) << XCOPY_METHOD_READ_WRITE;
    CHECK_EQ(xcopy_submit(w->queue[at], &r, sizeof r, 1), 1);
}

static struct xcopy_completion take(struct world *w, int at)
{
    struct xcopy_completion c;
    memset(&c, 0, sizeof c);
    c.res = 1;
    CHECK_EQ(xcopy_poll(w->queue[at], &c, sizeof c, 1, 1, INT64_C(60000000000)), 1);
    return c;
}

static void within(uint64_t budget, uint32_t threads, uint32_t flags)
{
    struct world w;
    make(&w, budget, threads, flags);
    for (int way = 0; way < 2; way++) {
        CHECK_EQ(ftruncate(dst_fd, 0), 0);
        /* Two queues share the budget; the second gets what the first leaves. */
        submit(&w, 0, way);
        submit(&w, 1, 1);
        for (int left = 2, taken[2] = {0, 0}; left > 0;) {
            struct xcopy_completion c;
            for (int at = 0; at < 2; at++) {
                if (taken[at])
                    continue;
                int n = xcopy_poll(w.queue[at], &c, sizeof c, 1, 1, 1000000);
                CHECK(n == 0 || n == 1);
                if (n == 0)
                    continue;
                taken[at] = 1;
                left--;
                CHECK_EQ(c.res, 0);
                CHECK_EQ(c.bytes_done, SIZE);
                CHECK_EQ(c.detail, 0);
                CHECK_EQ(c.method, XCOPY_METHOD_READ_WRITE);
            }
        }
        if (way == 0)
            CHECK_EQ(stamp_wrong(dst_fd, 0, 1, 0, 1, BLOCKS), 0);
    }
    CHECK(most > 0);
    if (!CHECK((uint64_t)most <= budget))
        fprintf(stderr, "    %ld bytes of %llu\n", most, (unsigned long long)budget);
    end(&w);
}

static void without(uint32_t threads, uint32_t flags)
{
    struct world w;
    make(&w, 1 << 20, threads, flags);
    empty = 1;
    for (int way = 0; way < 2; way++) {
        double start = now_s();
        submit(&w, 0, way);
        struct xcopy_completion c = take(&w, 0);
        CHECK_EQ(c.res, -ENOMEM);
        CHECK_EQ(c.reason, XCOPY_REASON_RESOURCES);
        CHECK_EQ(c.bytes_copied, 0);
        CHECK_EQ(c.flags & XCOPY_CPL_INDETERMINATE, 0);
        CHECK((int32_t)(uint32_t)c.detail == 0 || (int32_t)(uint32_t)c.detail == ENOMEM);
        double took = now_s() - start;
        if (!CHECK(took < 3))
            fprintf(stderr, "    %.1f s\n", took);
    }
    empty = 0;
    end(&w);
}

int main(void)
{
    const char *directory = getenv("TMPDIR");
    if (directory == NULL || *directory == '\0')
        directory = "/tmp";
    snprintf(src_path, sizeof src_path, "%.256s/xcopy-memory-src-XXXXXX", directory);
    snprintf(dst_path, sizeof dst_path, "%.256s/xcopy-memory-dst-XXXXXX", directory);
    src_fd = mkstemp(src_path);
    dst_fd = mkstemp(dst_path);
    REQUIRE(src_fd >= 0 && dst_fd >= 0);
    REQUIRE(stamp_fill(src_fd, 1, BLOCKS, 1) == 0);
    static const uint64_t budgets[] = {64 * KIB, 100000, 300 * KIB, 1024 * KIB, 3072 * KIB};
    for (size_t i = 0; i < sizeof budgets / sizeof budgets[0]; i++) {
        within(budgets[i], 4, 0);
        within(budgets[i], 4, XCOPY_QUEUE_PINNED);
    }
    without(4, 0);
    without(4, XCOPY_QUEUE_PINNED);
    unlink(src_path);
    unlink(dst_path);
    return check_done();
}
