/* One phase of the library's life after the other, for a tracer that wants to
 * know which system calls each of them uses. A phase begins with a write to no
 * file, whose text names it.
 *
 *   phases BACKEND SRC DST
 *
 * BACKEND is null, file or disk: the name under which the calls are listed. */
#include "../c/check.h"
#include <fcntl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { LENGTH = 1 << 20 };

static struct xcopy_context *ctx;
static struct xcopy_queue *queue;
static uint32_t src, dst;
static const char *backend;

static void phase(const char *name)
{
    char text[64];
    int n = snprintf(text, sizeof text, "phase %s %s", backend, name);
    if (write(-1, text, (size_t)n) >= 0)
        exit(3);
}

static struct xcopy_request request(uint16_t op)
{
    struct xcopy_request request;
    memset(&request, 0, sizeof request);
    request.user_data = 1;
    request.op = op;
    request.src = op == XCOPY_OP_COPY || op == XCOPY_OP_PREPARE ? src : 0;
    request.dst = dst;
    request.length = op == XCOPY_OP_COPY || op == XCOPY_OP_ZERO ? LENGTH : 0;
    return request;
}

/* Busy until it ended: no wait of the consumer's own is in the trace. */
static int spin(const struct xcopy_request *request)
{
    struct xcopy_completion done;
    int n;
    if (!CHECK_EQ(xcopy_submit(queue, request, sizeof *request, 1), 1))
        return -1;
    while ((n = xcopy_poll(queue, &done, sizeof done, 0, 1, 0)) == 0)
        ;
    return CHECK_EQ(n, 1) ? done.res : -1;
}

static void copy_by(const char *method)
{
    struct xcopy_request copy = request(XCOPY_OP_COPY);
    REQUIRE(xcopy_method_mask(ctx, method, &copy.methods) == 0);
    phase(method);
    for (int i = 0; i < 4; i++)
        spin(&copy); /* what this file system refuses is refused */
}

int main(int argc, char **argv)
{
    struct xcopy_request one;
    struct xcopy_completion done;
    const struct timespec rest = {0, 50 * 1000 * 1000};
    int native;

    if (argc != 4)
        return 2;
    backend = argv[1];
    native = strcmp(backend, "null") == 0;

    phase("context");
    REQUIRE(xcopy_context_create(NULL, &ctx) == 0);
    phase("load");
    REQUIRE(xcopy_plugin_load(ctx, native ? "null" : "file") >= 0);
    phase("queue");
    REQUIRE(xcopy_queue_create(ctx, NULL, &queue) == 0);
    phase("open");
    REQUIRE(xcopy_device_open(ctx, argv[2], XCOPY_OPEN_READ, &src) == 0);
    REQUIRE(xcopy_device_open(ctx, argv[3], XCOPY_OPEN_WRITE, &dst) == 0);
    phase("prepare");
    one = request(XCOPY_OP_PREPARE);
    CHECK_EQ(spin(&one), 0);

    one = request(XCOPY_OP_COPY);
    CHECK_EQ(spin(&one), 0);
    nanosleep(&rest, NULL); /* the pool's threads go to sleep */
    phase("copy");
    for (int i = 0; i < 64; i++)
        CHECK_EQ(spin(&one), 0);
    phase("deadline");
    one.timeout_ms = 60000;
    for (int i = 0; i < 64; i++)
        CHECK_EQ(spin(&one), 0);
    one.timeout_ms = 0;
    phase("armed");
    CHECK_OK(xcopy_queue_arm(queue));
    for (int i = 0; i < 64; i++)
        CHECK_EQ(spin(&one), 0);
    CHECK_OK(xcopy_queue_disarm(queue));
    phase("wait");
    for (int i = 0; i < 64; i++) {
        CHECK_EQ(xcopy_submit(queue, &one, sizeof one, 1), 1);
        CHECK_EQ(xcopy_poll(queue, &done, sizeof done, 1, 1, INT64_C(20000000000)), 1);
    }
    if (!native) {
        copy_by("read_write");
        copy_by("copy_file_range");
        copy_by("sendfile");
        phase("zero");
        one = request(XCOPY_OP_ZERO);
        CHECK_EQ(spin(&one), 0);
        phase("durable");
        one = request(XCOPY_OP_COPY);
        one.flags = XCOPY_REQ_DURABLE;
        CHECK_EQ(spin(&one), 0);
        phase("flush");
        one = request(XCOPY_OP_FLUSH);
        CHECK_EQ(spin(&one), 0);
    }
    phase("query");
    CHECK_OK(xcopy_pair_query(ctx, src, dst, NULL, 0, 0));
    CHECK_OK(xcopy_device_invalidate(ctx, src));
    phase("close");
    CHECK_OK(xcopy_device_close(ctx, src));
    CHECK_OK(xcopy_device_close(ctx, dst));
    phase("destroy");
    CHECK_EQ(xcopy_queue_destroy(queue, 0), 0);
    phase("free");
    CHECK_EQ(xcopy_context_free(ctx), 0);
    phase("end");
    return check_done();
}
