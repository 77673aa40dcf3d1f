/* Signals: a storm of SIGALRM without SA_RESTART while copies run. A wait ends
 * early by -EINTR or with what there is, nothing is lost or doubled, deadlines
 * still fire, handlers run on the program's own threads only, and the library
 * leaves the masks and handlers of its callers alone. */
#include "hung_plugin.h"
#include "late_plugin.h"
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>
#include <time.h>

enum { REQUESTS = 3000, IN_FLIGHT = 32, STORM_US = 500 };

static int alarms, strangers;
static __thread volatile sig_atomic_t ours;

static void on_alarm(int number)
{
    (void)number;
    __atomic_fetch_add(&alarms, 1, __ATOMIC_RELAXED);
    if (!ours)
        __atomic_fetch_add(&strangers, 1, __ATOMIC_RELAXED);
}

static long now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void storm(int on)
{
    struct itimerval every = {{0, on ? STORM_US : 0}, {0, on ? STORM_US : 0}};
    REQUIRE(setitimer(ITIMER_REAL, &every, NULL) == 0);
}

/* Copies blocks between two devices under the storm; answers how often a wait
 * was interrupted. */
static int copies(struct xcopy_context *ctx, uint32_t src, uint32_t dst, uint32_t block,
                  uint32_t blocks)
{
    static unsigned char seen[REQUESTS];
    struct xcopy_queue *queue;
    int interrupted = 0, submitted = 0, completed = 0;

    memset(seen, 0, sizeof seen);
    REQUIRE(xcopy_queue_create(ctx, NULL, &queue) == 0);
    long end = now_ms() + 60000;
    while (completed < REQUESTS && now_ms() < end) {
        struct xcopy_completion done[8];
        while (submitted < REQUESTS && submitted - completed < IN_FLIGHT) {
            struct xcopy_request request;
            memset(&request, 0, sizeof request);
            request.user_data = (uint64_t)submitted;
            request.op = XCOPY_OP_COPY;
            request.src = src;
            request.dst = dst;
            request.src_offset = request.dst_offset = (uint64_t)submitted % blocks * block;
            request.length = block;
            int n = xcopy_submit(queue, &request, sizeof request, 1);
            if (n == -EAGAIN)
                break;
            if (!CHECK_EQ(n, 1))
                return -1;
            submitted++;
        }
        int n = xcopy_poll(queue, done, sizeof done[0], 8, 8, INT64_C(2000000000));
        if (n == -EINTR) {
            interrupted++;
            continue;
        }
        if (!CHECK(n >= 0))
            return -1;
        for (int i = 0; i < n; i++) {
            CHECK_EQ(done[i].res, 0);
            CHECK_EQ(done[i].bytes_done, block);
            if (CHECK(done[i].user_data < REQUESTS))
                CHECK_EQ(seen[done[i].user_data]++, 0);
        }
        completed += n;
    }
    CHECK_EQ(completed, REQUESTS);
    CHECK_EQ(xcopy_queue_in_flight(queue), 0);
    CHECK_EQ(xcopy_queue_destroy(queue, 0), 0);
    return interrupted;
}

static void files(void)
{
    enum { BLOCK = 65536, BLOCKS = 64 };
    static unsigned char data[BLOCK * BLOCKS], back[BLOCK * BLOCKS];
    char directory[] = "/tmp/xcopy-signals-XXXXXX", from[64], to[64];
    struct xcopy_context *ctx;
    uint32_t src, dst;

    REQUIRE(mkdtemp(directory) != NULL);
    snprintf(from, sizeof from, "%s/from", directory);
    snprintf(to, sizeof to, "%s/to", directory);
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)(i * 7 + i / 512);
    FILE *file = fopen(from, "wb");
    REQUIRE(file != NULL && fwrite(data, 1, sizeof data, file) == sizeof data);
    REQUIRE(fclose(file) == 0);
    file = fopen(to, "wb");
    REQUIRE(file != NULL && fclose(file) == 0 && truncate(to, sizeof data) == 0);

    REQUIRE(xcopy_context_create(NULL, &ctx) == 0);
    CHECK_OK(xcopy_plugin_load(ctx, "file"));
    REQUIRE(xcopy_device_open(ctx, from, XCOPY_OPEN_READ, &src) == 0);
    REQUIRE(xcopy_device_open(ctx, to, XCOPY_OPEN_WRITE, &dst) == 0);
    /* Nobody interrupts: what the kernel does for its own ends is no signal. */
    CHECK_EQ(copies(ctx, src, dst, BLOCK, BLOCKS), 0);
    storm(1);
    CHECK(copies(ctx, src, dst, BLOCK, BLOCKS) >= 0);
    storm(0);
    CHECK_EQ(xcopy_context_free(ctx), 0);

    file = fopen(to, "rb");
    REQUIRE(file != NULL && fread(back, 1, sizeof back, file) == sizeof back);
    fclose(file);
    CHECK(memcmp(data, back, sizeof data) == 0);
    unlink(from);
    unlink(to);
    rmdir(directory);
}

static void threads(void)
{
    struct xcopy_context *ctx;
    uint32_t src, dst;

    REQUIRE(xcopy_context_create(NULL, &ctx) == 0);
    REQUIRE(xcopy_plugin_register(ctx, late_init) >= 0);
    REQUIRE(xcopy_device_open(ctx, "late:a", XCOPY_OPEN_READ, &src) == 0);
    REQUIRE(xcopy_device_open(ctx, "late:b", XCOPY_OPEN_WRITE, &dst) == 0);
    storm(1);
    int interrupted = copies(ctx, src, dst, 65536, 1024);
    storm(0);
    /* The waits were long enough for the storm to meet them. */
    CHECK(interrupted > 10);
    CHECK_EQ(xcopy_context_free(ctx), 0);
}

/* One request with a deadline at a plugin that hangs: the wait is interrupted
 * again and again, and the deadline fires in time. */
static void deadline(void)
{
    struct xcopy_context *ctx;
    struct xcopy_queue *queue;
    struct xcopy_request request;
    struct xcopy_completion done;
    uint32_t src, dst;
    int n, interrupted = 0;

    hung.obey = 1;
    REQUIRE(xcopy_context_create(NULL, &ctx) == 0);
    REQUIRE(xcopy_plugin_register(ctx, hung_init) >= 0);
    REQUIRE(xcopy_queue_create(ctx, NULL, &queue) == 0);
    REQUIRE(xcopy_device_open(ctx, "hung:a", XCOPY_OPEN_READ, &src) == 0);
    REQUIRE(xcopy_device_open(ctx, "hung:b", XCOPY_OPEN_WRITE, &dst) == 0);
    memset(&request, 0, sizeof request);
    request.user_data = 9;
    request.op = XCOPY_OP_COPY;
    request.src = src;
    request.dst = dst;
    request.length = 4096;
    request.timeout_ms = 300;
    storm(1);
    long begun = now_ms();
    CHECK_EQ(xcopy_submit(queue, &request, sizeof request, 1), 1);
    while ((n = xcopy_poll(queue, &done, sizeof done, 1, 1, -1)) == -EINTR)
        interrupted++;
    long took = now_ms() - begun;
    storm(0);
    CHECK_EQ(n, 1);
    CHECK_EQ(done.user_data, 9);
    CHECK_EQ(done.res, -ETIMEDOUT);
    CHECK(interrupted > 10);
    if (!CHECK(took >= 290 && took < 3000))
        fprintf(stderr, "    took %ld ms\n", took);
    CHECK_EQ(xcopy_queue_destroy(queue, 0), 0);
    CHECK_EQ(xcopy_context_free(ctx), 0);
}

int main(void)
{
    struct sigaction action, after;
    sigset_t mask;

    ours = 1;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_alarm; /* no SA_RESTART */
    REQUIRE(sigaction(SIGALRM, &action, NULL) == 0);
    files();
    threads();
    deadline();

    CHECK(alarms > 100);
    CHECK_EQ(strangers, 0);
    CHECK(sigaction(SIGALRM, NULL, &after) == 0 && after.sa_handler == on_alarm);
    CHECK(sigaction(SIGPIPE, NULL, &after) == 0 && after.sa_handler == SIG_DFL);
    CHECK(pthread_sigmask(SIG_SETMASK, NULL, &mask) == 0);
    for (int number = 1; number < 32; number++)
        CHECK_EQ(sigismember(&mask, number), 0);
    return check_done();
}
