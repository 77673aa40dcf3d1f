/* Every refusal, one by one: the call answers its -errno and a text, nothing is
 * started, and no byte changes. */
#include "null_pairs.h"
#include "stamp.h"
#include <sys/stat.h>

enum { BLOCKS = 64, SRC_DISK = 1, DST_DISK = 2 };

static struct null_pairs pairs;
static struct xcopy_context *ctx;
static struct xcopy_queue *queue;
static uint32_t src, dst, both, src_only_dst, stale, token;
static int src_fd, dst_fd;
static char src_path[320], dst_path[320];

static void check_untouched(const char *what)
{
    struct xcopy_completion completion;
    struct stat status;
    int ok = xcopy_queue_in_flight(queue) == 0 &&
             xcopy_poll(queue, &completion, sizeof completion, 0, 1, 0) == 0 &&
             stamp_wrong(src_fd, 0, SRC_DISK, 0, 1, BLOCKS) == 0 &&
             stamp_wrong(dst_fd, 0, DST_DISK, 0, 1, BLOCKS) == 0 &&
             fstat(dst_fd, &status) == 0 && status.st_size == BLOCKS * STAMP_BLOCK;
    if (!check_note(NULL, ok, __FILE__, __LINE__, "a refusal changed something"))
        fprintf(stderr, "    after %s\n", what);
}

static struct xcopy_request good(void)
{
    struct xcopy_request r;
    memset(&r, 0, sizeof r);
    r.user_data = 1;
    r.op = XCOPY_OP_COPY;
    r.src = src;
    r.dst = dst;
    r.length = 4096;
    return r;
}

static void refuse_at(int line, struct xcopy_request r, int wanted)
{
    char what[64];
    snprintf(what, sizeof what, "the request of line %d", line);
    check_refused(NULL, xcopy_submit(queue, &r, sizeof r, 1), wanted, __FILE__, line, what);
    check_untouched(what);
}

/* A good request with one change. */
#define REFUSE(change, wanted)             \
    do {                                   \
        struct xcopy_request r = good();   \
        change;                            \
        refuse_at(__LINE__, r, (wanted));  \
    } while (0)

static void refuse_words(void)
{
    REFUSE(r.op = 0, EINVAL);
    REFUSE(r.op = 8, EINVAL);
    REFUSE(r.op = 0xffff, EINVAL);
    REFUSE(r.reserved = 1, EINVAL);
    for (uint32_t bit = 0; bit < 32; bit++)
        if (((UINT32_C(1) << bit) & XCOPY_REQ_ALL) == 0)
            REFUSE(r.flags = UINT32_C(1) << bit, EINVAL);
    REFUSE(r.flags = XCOPY_REQ_EXCLUSIVE, EINVAL);
    REFUSE(r.length = 0, EINVAL);
    REFUSE(r.length = UINT64_MAX, EINVAL);
    REFUSE(r.src_offset = UINT64_MAX - 100, EINVAL);
    REFUSE(r.dst_offset = UINT64_MAX - 100, EINVAL);
    REFUSE(r.dst_offset = UINT64_C(1) << 63, EINVAL);
    /* Beyond the source's end, wholly and in part. */
    REFUSE(r.src_offset = BLOCKS * STAMP_BLOCK, EINVAL);
    REFUSE(r.src_offset = BLOCKS * STAMP_BLOCK - 4095, EINVAL);
    /* What other operations may not have. */
    REFUSE((r.op = XCOPY_OP_ZERO), EINVAL);
    REFUSE((r.op = XCOPY_OP_ZERO, r.src = 0, r.length = 0), EINVAL);
    REFUSE((r.op = XCOPY_OP_ZERO, r.src = 0, r.src_offset = 1), EINVAL);
    REFUSE((r.op = XCOPY_OP_FLUSH), EINVAL);
    REFUSE((r.op = XCOPY_OP_FLUSH, r.src = 0), EINVAL);
    REFUSE((r.op = XCOPY_OP_PREPARE), EINVAL);
    REFUSE((r.op = XCOPY_OP_TOKEN_RELEASE, r.src = token), EINVAL);
    REFUSE((r.op = XCOPY_OP_TOKEN_CREATE, r.dst = token, r.dst_offset = 1), EINVAL);
}

static void refuse_handles(void)
{
    static const uint16_t ops[] = {XCOPY_OP_COPY, XCOPY_OP_PREPARE};
    uint32_t foreign;
    /* The first handle of another context, which this one never gave. */
    struct xcopy_context *other = NULL;
    REQUIRE(xcopy_context_create(NULL, &other) == 0);
    REQUIRE(xcopy_device_open(other, src_path, XCOPY_OPEN_READ | XCOPY_OPEN_WRITE, &foreign) == 0);
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        const uint32_t bad[] = {XCOPY_HANDLE_NONE, stale, foreign, token, UINT32_MAX, 1, src ^ 0x10000};
        for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++) {
            uint64_t length = ops[i] == XCOPY_OP_COPY ? 4096 : 0;
            REFUSE((r.op = ops[i], r.length = length, r.src = bad[k]), EBADF);
            REFUSE((r.op = ops[i], r.length = length, r.dst = bad[k]), EBADF);
        }
    }
    REFUSE((r.op = XCOPY_OP_ZERO, r.src = 0, r.dst = stale), EBADF);
    REFUSE((r.op = XCOPY_OP_FLUSH, r.src = 0, r.length = 0, r.dst = stale), EBADF);
    REFUSE((r.op = XCOPY_OP_TOKEN_CREATE, r.dst = dst), EBADF);
    REFUSE((r.op = XCOPY_OP_TOKEN_WRITE, r.src = src), EBADF);
    REFUSE((r.op = XCOPY_OP_TOKEN_WRITE, r.src = token), EINVAL); /* empty */
    REFUSE((r.op = XCOPY_OP_TOKEN_RELEASE, r.src = stale, r.length = 0), EBADF);
    /* Opened for the other direction. */
    REFUSE(r.dst = src, EROFS);
    REFUSE(r.src = dst, EACCES);
    REFUSE((r.op = XCOPY_OP_ZERO, r.src = 0, r.dst = src), EROFS);

    uint32_t events;
    struct xcopy_device_info info;
    struct xcopy_method_info methods[2];
    struct xcopy_token_info token_info;
    char buffer[16];
    size_t used;
    const uint32_t bad[] = {XCOPY_HANDLE_NONE, stale, foreign, token, UINT32_MAX};
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++) {
        CHECK_REFUSED(xcopy_device_close(ctx, bad[k]), EBADF);
        CHECK_REFUSED(xcopy_device_info(ctx, bad[k], &info, sizeof info), EBADF);
        CHECK_REFUSED(xcopy_device_events(ctx, bad[k], &events), EBADF);
        CHECK_REFUSED(xcopy_device_invalidate(ctx, bad[k]), EBADF);
        CHECK_REFUSED(xcopy_device_describe(ctx, bad[k], buffer, sizeof buffer), EBADF);
        CHECK_REFUSED(xcopy_pair_query(ctx, bad[k], dst, methods, sizeof methods[0], 2), EBADF);
        CHECK_REFUSED(xcopy_pair_query(ctx, src, bad[k], methods, sizeof methods[0], 2), EBADF);
    }
    CHECK_REFUSED(xcopy_device_describe(ctx, src, NULL, 1), EINVAL);
    CHECK_REFUSED(xcopy_device_describe(NULL, src, buffer, sizeof buffer), EINVAL);
    CHECK_EQ(xcopy_device_describe(ctx, src, NULL, 0), 0); /* nothing is said of a file */
    CHECK_REFUSED(xcopy_device_is_closed(ctx, XCOPY_HANDLE_NONE), EBADF);
    CHECK_REFUSED(xcopy_device_is_closed(ctx, UINT32_MAX), EBADF);
    CHECK_REFUSED(xcopy_token_free(ctx, src), EBADF);
    CHECK_REFUSED(xcopy_token_free(ctx, 0), EBADF);
    CHECK_REFUSED(xcopy_token_info(ctx, src, &token_info, sizeof token_info), EBADF);
    CHECK_REFUSED(xcopy_token_export(ctx, src, buffer, sizeof buffer, &used), EBADF);
    check_untouched("the handles");
    CHECK_EQ(xcopy_device_close(other, foreign), 0);
    CHECK_EQ(xcopy_context_free(other), 0);
}

static void refuse_ranges(void)
{
    struct xcopy_range ranges[20];
    struct xcopy_ext ext;
    for (unsigned i = 0; i < 20; i++) {
        ranges[i].src_offset = ranges[i].dst_offset = i * 1024;
        ranges[i].length = 1024;
    }
#define EXT(change)                                                        \
    (memset(&ext, 0, sizeof ext), ext.size = sizeof ext, ext.ranges = ranges, \
     ext.nranges = 3, r.ext = &ext, r.length = 0, (change))
    REFUSE(EXT(ext.size = 0), EINVAL);
    REFUSE(EXT(ext.size = sizeof ext - 8), EINVAL);
    REFUSE(EXT(ext.reserved = 1), EINVAL);
    REFUSE(EXT(ext.ranges = NULL), EINVAL);
    REFUSE(EXT(ext.nranges = 0), EINVAL);
    REFUSE(EXT(ext.nranges = UINT64_MAX), EINVAL);
    REFUSE(EXT(ext.nranges = UINT64_C(1) << 60), EINVAL);
    REFUSE(EXT(r.length = 1), EINVAL);
    REFUSE(EXT(r.src_offset = UINT64_MAX - 512), EINVAL);
    REFUSE(EXT(r.dst_offset = UINT64_MAX - 512), EINVAL);
    REFUSE(EXT(r.src_offset = BLOCKS * STAMP_BLOCK - 1024), EINVAL);
    REFUSE(EXT((r.op = XCOPY_OP_PREPARE)), EINVAL);
    ranges[1].length = 0;
    REFUSE(EXT((void)0), EINVAL);
    ranges[1].length = UINT64_MAX;
    REFUSE(EXT((void)0), EINVAL);
    ranges[1].length = 1025; /* reaches into the next one's destination */
    REFUSE(EXT((void)0), EINVAL);
    ranges[1].length = 1024;
    ranges[2].dst_offset = ranges[0].dst_offset;
    REFUSE(EXT((void)0), EINVAL);
    ranges[2].dst_offset = 2048;

    struct {
        struct xcopy_ext ext;
        uint64_t later;
    } longer;
    memset(&longer, 0, sizeof longer);
    longer.ext.size = sizeof longer;
    longer.ext.ranges = ranges;
    longer.ext.nranges = 3;
    longer.later = 1;
    REFUSE((r.length = 0, r.ext = &longer.ext), E2BIG);

    struct xcopy_report report;
    memset(&report, 0, sizeof report);
    REFUSE(EXT((ext.report = &report)), EINVAL);

    /* One file: a range must not be copied onto itself or its neighbours. */
    REFUSE((r.src = both, r.dst = both), EINVAL);
    REFUSE((r.src = both, r.dst = both, r.dst_offset = 4095), EINVAL);
    REFUSE((r.src = both, r.dst = both, r.src_offset = 4095), EINVAL);
    /* The same file under two handles. */
    REFUSE((r.src = src_only_dst, r.dst = dst, r.src_offset = 512), EINVAL);
}

/* Lists too long to be looked at in submit are looked at before the first byte: the
 * refusal is a completion with its reason, and the report names the range. */
static void refuse_long_list(struct xcopy_request r, const struct xcopy_range *ranges, uint64_t n,
                             uint64_t bad, int reason)
{
    struct xcopy_completion c;
    struct xcopy_report report;
    struct xcopy_ext ext;
    memset(&report, 0, sizeof report);
    memset(&ext, 0, sizeof ext);
    report.size = sizeof report;
    ext.size = sizeof ext;
    ext.ranges = ranges;
    ext.nranges = n;
    ext.report = &report;
    r.length = 0;
    r.ext = &ext;
    CHECK_EQ(xcopy_submit(queue, &r, sizeof r, 1), 1);
    CHECK_EQ(xcopy_poll(queue, &c, sizeof c, 1, 1, INT64_C(10000000000)), 1);
    CHECK_EQ(c.res, -EINVAL);
    CHECK_EQ(c.reason, reason);
    CHECK_EQ(c.bytes_done, 0);
    CHECK_EQ(c.bytes_copied, 0);
    CHECK_EQ(report.untouched_from, 0);
    CHECK_EQ(report.failed_index, bad);
    CHECK_EQ(report.failed.src_offset, ranges[bad].src_offset);
    CHECK_EQ(report.failed.dst_offset, ranges[bad].dst_offset);
    CHECK_EQ(report.failed.length, ranges[bad].length);
    check_untouched("a long list");
}

static void refuse_long_lists(void)
{
    /* The longest takes more than one poll to look at. */
    enum { MANY = 40000, SIZE = BLOCKS * STAMP_BLOCK };
    static const uint64_t counts[] = {17, 1000, 5000, MANY};
    static struct xcopy_range ranges[MANY];
    for (size_t k = 0; k < sizeof counts / sizeof counts[0]; k++) {
        uint64_t n = counts[k];
        for (uint64_t i = 0; i < n; i++) {
            ranges[i].src_offset = i % SIZE;
            ranges[i].dst_offset = 3 * i;
            ranges[i].length = 1;
        }
#define LONG(at, change, reason)                              \
    do {                                                      \
        struct xcopy_range before = ranges[at];               \
        change;                                               \
        refuse_long_list(good(), ranges, n, (at), (reason));  \
        ranges[at] = before;                                  \
    } while (0)
        LONG(n - 1, ranges[n - 1].length = 0, XCOPY_REASON_BOUNDS);
        LONG(16, ranges[16].length = 0, XCOPY_REASON_BOUNDS);
        LONG(n - 1, ranges[n - 1].src_offset = UINT64_MAX, XCOPY_REASON_BOUNDS);
        LONG(n - 1, ranges[n - 1].dst_offset = UINT64_MAX - 1, XCOPY_REASON_BOUNDS);
        LONG(n - 1, ranges[n - 1].src_offset = SIZE, XCOPY_REASON_BOUNDS);
        LONG(n / 2, (ranges[n / 2].src_offset = SIZE - 1, ranges[n / 2].length = 2),
             XCOPY_REASON_BOUNDS);
        LONG(n - 1, ranges[n - 1].dst_offset = INT64_MAX, XCOPY_REASON_BOUNDS);
        LONG(n - 1, ranges[n - 1].dst_offset = ranges[n - 2].dst_offset, XCOPY_REASON_OVERLAP);
        if (n > 4096) /* disjoint, but too many to be sorted */
            LONG(n - 1, ranges[n - 1].dst_offset = 1, XCOPY_REASON_OVERLAP);
    }
}

/* The same where the device's blocks are cut. */
static void refuse_long_block_list(uint32_t a, uint32_t b)
{
    struct xcopy_range ranges[20];
    struct xcopy_request r = good();
    r.src = a;
    r.dst = b;
    for (uint64_t i = 0; i < 20; i++)
        ranges[i] = (struct xcopy_range){i * 4096, i * 4096, 4096};
    ranges[18].length = 512;
    refuse_long_list(r, ranges, 20, 18, XCOPY_REASON_MISALIGNED);
    ranges[18].length = 4096;
    ranges[19].dst_offset += 512;
    refuse_long_list(r, ranges, 20, 19, XCOPY_REASON_MISALIGNED);
    ranges[19].dst_offset = UINT64_C(1) << 30;
    refuse_long_list(r, ranges, 20, 19, XCOPY_REASON_BOUNDS);
}

static void refuse_blocks(void)
{
    uint32_t a, b, ro = 0;
    struct xcopy_completion c;
    REQUIRE(xcopy_device_open(ctx, "null:1G,block=4096", XCOPY_OPEN_READ, &a) == 0);
    REQUIRE(xcopy_device_open(ctx, "null:1G,block=4096", XCOPY_OPEN_WRITE, &b) == 0);
    struct xcopy_request p = good();
    p.op = XCOPY_OP_PREPARE;
    p.src = a;
    p.dst = b;
    p.length = 0;
    CHECK_EQ(xcopy_submit(queue, &p, sizeof p, 1), 1);
    CHECK_EQ(xcopy_poll(queue, &c, sizeof c, 1, 1, INT64_C(10000000000)), 1);
    CHECK_EQ(c.res, 0);
    REFUSE((r.src = a, r.dst = b, r.src_offset = 512), EINVAL);
    REFUSE((r.src = a, r.dst = b, r.dst_offset = 512), EINVAL);
    REFUSE((r.src = a, r.dst = b, r.length = 512), EINVAL);
    REFUSE((r.src = a, r.dst = b, r.src_offset = UINT64_C(1) << 30), EINVAL);
    REFUSE((r.src = a, r.dst = b, r.dst_offset = UINT64_C(1) << 30), EINVAL);
    refuse_long_block_list(a, b);
    /* On the straight way of a prepared pair, too. */
    REFUSE((r.src = a, r.dst = b, r.reserved = 1), EINVAL);
    REFUSE((r.src = a, r.dst = b, r.flags = UINT32_C(1) << 31), EINVAL);
    REFUSE((r.src = a, r.dst = b, r.length = 0), EINVAL);
    REFUSE((r.src = a, r.dst = b, r.src_offset = UINT64_MAX - 4095), EINVAL);
    CHECK_EQ(xcopy_device_close(ctx, a), 0);
    REFUSE((r.src = a, r.dst = b), EBADF);
    CHECK_EQ(xcopy_device_close(ctx, b), 0);
    /* Read-only by its own word: at open, or when it is to be written. */
    int opened = xcopy_device_open(ctx, "null:1G,ro=1", XCOPY_OPEN_WRITE, &ro);
    if (opened == 0) {
        REFUSE((r.src = src, r.dst = ro), EROFS);
        CHECK_EQ(xcopy_device_close(ctx, ro), 0);
    } else {
        CHECK_REFUSED(opened, EROFS);
    }
}

static void refuse_pointers(void)
{
    struct xcopy_request r = good();
    struct xcopy_completion c[2];
    struct xcopy_context *no_context = NULL;
    struct xcopy_queue *no_queue = NULL;
    uint32_t handle = 77, mask;
    size_t used;
    char buffer[8];

    CHECK_REFUSED(xcopy_submit(NULL, &r, sizeof r, 1), EINVAL);
    CHECK_REFUSED(xcopy_submit(queue, NULL, sizeof r, 1), EINVAL);
    CHECK_REFUSED(xcopy_submit(queue, &r, sizeof r - 8, 1), EINVAL);
    CHECK_REFUSED(xcopy_submit(queue, &r, 0, 1), EINVAL);
    CHECK_REFUSED(xcopy_submit(queue, &r, sizeof r + 4, 1), EINVAL);
    CHECK_REFUSED(xcopy_poll(NULL, c, sizeof c[0], 0, 1, 0), EINVAL);
    CHECK_REFUSED(xcopy_poll(queue, NULL, sizeof c[0], 0, 1, 0), EINVAL);
    CHECK_REFUSED(xcopy_poll(queue, c, sizeof c[0] - 8, 0, 1, 0), EINVAL);
    CHECK_EQ(xcopy_poll(queue, c, sizeof c[0], 2, 1, 0), 0); /* min is cut to max */
    CHECK_REFUSED(xcopy_queue_fd(NULL), EINVAL);
    CHECK_REFUSED(xcopy_queue_arm(NULL), EINVAL);
    CHECK_REFUSED(xcopy_queue_disarm(NULL), EINVAL);
    CHECK_REFUSED(xcopy_queue_ready(NULL), EINVAL);
    CHECK_REFUSED(xcopy_queue_in_flight(NULL), EINVAL);
    CHECK_REFUSED(xcopy_queue_drain(NULL), EINVAL);
    CHECK_REFUSED(xcopy_queue_resume(NULL), EINVAL);
    CHECK_REFUSED(xcopy_queue_stats(NULL, NULL, 0), EINVAL);
    CHECK_REFUSED(xcopy_queue_stats(queue, NULL, sizeof(struct xcopy_queue_stats)), EINVAL);
    CHECK_EQ(xcopy_queue_destroy(NULL, 0), 0);
    CHECK_REFUSED(xcopy_queue_destroy(queue, 2), EINVAL);
    CHECK_REFUSED(xcopy_cancel(NULL, 1), EINVAL);
    CHECK_REFUSED(xcopy_cancel(queue, 12345), ENOENT);
    CHECK_REFUSED(xcopy_cancel_device(NULL, src), EINVAL);
    struct xcopy_progress progress;
    CHECK_REFUSED(xcopy_progress(queue, 12345, &progress, sizeof progress), ENOENT);

    CHECK_REFUSED(xcopy_context_create(NULL, NULL), EINVAL);
    CHECK_EQ(xcopy_context_free(NULL), 0);
    CHECK_REFUSED(xcopy_context_options_init(NULL, 64), EINVAL);
    CHECK_REFUSED(xcopy_queue_options_init(NULL, 64), EINVAL);
    CHECK_REFUSED(xcopy_queue_create(NULL, NULL, &no_queue), EINVAL);
    CHECK_REFUSED(xcopy_queue_create(ctx, NULL, NULL), EINVAL);
    CHECK_REFUSED(xcopy_plugin_load(NULL, "null"), EINVAL);
    CHECK_REFUSED(xcopy_plugin_load(ctx, NULL), EINVAL);
    CHECK_REFUSED(xcopy_plugin_load_all(NULL, NULL), EINVAL);
    CHECK_REFUSED(xcopy_plugin_register(ctx, NULL), EINVAL);
    CHECK_REFUSED(xcopy_plugin_count(NULL), EINVAL);
    CHECK_REFUSED(xcopy_plugin_info(ctx, 0, NULL, sizeof(struct xcopy_plugin_info)), EINVAL);
    CHECK_REFUSED(xcopy_device_open(NULL, src_path, XCOPY_OPEN_READ, &handle), EINVAL);
    CHECK_REFUSED(xcopy_device_open(ctx, NULL, XCOPY_OPEN_READ, &handle), EINVAL);
    CHECK_REFUSED(xcopy_device_open(ctx, src_path, XCOPY_OPEN_READ, NULL), EINVAL);
    CHECK_REFUSED(xcopy_device_open_fd(ctx, src_fd, XCOPY_OPEN_READ, NULL), EINVAL);
    CHECK_REFUSED(xcopy_device_open_native(ctx, NULL, &handle, XCOPY_OPEN_READ, &handle), EINVAL);
    CHECK_REFUSED(xcopy_device_close(NULL, src), EINVAL);
    CHECK_REFUSED(xcopy_device_info(ctx, src, NULL, sizeof(struct xcopy_device_info)), EINVAL);
    CHECK_REFUSED(xcopy_device_events(ctx, src, NULL), EINVAL);
    CHECK_REFUSED(xcopy_pair_query(ctx, src, dst, NULL, sizeof(struct xcopy_method_info), 1), EINVAL);
    struct xcopy_method_info method;
    memset(&method, 0x5a, sizeof method);
    for (size_t stride = 0; stride < sizeof method; stride++)
        CHECK_REFUSED(xcopy_pair_query(ctx, src, dst, &method, stride, 1), EINVAL);
    CHECK_EQ(method.method, 0x5a5a); /* nothing was written */
    CHECK(xcopy_pair_query(ctx, src, dst, &method, sizeof method, 1) >= 1);
    CHECK(xcopy_pair_query(ctx, src, dst, NULL, 0, 0) >= 1); /* only the number */
    CHECK_REFUSED(xcopy_method_mask(ctx, NULL, &mask), EINVAL);
    CHECK_REFUSED(xcopy_method_mask(ctx, "read_write", NULL), EINVAL);
    CHECK_REFUSED(xcopy_token_create(ctx, NULL), EINVAL);
    CHECK_REFUSED(xcopy_token_info(ctx, token, NULL, sizeof(struct xcopy_token_info)), EINVAL);
    CHECK_REFUSED(xcopy_token_export(ctx, token, NULL, 8, &used), EINVAL);
    CHECK_REFUSED(xcopy_token_export(ctx, token, buffer, sizeof buffer, NULL), EINVAL);
    CHECK_REFUSED(xcopy_token_import(ctx, NULL, 8, &handle), EINVAL);
    CHECK_REFUSED(xcopy_detail_string(UINT64_C(1) << XCOPY_DETAIL_DOMAIN_SHIFT, NULL, 8), EINVAL);
    CHECK(no_context == NULL && no_queue == NULL);
    CHECK_EQ(xcopy_struct_size(NULL), 0);
    CHECK_EQ(xcopy_struct_size("xcopy_nothing"), 0);
    CHECK(xcopy_reason_string(60000) != NULL);
    CHECK(xcopy_method_name(NULL, 31) == NULL);
    check_untouched("the pointers");
}

static void refuse_strides(void)
{
    struct {
        struct xcopy_request request;
        uint64_t later;
    } longer[2];
    memset(longer, 0, sizeof longer);
    longer[0].request = good();
    longer[1].request = good();
    longer[0].later = 1;
    CHECK_REFUSED(xcopy_submit(queue, &longer[0].request, sizeof longer[0], 2), E2BIG);
    check_untouched("a longer request");
    /* The second of two is refused: the first is accepted, the text tells why
     * the second was not, and giving it again says the same. */
    struct xcopy_request two[2] = {good(), good()};
    struct xcopy_completion c;
    two[0].op = XCOPY_OP_PREPARE;
    two[0].length = 0;
    two[1].reserved = 1;
    CHECK_EQ(xcopy_submit(queue, two, sizeof two[0], 2), 1);
    CHECK(xcopy_last_error()[0] != '\0');
    CHECK_REFUSED(xcopy_submit(queue, &two[1], sizeof two[0], 1), EINVAL);
    CHECK_EQ(xcopy_poll(queue, &c, sizeof c, 1, 1, INT64_C(10000000000)), 1);
    CHECK_EQ(c.res, 0);
    check_untouched("the second of two");
}

static void *some_alloc(void *alloc_ctx, size_t size, size_t align)
{
    (void)alloc_ctx;
    return aligned_alloc(align, size);
}

static void refuse_options(void)
{
    struct xcopy_context_options c;
    struct xcopy_queue_options q;
    struct xcopy_context *context = NULL;
    struct xcopy_queue *made = NULL;
#define CONTEXT(change)                                           \
    do {                                                          \
        CHECK_OK(xcopy_context_options_init(&c, sizeof c));       \
        change;                                                   \
        CHECK_REFUSED(xcopy_context_create(&c, &context), EINVAL); \
        CHECK(context == NULL);                                   \
    } while (0)
    CONTEXT(c.size = 0);
    CONTEXT(c.size = 4);
    CONTEXT(c.flags = 1);
    CONTEXT(c.pool_threads = UINT32_MAX);
    CONTEXT(c.alloc = some_alloc); /* without a free */
    CONTEXT(c.memory_budget = 0);
    CONTEXT(c.memory_budget = 65535);
#define QUEUE(change)                                                \
    do {                                                             \
        CHECK_OK(xcopy_queue_options_init(&q, sizeof q));            \
        change;                                                      \
        CHECK_REFUSED(xcopy_queue_create(ctx, &q, &made), EINVAL);   \
        CHECK(made == NULL);                                         \
    } while (0)
    QUEUE(q.size = 0);
    QUEUE(q.size = 4);
    QUEUE(q.flags = 1u << 31);
    QUEUE(q.reserved = 1);
    QUEUE(q.capacity = 0);
    QUEUE(q.capacity = 65537);
    QUEUE(q.window = 65537);
}

static void refuse_opens(void)
{
    uint32_t device = 77;
    char path[320];
    int fd;
    CHECK_REFUSED(xcopy_device_open(ctx, src_path, 0, &device), EINVAL);
    CHECK_REFUSED(xcopy_device_open(ctx, src_path, XCOPY_OPEN_FORCE, &device), EINVAL);
    CHECK_REFUSED(xcopy_device_open(ctx, src_path, XCOPY_OPEN_READ | 1u << 31, &device), EINVAL);
    CHECK_REFUSED(xcopy_device_open(ctx, "", XCOPY_OPEN_READ, &device), ENOENT);
    CHECK_REFUSED(xcopy_device_open(ctx, "/nonexistent/file", XCOPY_OPEN_READ, &device), ENOENT);
    CHECK_REFUSED(xcopy_device_open(ctx, "null:nonsense", XCOPY_OPEN_READ, &device), EINVAL);
    CHECK_REFUSED(xcopy_device_open_fd(ctx, -1, XCOPY_OPEN_READ, &device), EBADF);
    CHECK_REFUSED(xcopy_device_open_fd(ctx, 1000000, XCOPY_OPEN_READ, &device), EBADF);
    CHECK_REFUSED(xcopy_device_open_native(ctx, "nothing", &fd, XCOPY_OPEN_READ, &device), ENOENT);
    /* What is not storage. */
    int answer = xcopy_device_open(ctx, stamp_directory, XCOPY_OPEN_READ, &device);
    CHECK(answer == -EISDIR || answer == -EINVAL || answer == -ENOTSUP);
    answer = xcopy_device_open(ctx, "/dev/null", XCOPY_OPEN_READ, &device);
    CHECK(answer == -EINVAL || answer == -ENOTSUP || answer == -ENOTBLK);
    stamp_path("fifo", path, sizeof path);
    REQUIRE(mkfifo(path, 0600) == 0);
    answer = xcopy_device_open(ctx, path, XCOPY_OPEN_READ, &device);
    CHECK(answer == -EINVAL || answer == -ENOTSUP);
    CHECK(xcopy_last_error()[0] != '\0');
    /* An fd that cannot do what the flags say. */
    fd = open(src_path, O_RDONLY | O_CLOEXEC);
    answer = xcopy_device_open_fd(ctx, fd, XCOPY_OPEN_WRITE, &device);
    CHECK(answer == -EACCES || answer == -EBADF || answer == -EROFS);
    close(fd);
    fd = open(dst_path, O_WRONLY | O_CLOEXEC);
    answer = xcopy_device_open_fd(ctx, fd, XCOPY_OPEN_READ, &device);
    CHECK(answer == -EACCES || answer == -EBADF);
    close(fd);
    fd = open(dst_path, O_RDWR | O_APPEND | O_CLOEXEC);
    CHECK_REFUSED(xcopy_device_open_fd(ctx, fd, XCOPY_OPEN_WRITE, &device), EINVAL);
    close(fd);
    fd = open(src_path, O_PATH | O_CLOEXEC);
    CHECK_REFUSED(xcopy_device_open_fd(ctx, fd, XCOPY_OPEN_READ, &device), EBADF);
    close(fd);
    CHECK(device == 77 || device == XCOPY_HANDLE_NONE);
    check_untouched("the opens");
}

static void refuse_plugins_and_text(void)
{
    uint32_t mask = 5;
    struct xcopy_plugin_info info;
    int count = xcopy_plugin_count(ctx);
    CHECK_REFUSED(xcopy_plugin_load(ctx, "null"), EEXIST);
    CHECK_REFUSED(xcopy_plugin_load(ctx, "nothing_of_the_kind"), ENOENT);
    CHECK_REFUSED(xcopy_plugin_load(ctx, "Bad-Name"), EINVAL);
    CHECK_REFUSED(xcopy_plugin_load(ctx, ""), EINVAL);
    int answer = xcopy_plugin_load(ctx, src_path);
    CHECK(answer == -EINVAL || answer == -ENOEXEC || answer == -ELIBBAD);
    CHECK_EQ(xcopy_plugin_count(ctx), count);
    CHECK_REFUSED(xcopy_plugin_info(ctx, (uint32_t)count, &info, sizeof info), ENOENT);
    CHECK_REFUSED(xcopy_method_mask(ctx, "read_write,nonsense", &mask), EINVAL);
    CHECK(strstr(xcopy_last_error(), "nonsense") != NULL);
    CHECK_EQ(mask, 5);
    CHECK_REFUSED(xcopy_token_import(ctx, "junk", 4, &mask), EINVAL);
    size_t used = 0;
    char buffer[16];
    answer = xcopy_token_export(ctx, token, buffer, sizeof buffer, &used);
    CHECK_REFUSED(answer, EINVAL); /* empty */
}

int main(void)
{
    uint32_t second;
    null_pairs_make(&pairs, 16);
    ctx = pairs.ctx;
    queue = pairs.queue;
    src_fd = stamp_file("src", src_path, sizeof src_path, SRC_DISK, BLOCKS, 1);
    dst_fd = stamp_file("dst", dst_path, sizeof dst_path, DST_DISK, BLOCKS, 1);
    REQUIRE(xcopy_device_open(ctx, src_path, XCOPY_OPEN_READ, &src) == 0);
    REQUIRE(xcopy_device_open(ctx, dst_path, XCOPY_OPEN_WRITE, &dst) == 0);
    REQUIRE(xcopy_device_open(ctx, dst_path, XCOPY_OPEN_READ, &src_only_dst) == 0);
    REQUIRE(xcopy_device_open(ctx, dst_path, XCOPY_OPEN_READ | XCOPY_OPEN_WRITE, &both) == 0);
    REQUIRE(xcopy_device_open(ctx, src_path, XCOPY_OPEN_READ | XCOPY_OPEN_WRITE, &stale) == 0);
    REQUIRE(xcopy_device_close(ctx, stale) == 0);
    REQUIRE(xcopy_device_open(ctx, src_path, XCOPY_OPEN_READ, &second) == 0);
    CHECK(second != stale);
    REQUIRE(xcopy_token_create(ctx, &token) == 0);

    refuse_words();
    refuse_handles();
    refuse_ranges();
    refuse_long_lists();
    refuse_blocks();
    refuse_pointers();
    refuse_strides();
    refuse_options();
    refuse_opens();
    refuse_plugins_and_text();

    /* After all that, a good request works. */
    struct xcopy_request r = good();
    struct xcopy_completion c;
    CHECK_EQ(xcopy_submit(queue, &r, sizeof r, 1), 1);
    CHECK_EQ(xcopy_poll(queue, &c, sizeof c, 1, 1, INT64_C(10000000000)), 1);
    CHECK_EQ(c.res, 0);
    CHECK_EQ(c.bytes_done, 4096);
    CHECK_EQ(stamp_wrong(dst_fd, 0, SRC_DISK, 0, 1, 8), 0);
    CHECK_EQ(stamp_wrong(dst_fd, 8, DST_DISK, 8, 1, BLOCKS - 8), 0);

    CHECK_EQ(xcopy_token_free(ctx, token), 0);
    CHECK_REFUSED(xcopy_token_free(ctx, token), EBADF);
    CHECK_REFUSED(xcopy_context_free(ctx), EBUSY);
    null_pairs_free(&pairs);
    stamp_clean();
    return check_done();
}
