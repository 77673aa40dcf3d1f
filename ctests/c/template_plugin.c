/* The C template, loaded as a shared object: a file goes into one of its
 * devices, from there to another by the plugin's own copy, and back to a file.
 *   template_plugin PATH-OF-libxcopy_template.so */
#include "check.h"
#include "stamp.h"

enum { BLOCKS = 4096 };

static struct xcopy_context *ctx;
static struct xcopy_queue *queue;

static struct xcopy_completion copy(uint32_t src, uint32_t dst, uint32_t flags, uint32_t methods)
{
    struct xcopy_request r;
    struct xcopy_completion c;
    memset(&r, 0, sizeof r);
    memset(&c, 0xff, sizeof c);
    r.op = XCOPY_OP_COPY;
    r.flags = flags;
    r.methods = methods;
    r.src = src;
    r.dst = dst;
    r.length = BLOCKS * STAMP_BLOCK;
    CHECK_EQ(xcopy_submit(queue, &r, sizeof r, 1), 1);
    CHECK_EQ(xcopy_poll(queue, &c, sizeof c, 1, 1, INT64_C(30000000000)), 1);
    CHECK_EQ(c.res, 0);
    CHECK_EQ(c.bytes_done, BLOCKS * STAMP_BLOCK);
    return c;
}

int main(int argc, char **argv)
{
    char src_path[320], dst_path[320];
    uint32_t src, dst, one, two, mask = 0;
    if (argc < 2) {
        check_skip("no template plugin was named");
        return check_done();
    }
    int src_fd = stamp_file("src", src_path, sizeof src_path, 1, BLOCKS, 1);
    int dst_fd = stamp_file("dst", dst_path, sizeof dst_path, 2, BLOCKS, 1);
    REQUIRE(xcopy_context_create(NULL, &ctx) == 0);
    REQUIRE(xcopy_plugin_load(ctx, argv[1]) >= 0);
    REQUIRE(xcopy_queue_create(ctx, NULL, &queue) == 0);
    REQUIRE(xcopy_device_open(ctx, src_path, XCOPY_OPEN_READ, &src) == 0);
    REQUIRE(xcopy_device_open(ctx, dst_path, XCOPY_OPEN_WRITE, &dst) == 0);
    uint32_t both = XCOPY_OPEN_READ | XCOPY_OPEN_WRITE;
    REQUIRE(xcopy_device_open(ctx, "template:2097152", both, &one) == 0);
    REQUIRE(xcopy_device_open(ctx, "template:2097152", both, &two) == 0);

    CHECK(copy(src, one, 0, 0).flags & XCOPY_CPL_EMULATED);
    CHECK_OK(xcopy_method_mask(ctx, "template", &mask));
    struct xcopy_completion c = copy(one, two, 0, mask);
    CHECK_EQ(mask, UINT32_C(1) << c.method);
    copy(two, dst, XCOPY_REQ_DURABLE, 0);
    CHECK_EQ(stamp_wrong(dst_fd, 0, 1, 0, 1, BLOCKS), 0);

    CHECK_EQ(xcopy_queue_destroy(queue, 0), 0);
    CHECK_EQ(xcopy_context_free(ctx), 0);
    close(src_fd);
    close(dst_fd);
    stamp_clean();
    return check_done();
}
