/* Bugs for the sanitizers to find: what a caller must not do, such that the wrong
 * access happens inside the library. A sanitizer that stays silent here sees
 * nothing of the library. Not one of the C programs: ctests/sanitize/run only. */
#include "../c/late_plugin.h"

static struct xcopy_context *ctx;
static struct xcopy_queue *queue;
static uint32_t src, dst;

static struct xcopy_request copy(uint64_t user_data)
{
    struct xcopy_request request;
    memset(&request, 0, sizeof request);
    request.user_data = user_data;
    request.op = XCOPY_OP_COPY;
    request.src = src;
    request.dst = dst;
    request.length = 4096;
    return request;
}

static void take(int n)
{
    struct xcopy_completion done;
    while (n > 0) {
        int taken = xcopy_poll(queue, &done, sizeof done, 1, 1, INT64_C(5000000000));
        REQUIRE(taken == 1);
        n -= taken;
    }
}

/* The ranges are not there any more when the library reads them. */
static void freed_ranges(void)
{
    struct xcopy_range *ranges = calloc(4, sizeof *ranges);
    struct xcopy_ext ext;
    struct xcopy_request request = copy(1);
    for (uint64_t i = 0; i < 4; i++) {
        ranges[i].src_offset = ranges[i].dst_offset = i * 4096;
        ranges[i].length = 4096;
    }
    memset(&ext, 0, sizeof ext);
    ext.size = sizeof ext;
    ext.ranges = ranges;
    ext.nranges = 4;
    request.length = 0;
    request.ext = &ext;
    free(ranges);
    CHECK_EQ(xcopy_submit(queue, &request, sizeof request, 1), 1);
    take(1);
}

/* The library is told of more places than there are. */
static void short_completions(void)
{
    struct xcopy_completion *done = malloc(sizeof *done);
    for (uint64_t i = 0; i < 4; i++) {
        struct xcopy_request request = copy(i);
        CHECK_EQ(xcopy_submit(queue, &request, sizeof request, 1), 1);
    }
    CHECK_EQ(xcopy_poll(queue, done, sizeof *done, 4, 4, INT64_C(5000000000)), 4);
    free(done);
}

/* A context that nobody frees, and nobody knows. */
static void lost_context(void)
{
    struct xcopy_context *volatile lost = NULL;
    struct xcopy_context *made;
    REQUIRE(xcopy_context_create(NULL, &made) == 0);
    lost = made;
    made = NULL;
    lost = NULL;
    (void)lost;
}

static volatile int handed_over;

static void *second_owner(void *arg)
{
    (void)arg;
    while (!handed_over)
        ;
    take(1);
    return NULL;
}

/* A queue that goes to another thread without a word. */
static void quiet_handover(void)
{
    pthread_t thread;
    struct xcopy_request request = copy(1);
    REQUIRE(pthread_create(&thread, NULL, second_owner, NULL) == 0);
    CHECK_EQ(xcopy_submit(queue, &request, sizeof request, 1), 1);
    handed_over = 1;
    pthread_join(thread, NULL);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } bugs[] = {
        {"freed-ranges", freed_ranges},
        {"short-completions", short_completions},
        {"lost-context", lost_context},
        {"quiet-handover", quiet_handover},
    };
    REQUIRE(xcopy_context_create(NULL, &ctx) == 0);
    REQUIRE(xcopy_plugin_register(ctx, late_init) >= 0);
    REQUIRE(xcopy_queue_create(ctx, NULL, &queue) == 0);
    REQUIRE(xcopy_device_open(ctx, "late:a", XCOPY_OPEN_READ, &src) == 0);
    REQUIRE(xcopy_device_open(ctx, "late:b", XCOPY_OPEN_WRITE, &dst) == 0);
    for (size_t i = 0; i < sizeof bugs / sizeof bugs[0]; i++)
        if (argc == 2 && strcmp(argv[1], bugs[i].name) == 0)
            bugs[i].run();
    CHECK_EQ(xcopy_queue_destroy(queue, 0), 0);
    CHECK_EQ(xcopy_context_free(ctx), 0);
    return check_done();
}
