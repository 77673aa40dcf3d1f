/* pthread_cancel during a blocking xcopy_poll: no unwinding through the
 * library; poll returns with its completion, and the thread ends afterwards. */
#include "hung_plugin.h"
#include <pthread.h>
#include <signal.h>
#include <time.h>

static struct xcopy_context *ctx;
static struct xcopy_queue *queue;
static uint32_t src, dst;
static volatile int in_poll, returned, beyond;

static void sleep_ms(long ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

static void *owner(void *arg)
{
    struct xcopy_completion completion;
    struct xcopy_request request;
    (void)arg;
    memset(&request, 0, sizeof request);
    request.op = XCOPY_OP_COPY;
    request.user_data = 5;
    request.src = src;
    request.dst = dst;
    request.length = 4096;
    request.timeout_ms = 600;
    if (xcopy_submit(queue, &request, sizeof request, 1) != 1)
        return NULL;
    in_poll = 1;
    int n = xcopy_poll(queue, &completion, sizeof completion, 1, 1, INT64_C(5000000000));
    returned = n == 1 && completion.user_data == 5 ? 1 : -1;
    pthread_testcancel();
    beyond = 1;
    return NULL;
}

static void on_signal(int number)
{
    (void)number;
}

struct wait {
    struct xcopy_request request;
    int answer, after;
};

static void *interrupted(void *arg)
{
    struct xcopy_completion completion;
    struct wait *wait = arg;
    if (xcopy_submit(queue, &wait->request, sizeof wait->request, 1) != 1)
        return NULL;
    in_poll = 2;
    wait->answer =
        xcopy_poll(queue, &completion, sizeof completion, 1, 1, INT64_C(5000000000));
    hung.release = 1;
    if (xcopy_poll(queue, &completion, sizeof completion, 1, 1, INT64_C(5000000000)) == 1)
        wait->after = (int)completion.user_data;
    return NULL;
}

int main(void)
{
    pthread_t thread;
    void *result;

    hung.obey = 1;
    REQUIRE(xcopy_context_create(NULL, &ctx) == 0);
    REQUIRE(xcopy_plugin_register(ctx, hung_init) >= 0);
    REQUIRE(xcopy_queue_create(ctx, NULL, &queue) == 0);
    REQUIRE(xcopy_device_open(ctx, "hung:a", XCOPY_OPEN_READ, &src) == 0);
    REQUIRE(xcopy_device_open(ctx, "hung:b", XCOPY_OPEN_WRITE, &dst) == 0);

    REQUIRE(pthread_create(&thread, NULL, owner, NULL) == 0);
    for (int i = 0; i < 1000 && !in_poll; i++)
        sleep_ms(1);
    sleep_ms(100);
    CHECK_EQ(returned, 0);
    CHECK_EQ(pthread_cancel(thread), 0);
    CHECK_EQ(pthread_join(thread, &result), 0);
    CHECK(result == PTHREAD_CANCELED);
    CHECK_EQ(returned, 1);
    CHECK_EQ(beyond, 0);
    CHECK_EQ(xcopy_queue_in_flight(queue), 0);

    /* The queue is idle: this thread may have it. Then another one waits, and a
     * signal ends its wait. */
    struct xcopy_request request;
    struct xcopy_completion completion;
    struct sigaction action;
    hung.obey = 0;
    memset(&request, 0, sizeof request);
    request.op = XCOPY_OP_COPY;
    request.user_data = 6;
    request.src = src;
    request.dst = dst;
    request.length = 4096;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    sigaction(SIGUSR1, &action, NULL);
    CHECK_EQ(xcopy_submit(queue, &request, sizeof request, 1), 1);
    hung.release = 1;
    CHECK_EQ(xcopy_poll(queue, &completion, sizeof completion, 1, 1, INT64_C(5000000000)), 1);
    CHECK_EQ(completion.res, 0);
    CHECK_EQ(completion.user_data, 6);

    struct wait wait = {.request = request, .answer = 1};
    wait.request.user_data = 7;
    REQUIRE(pthread_create(&thread, NULL, interrupted, &wait) == 0);
    for (int i = 0; i < 1000 && in_poll != 2; i++)
        sleep_ms(1);
    sleep_ms(100);
    pthread_kill(thread, SIGUSR1);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(wait.answer, -EINTR);
    CHECK_EQ(wait.after, 7);

    CHECK_EQ(xcopy_queue_destroy(queue, 0), 0);
    CHECK_EQ(xcopy_context_free(ctx), 0);
    return check_done();
}
