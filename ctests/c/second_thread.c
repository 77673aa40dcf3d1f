/* While the owner waits in xcopy_poll, each of the owner's calls is refused in any
 * other thread with -EBUSY and changes nothing: the wait ends well, and so does
 * everything after it. */
#include "hung_plugin.h"
#include <pthread.h>
#include <time.h>

static struct xcopy_context *ctx;
static struct xcopy_queue *queue;
static uint32_t src, dst;
static volatile int in_poll;

static struct xcopy_request copy_of(uint64_t user_data, uint32_t timeout_ms)
{
    struct xcopy_request request;
    memset(&request, 0, sizeof request);
    request.op = XCOPY_OP_COPY;
    request.user_data = user_data;
    request.src = src;
    request.dst = dst;
    request.length = 4096;
    request.timeout_ms = timeout_ms;
    return request;
}

static void *owner(void *arg)
{
    struct xcopy_completion completion;
    struct xcopy_request request = copy_of(5, 600);
    int *answer = arg;
    if (xcopy_submit(queue, &request, sizeof request, 1) != 1)
        return NULL;
    in_poll = 1;
    *answer = xcopy_poll(queue, &completion, sizeof completion, 1, 1, INT64_C(5000000000));
    if (*answer == 1 && completion.user_data != 5)
        *answer = -1;
    return NULL;
}

int main(void)
{
    const struct timespec moment = {0, 100000000};
    struct xcopy_completion completion;
    pthread_t thread;

    hung.obey = 1;
    REQUIRE(xcopy_context_create(NULL, &ctx) == 0);
    REQUIRE(xcopy_plugin_register(ctx, hung_init) >= 0);
    REQUIRE(xcopy_queue_create(ctx, NULL, &queue) == 0);
    REQUIRE(xcopy_device_open(ctx, "hung:a", XCOPY_OPEN_READ, &src) == 0);
    REQUIRE(xcopy_device_open(ctx, "hung:b", XCOPY_OPEN_WRITE, &dst) == 0);

    for (int round = 0; round < 3; round++) {
        int answer = 0;
        in_poll = 0;
        REQUIRE(pthread_create(&thread, NULL, owner, &answer) == 0);
        while (!in_poll)
            nanosleep(&moment, NULL);
        nanosleep(&moment, NULL);
        struct xcopy_request request = copy_of(10, 0);
        for (int again = 0; again < 3; again++) {
            CHECK_EQ(xcopy_queue_ready(queue), -EBUSY);
            CHECK_EQ(xcopy_submit(queue, &request, sizeof request, 1), -EBUSY);
            CHECK_EQ(xcopy_poll(queue, &completion, sizeof completion, 0, 1, 0), -EBUSY);
            CHECK_EQ(xcopy_queue_arm(queue), -EBUSY);
            CHECK_EQ(xcopy_queue_disarm(queue), -EBUSY);
            CHECK_EQ(xcopy_queue_destroy(queue, 0), -EBUSY);
            CHECK_EQ(xcopy_queue_destroy(queue, XCOPY_DESTROY_FORCE), -EBUSY);
        }
        /* Calls of any thread are none of the owner's. */
        CHECK_EQ(xcopy_queue_in_flight(queue), 1);
        REQUIRE(pthread_join(thread, NULL) == 0);
        CHECK_EQ(answer, 1);
        CHECK_EQ(xcopy_queue_in_flight(queue), 0);
        CHECK_EQ(xcopy_queue_ready(queue), 0);
    }
    CHECK_EQ(xcopy_queue_destroy(queue, 0), 0);
    CHECK_EQ(xcopy_context_free(ctx), 0);
    return check_done();
}
