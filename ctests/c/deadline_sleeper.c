/* A consumer that only sleeps on the queue's fd is woken by a deadline although
 * the plugin hangs and nothing else happens. */
#include "hung_plugin.h"
#include <poll.h>
#include <time.h>

static struct xcopy_context *ctx;
static struct xcopy_queue *queue;
static uint32_t src, dst;

static long now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void submit(uint64_t user_data, uint32_t timeout_ms, uint32_t flags)
{
    struct xcopy_request request;
    memset(&request, 0, sizeof request);
    request.user_data = user_data;
    request.op = XCOPY_OP_COPY;
    request.flags = flags;
    request.src = src;
    request.dst = dst;
    request.length = 65536;
    request.timeout_ms = timeout_ms;
    CHECK_EQ(xcopy_submit(queue, &request, sizeof request, 1), 1);
}

/* Sleeps on the fd only, as an event loop would, until a completion comes. */
static int sleep_for(struct xcopy_completion *completion, int limit_ms, int *wakeups)
{
    long end = now_ms() + limit_ms;
    *wakeups = 0;
    for (;;) {
        struct pollfd wait = {.fd = xcopy_queue_fd(queue), .events = POLLIN};
        long left = end - now_ms();
        if (left <= 0)
            return 0;
        if (poll(&wait, 1, (int)left) < 0 && errno != EINTR)
            return -errno;
        ++*wakeups;
        int n = xcopy_poll(queue, completion, sizeof *completion, 0, 1, 0);
        if (n != 0)
            return n;
    }
}

static long now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* No deadline passes before its time, however far a clock that only follows the
 * ticks lags at the submit: asked at moments that are spread over a tick. */
static void never_early(void)
{
    enum { ROUNDS = 300 };
    struct xcopy_completion completion;
    int early = 0;
    long least = 0;
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t timeout_ms = 1 + round % 5;
        struct timespec pause = {.tv_nsec = (round * 7919 % 5000) * 1000};
        nanosleep(&pause, NULL);
        long start = now_us();
        submit(100, timeout_ms, 0);
        CHECK_EQ(xcopy_poll(queue, &completion, sizeof completion, 1, 1, 5000000000), 1);
        long spare = now_us() - start - (long)timeout_ms * 1000;
        CHECK_EQ(completion.res, -ETIMEDOUT);
        early += spare < 0;
        least = spare < least ? spare : least;
    }
    CHECK_EQ(early, 0);
    if (early > 0)
        fprintf(stderr, "    %d of %d early, by up to %ld us\n", early, ROUNDS, -least);
}

int main(void)
{
    struct xcopy_completion completion;
    struct xcopy_queue_stats stats;
    int wakeups;

    REQUIRE(xcopy_context_create(NULL, &ctx) == 0);
    REQUIRE(xcopy_plugin_register(ctx, hung_init) >= 0);
    REQUIRE(xcopy_queue_create(ctx, NULL, &queue) == 0);
    REQUIRE(xcopy_device_open(ctx, "hung:a", XCOPY_OPEN_READ, &src) == 0);
    REQUIRE(xcopy_device_open(ctx, "hung:b", XCOPY_OPEN_WRITE, &dst) == 0);
    REQUIRE(xcopy_queue_fd(queue) >= 0);
    CHECK_EQ(xcopy_queue_arm(queue), 0);

    struct xcopy_request prepare;
    memset(&prepare, 0, sizeof prepare);
    prepare.op = XCOPY_OP_PREPARE;
    prepare.src = src;
    prepare.dst = dst;
    CHECK_EQ(xcopy_submit(queue, &prepare, sizeof prepare, 1), 1);
    CHECK_EQ(sleep_for(&completion, 5000, &wakeups), 1);
    CHECK_EQ(completion.res, 0);

    /* The plugin obeys a cancel: the request settles, with the deadline's error. */
    hung.obey = 1;
    long start = now_ms();
    submit(1, 150, 0);
    CHECK_EQ(sleep_for(&completion, 5000, &wakeups), 1);
    long took = now_ms() - start;
    CHECK_EQ(completion.user_data, 1);
    CHECK_EQ(completion.res, -ETIMEDOUT);
    CHECK_EQ(completion.flags & XCOPY_CPL_UNSETTLED, 0);
    CHECK_EQ(completion.bytes_done, 0);
    CHECK(took >= 150 && took < 2000);
    if (!CHECK(wakeups < 100))
        fprintf(stderr, "    %d wake-ups\n", wakeups);
    CHECK_EQ(hung.cancels, 1);
    never_early();

    /* It does not obey, and the caller does not want to wait. */
    hung.obey = 0;
    start = now_ms();
    submit(2, 150, XCOPY_REQ_ABANDON_ON_TIMEOUT);
    CHECK_EQ(sleep_for(&completion, 5000, &wakeups), 1);
    took = now_ms() - start;
    CHECK_EQ(completion.user_data, 2);
    CHECK_EQ(completion.res, -ETIMEDOUT);
    CHECK(completion.flags & XCOPY_CPL_UNSETTLED);
    CHECK(completion.flags & XCOPY_CPL_INDETERMINATE);
    CHECK_EQ(completion.bytes_done, 0);
    CHECK(took >= 150 && took < 2000);
    if (!CHECK(wakeups < 100))
        fprintf(stderr, "    %d wake-ups\n", wakeups);

    /* The late answer is swallowed and counted. */
    CHECK_EQ(hung.n, 1);
    hung.release = 1;
    CHECK_EQ(xcopy_poll(queue, &completion, sizeof completion, 0, 1, 0), 0);
    CHECK_EQ(hung.n, 0);
    CHECK_OK(xcopy_queue_stats(queue, &stats, sizeof stats));
    CHECK_EQ(stats.abandoned, 1);
    CHECK_EQ(stats.late_answers, 1);

    /* Neither obeys nor abandons: it stays in flight until the plugin answers. */
    submit(3, 50, 0);
    CHECK_EQ(sleep_for(&completion, 300, &wakeups), 0);
    CHECK_EQ(xcopy_queue_in_flight(queue), 1);
    CHECK_REFUSED(xcopy_queue_destroy(queue, 0), EBUSY);
    hung.release = 1;
    CHECK_EQ(xcopy_poll(queue, &completion, sizeof completion, 1, 1, 1000000000), 1);
    CHECK_EQ(completion.user_data, 3);
    /* Its last command ended well, so all of it was copied: that is the truth. */
    CHECK(completion.res == 0 || completion.res == -ETIMEDOUT);
    CHECK_EQ(completion.bytes_done, 65536);

    CHECK_EQ(xcopy_queue_destroy(queue, 0), 0);
    CHECK_EQ(xcopy_context_free(ctx), 0);
    CHECK_EQ(hung.fd, -1);
    return check_done();
}
