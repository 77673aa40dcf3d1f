/* Loads one of the kept plugins and has it do everything it can: a file goes
 * into one of its devices, from there to another by its own copy, part of that
 * is zeroed, and it goes back to a file. Then: who called whose tail.
 *   loads PATH-OF-libxcopy_NAME.so NAME HOST-TAIL PLUGIN-TAIL   (0 or 1 each) */
#include "check.h"
#include "stamp.h"
#include <dlfcn.h>

enum { BLOCKS = 4096, ZEROED = 64 };

static struct xcopy_context *ctx;
static struct xcopy_queue *queue;

static struct xcopy_completion run(struct xcopy_request r, uint64_t bytes)
{
    struct xcopy_completion c;
    memset(&c, 0xff, sizeof c);
    CHECK_EQ(xcopy_submit(queue, &r, sizeof r, 1), 1);
    CHECK_EQ(xcopy_poll(queue, &c, sizeof c, 1, 1, INT64_C(30000000000)), 1);
    CHECK_EQ(c.res, 0);
    CHECK_EQ(c.bytes_done, bytes);
    return c;
}

static struct xcopy_completion copy(uint32_t src, uint32_t dst, uint32_t flags, uint32_t methods)
{
    struct xcopy_request r;
    memset(&r, 0, sizeof r);
    r.op = XCOPY_OP_COPY;
    r.flags = flags;
    r.methods = methods;
    r.src = src;
    r.dst = dst;
    r.length = BLOCKS * STAMP_BLOCK;
    return run(r, r.length);
}

static int number(void *object, const char *name)
{
    int *value = object == NULL ? NULL : dlsym(object, name);
    return value == NULL ? -1 : *value;
}

int main(int argc, char **argv)
{
    char src_path[320], dst_path[320], name[64];
    uint32_t src, dst, one, two, mask = 0, both = XCOPY_OPEN_READ | XCOPY_OPEN_WRITE;
    if (argc != 5)
        return 2;
    int src_fd = stamp_file("src", src_path, sizeof src_path, 1, BLOCKS, 1);
    int dst_fd = stamp_file("dst", dst_path, sizeof dst_path, 2, BLOCKS, 1);
    REQUIRE(xcopy_context_create(NULL, &ctx) == 0);
    REQUIRE(xcopy_plugin_load(ctx, argv[1]) >= 0);
    void *plugin = dlopen(argv[1], RTLD_NOW | RTLD_NOLOAD);
    CHECK(plugin != NULL);
    struct xcopy_plugin_info info;
    CHECK_OK(xcopy_plugin_info(ctx, 0, &info, sizeof info));
    CHECK_EQ(strcmp(info.name, argv[2]), 0);
    CHECK_EQ(info.abi_version >> 16, 0);
    CHECK_OK(xcopy_method_mask(ctx, argv[2], &mask));
    CHECK_EQ(info.methods, mask);
    REQUIRE(xcopy_queue_create(ctx, NULL, &queue) == 0);
    REQUIRE(xcopy_device_open(ctx, src_path, XCOPY_OPEN_READ, &src) == 0);
    REQUIRE(xcopy_device_open(ctx, dst_path, XCOPY_OPEN_WRITE, &dst) == 0);
    snprintf(name, sizeof name, "%s:%u", argv[2], BLOCKS * STAMP_BLOCK);
    REQUIRE(xcopy_device_open(ctx, name, both, &one) == 0);
    REQUIRE(xcopy_device_open(ctx, name, both, &two) == 0);

    CHECK(copy(src, one, 0, 0).flags & XCOPY_CPL_EMULATED);
    struct xcopy_completion c = copy(one, two, XCOPY_REQ_NO_FALLBACK, mask);
    CHECK_EQ(mask, UINT32_C(1) << c.method);
    CHECK_EQ(c.bytes_offloaded, BLOCKS * STAMP_BLOCK);
    struct xcopy_request zero;
    memset(&zero, 0, sizeof zero);
    zero.op = XCOPY_OP_ZERO;
    zero.flags = XCOPY_REQ_DURABLE;
    zero.dst = two;
    zero.dst_offset = ZEROED * STAMP_BLOCK;
    zero.length = ZEROED * STAMP_BLOCK;
    run(zero, zero.length);
    copy(two, dst, XCOPY_REQ_DURABLE, 0);
    CHECK_EQ(stamp_wrong(dst_fd, 0, 1, 0, 1, ZEROED), 0);
    CHECK_EQ(stamp_wrong(dst_fd, 2 * ZEROED, 1, 2 * ZEROED, 1, BLOCKS - 2 * ZEROED), 0);
    unsigned char block[STAMP_BLOCK];
    for (int i = ZEROED; i < 2 * ZEROED; i++) {
        CHECK_EQ(pread(dst_fd, block, sizeof block, (off_t)i * STAMP_BLOCK), sizeof block);
        CHECK_EQ(block[0] | memcmp(block, block + 1, sizeof block - 1), 0);
    }
    struct xcopy_method_info verdicts[XCOPY_METHOD_MAX];
    int n = xcopy_pair_query(ctx, one, two, verdicts, sizeof verdicts[0], XCOPY_METHOD_MAX), seen = 0;
    CHECK(n > 0);
    for (int i = 0; i < n; i++)
        if (strcmp(verdicts[i].name, argv[2]) == 0)
            seen += verdicts[i].usable && verdicts[i].limits.max_ranges == 4 &&
                    verdicts[i].limits.max_bytes == 1 << 20;
    CHECK_EQ(seen, 1);
    struct xcopy_queue_stats stats;
    CHECK_OK(xcopy_queue_stats(queue, &stats, sizeof stats));
    CHECK_EQ(stats.plugin_faults, 0);
    CHECK_EQ(stats.late_answers, 0);
    CHECK_EQ(stats.command_errors, 0);

    CHECK_EQ(xcopy_queue_destroy(queue, 0), 0);
    CHECK_EQ(xcopy_context_free(ctx), 0);
    CHECK_EQ(number(plugin, "kept_misplaced"), 0);
    CHECK_EQ(number(plugin, "kept_host_tail"), atoi(argv[3]));
    CHECK_EQ(number(plugin, "kept_plugin_tail"), atoi(argv[4]));
    close(src_fd);
    close(dst_fd);
    stamp_clean();
    return check_done();
}
