/* A small daemon over files that keeps the contract of QEMU's block layer: an
 * event loop with poll, peek and ready hooks; nested loops that take one
 * completion at a time from inside a completion handler; a queue that changes
 * its thread while idle; drained sections; cancel from the main thread; and a
 * driver that never offloads again after -ENOTSUP. */
#include "check.h"
#include "stamp.h"
#include <pthread.h>
#include <sys/epoll.h>
#include <time.h>

enum {
    BLOCKS = 49152, /* 24 MiB */
    MARGIN = 2048,  /* blocks before and after the destination's part */
    CHUNK = 256,    /* blocks of one request */
    CHUNKS = BLOCKS / CHUNK,
    IN_FLIGHT = 32,
    NESTING = 3,
    SRC_DISK = 1,
    DST_DISK = 2,
};

struct job {
    unsigned char state[CHUNKS]; /* 0 new, 1 in flight, 2 done */
    unsigned char completions[CHUNKS];
    int32_t res[CHUNKS];
    uint64_t bytes_done[CHUNKS];
    uint32_t next, done;
    uint64_t generation; /* of the source while the job runs */
};

/* One block driver with its event loop. */
struct daemon {
    struct xcopy_context *ctx;
    struct xcopy_queue *queue;
    uint32_t src, dst;
    uint32_t methods, flags;
    int src_fd, dst_fd;
    char src_path[320], dst_path[320];
    int epoll;
    int armed;
    int nesting, nested_taken, deepest;
    int use_offload, offload_calls;
    struct job *job;
};

/* ------------------------------------------------------------ event loop */

static void handle(struct daemon *d, const struct xcopy_completion *c);

/* AioContext io_poll: a look without consuming. */
static int hook_poll(struct daemon *d)
{
    return xcopy_queue_ready(d->queue) > 0;
}

/* io_poll_ready and io_read: takes completions one at a time, because each
 * handler may run a nested loop that takes the next ones. */
static int hook_ready(struct daemon *d)
{
    struct xcopy_completion completion;
    int taken = 0;
    while (xcopy_poll(d->queue, &completion, sizeof completion, 0, 1, 0) == 1) {
        taken++;
        handle(d, &completion);
    }
    return taken;
}

static void hook_poll_begin(struct daemon *d)
{
    if (d->armed)
        CHECK_OK(xcopy_queue_disarm(d->queue));
    d->armed = 0;
}

/* Ends userspace polling: 1 if something became ready meanwhile. */
static int hook_poll_end(struct daemon *d)
{
    d->armed = 1;
    return xcopy_queue_arm(d->queue);
}

/* One turn of the loop; answers whether anything was handled. */
static int loop_turn(struct daemon *d, int timeout_ms)
{
    struct epoll_event event;
    hook_poll_begin(d);
    for (int i = 0; i < 20; i++)
        if (hook_poll(d))
            return hook_ready(d) > 0;
    if (hook_poll_end(d) > 0)
        return hook_ready(d) > 0;
    int n = epoll_wait(d->epoll, &event, 1, timeout_ms);
    if (n <= 0)
        return 0;
    return hook_ready(d) > 0;
}

/* ---------------------------------------------------------------- driver */

static void fill_request(const struct daemon *d, struct xcopy_request *r, uint32_t chunk)
{
    memset(r, 0, sizeof *r);
    r->user_data = chunk;
    r->op = XCOPY_OP_COPY;
    r->flags = d->flags;
    r->methods = d->methods;
    r->src = d->src;
    r->dst = d->dst;
    r->src_offset = (uint64_t)chunk * CHUNK * STAMP_BLOCK;
    r->dst_offset = ((uint64_t)chunk * CHUNK + MARGIN) * STAMP_BLOCK;
    r->length = CHUNK * STAMP_BLOCK;
}

static void finish(struct job *job, uint32_t chunk, int32_t res, uint64_t bytes)
{
    job->state[chunk] = 2;
    job->completions[chunk]++;
    job->res[chunk] = res;
    job->bytes_done[chunk] = bytes;
    job->done++;
}

/* The driver's own copy, for when offload is not to be had. */
static void copy_by_hand(struct daemon *d, uint32_t chunk)
{
    static unsigned char buffer[CHUNK * STAMP_BLOCK];
    off_t from = (off_t)chunk * CHUNK * STAMP_BLOCK;
    off_t to = from + MARGIN * STAMP_BLOCK;
    int ok = pread(d->src_fd, buffer, sizeof buffer, from) == (ssize_t)sizeof buffer &&
             pwrite(d->dst_fd, buffer, sizeof buffer, to) == (ssize_t)sizeof buffer;
    finish(d->job, chunk, ok ? 0 : -EIO, ok ? sizeof buffer : 0);
}

/* Keeps IN_FLIGHT requests going. 0, or the refusal. */
static int submit_more(struct daemon *d)
{
    struct job *job = d->job;
    while (job->next < CHUNKS && job->next - job->done < IN_FLIGHT) {
        struct xcopy_request request;
        if (!d->use_offload) {
            job->state[job->next] = 1;
            copy_by_hand(d, job->next++);
            continue;
        }
        fill_request(d, &request, job->next);
        d->offload_calls++;
        int n = xcopy_submit(d->queue, &request, sizeof request, 1);
        if (n == -ENOTSUP) {
            d->use_offload = 0;
            continue;
        }
        if (n == -EAGAIN) {
            CHECK(xcopy_queue_in_flight(d->queue) > 0);
            return 0;
        }
        if (n != 1)
            return n;
        job->state[job->next++] = 1;
    }
    return 0;
}

static void handle(struct daemon *d, const struct xcopy_completion *c)
{
    struct job *job = d->job;
    CHECK(c->user_data < CHUNKS && job->state[c->user_data] == 1);
    if (c->user_data >= CHUNKS)
        return;
    uint32_t chunk = (uint32_t)c->user_data;
    if (c->res == -ENOTSUP) {
        d->use_offload = 0;
        CHECK_EQ(c->bytes_copied, 0);
        copy_by_hand(d, chunk);
    } else {
        finish(job, chunk, c->res, c->bytes_done);
    }
    /* Every seventh handler waits for one more completion in a nested loop, and
     * so does the handler of that one. */
    if ((chunk % 7 == 3 || d->nesting > 0) && d->nesting < NESTING && xcopy_queue_in_flight(d->queue) > 0) {
        struct xcopy_completion inner;
        d->nesting++;
        if (d->nesting > d->deepest)
            d->deepest = d->nesting;
        int n = xcopy_poll(d->queue, &inner, sizeof inner, 1, 1, INT64_C(10000000000));
        CHECK_EQ(n, 1);
        if (n == 1) {
            d->nested_taken++;
            handle(d, &inner);
        }
        d->nesting--;
    }
}

/* ----------------------------------------------------------------- tests */

static void job_start(struct daemon *d, struct job *job, uint64_t generation)
{
    memset(job, 0, sizeof *job);
    job->generation = generation;
    d->job = job;
    CHECK_EQ(stamp_fill(d->src_fd, SRC_DISK, BLOCKS, generation), 0);
    CHECK_EQ(stamp_fill(d->dst_fd, DST_DISK, BLOCKS + 2 * MARGIN, generation), 0);
}

static void job_run(struct daemon *d)
{
    int idle = 0;
    while (d->job->done < CHUNKS && idle < 100) {
        CHECK_EQ(submit_more(d), 0);
        if (d->job->done < CHUNKS)
            idle = loop_turn(d, 200) ? 0 : idle + 1;
    }
    CHECK_EQ(d->job->done, CHUNKS);
    CHECK_EQ(xcopy_queue_in_flight(d->queue), 0);
}

/* Completed chunks hold the source, the prefix of a failed one too, everything
 * outside the part what it held before. */
static void job_verify(struct daemon *d, int all_copied)
{
    struct job *job = d->job;
    uint64_t wrong = 0, direct = 0;
    int twice = 0, bad = 0;
    for (uint32_t i = 0; i < CHUNKS; i++) {
        uint64_t at = (uint64_t)i * CHUNK;
        uint64_t blocks = job->bytes_done[i] / STAMP_BLOCK;
        twice += job->completions[i] > 1;
        if (job->completions[i] == 0)
            continue;
        bad += job->res[i] == 0 ? blocks != CHUNK : all_copied;
        bad += job->bytes_done[i] > CHUNK * STAMP_BLOCK;
        wrong += stamp_wrong(d->dst_fd, at + MARGIN, SRC_DISK, at, job->generation, blocks);
        direct += stamp_wrong_direct(d->dst_path, at + MARGIN, SRC_DISK, at, job->generation,
                                     job->res[i] == 0 ? blocks : 0);
    }
    CHECK_EQ(twice, 0);
    CHECK_EQ(bad, 0);
    CHECK_EQ(wrong, 0);
    CHECK_EQ(direct, 0);
    CHECK_EQ(stamp_wrong(d->dst_fd, 0, DST_DISK, 0, job->generation, MARGIN), 0);
    CHECK_EQ(stamp_wrong(d->dst_fd, MARGIN + BLOCKS, DST_DISK, MARGIN + BLOCKS, job->generation,
                         MARGIN), 0);
    CHECK_EQ(stamp_wrong(d->src_fd, 0, SRC_DISK, 0, job->generation, BLOCKS), 0);
}

static void test_copy(struct daemon *d, struct job *job)
{
    job_start(d, job, 1);
    job_run(d);
    job_verify(d, 1);
    CHECK(d->nested_taken > 0);
    CHECK_EQ(d->deepest, NESTING);
    CHECK_EQ(d->use_offload, 1);
}

static void *iothread(void *arg)
{
    struct daemon *d = arg;
    job_run(d);
    /* The fd goes back quiet. */
    hook_poll_begin(d);
    return NULL;
}

/* The idle queue goes to an iothread; the main thread cancels meanwhile. */
static void test_iothread(struct daemon *d, struct job *job)
{
    pthread_t thread;
    int asked = 0, canceled = 0;
    job_start(d, job, 2);
    REQUIRE(pthread_create(&thread, NULL, iothread, d) == 0);
    for (int round = 0; round < 200; round++) {
        struct timespec pause = {0, 200000};
        struct xcopy_progress progress;
        uint32_t chunk = (uint32_t)(round * 37) % CHUNKS;
        int n = xcopy_cancel(d->queue, chunk);
        CHECK(n == 1 || n == -ENOENT);
        asked += n == 1;
        n = xcopy_progress(d->queue, chunk, &progress, sizeof progress);
        CHECK(n >= 0 || n == -ENOENT);
        CHECK_OK(xcopy_queue_in_flight(d->queue));
        nanosleep(&pause, NULL);
    }
    int n = xcopy_cancel_device(d->queue, d->dst);
    CHECK(n >= 0 || n == -ENOENT);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    for (uint32_t i = 0; i < CHUNKS; i++) {
        canceled += job->res[i] == -ECANCELED;
        CHECK(job->res[i] == 0 || job->res[i] == -ECANCELED);
        CHECK_EQ(job->completions[i], 1);
    }
    printf("iothread: %d cancels taken, %d requests cancelled\n", asked, canceled);
    job_verify(d, 0);
}

/* Nothing starts inside a drained section, and it ends with nothing in flight. */
static void test_drain(struct daemon *d, struct job *job)
{
    job_start(d, job, 3);
    CHECK_EQ(submit_more(d), 0);
    int in_flight = xcopy_queue_drain(d->queue);
    CHECK(in_flight >= 0 && in_flight <= IN_FLIGHT);
    struct xcopy_request request;
    fill_request(d, &request, job->next);
    CHECK_REFUSED(xcopy_submit(d->queue, &request, sizeof request, 1), ESHUTDOWN);
    uint32_t started = job->next;
    for (int idle = 0; xcopy_queue_in_flight(d->queue) > 0 && idle < 100;)
        idle = loop_turn(d, 200) ? 0 : idle + 1;
    CHECK_EQ(xcopy_queue_in_flight(d->queue), 0);
    CHECK_EQ(job->done, started);
    CHECK_REFUSED(xcopy_submit(d->queue, &request, sizeof request, 1), ESHUTDOWN);
    CHECK_EQ(xcopy_queue_drain(d->queue), 0);
    CHECK_OK(xcopy_queue_resume(d->queue));
    job_run(d);
    job_verify(d, 1);
}

/* After one -ENOTSUP the driver copies by hand for the whole job. */
static void test_never_again(struct daemon *d, struct job *job)
{
    job_start(d, job, 4);
    d->flags = XCOPY_REQ_NO_FALLBACK;
    d->methods = 1u << XCOPY_METHOD_NVME_COPY;
    d->offload_calls = 0;
    job_run(d);
    CHECK_EQ(d->use_offload, 0);
    CHECK(d->offload_calls > 0 && d->offload_calls <= IN_FLIGHT);
    job_verify(d, 1);
    int calls = d->offload_calls;
    job_start(d, job, 5);
    job_run(d);
    CHECK_EQ(d->offload_calls, calls);
    job_verify(d, 1);
}

int main(void)
{
    static struct daemon d;
    struct xcopy_queue_options options;
    struct job *job = calloc(1, sizeof *job);

    d.use_offload = 1;
    d.src_fd = stamp_file("src", d.src_path, sizeof d.src_path, SRC_DISK, BLOCKS, 0);
    d.dst_fd = stamp_file("dst", d.dst_path, sizeof d.dst_path, DST_DISK, BLOCKS + 2 * MARGIN, 0);
    REQUIRE(job != NULL);
    REQUIRE(xcopy_context_create(NULL, &d.ctx) == 0);
    REQUIRE(xcopy_queue_options_init(&options, sizeof options) == 0);
    options.capacity = IN_FLIGHT;
    REQUIRE(xcopy_queue_create(d.ctx, &options, &d.queue) == 0);
    REQUIRE(xcopy_device_open(d.ctx, d.src_path, XCOPY_OPEN_READ, &d.src) == 0);
    REQUIRE(xcopy_device_open_fd(d.ctx, d.dst_fd, XCOPY_OPEN_WRITE, &d.dst) == 0);
    d.epoll = epoll_create1(EPOLL_CLOEXEC);
    int fd = xcopy_queue_fd(d.queue);
    REQUIRE(d.epoll >= 0 && fd >= 0);
    struct epoll_event event = {.events = EPOLLIN};
    REQUIRE(epoll_ctl(d.epoll, EPOLL_CTL_ADD, fd, &event) == 0);

    test_copy(&d, job);
    test_iothread(&d, job);
    test_drain(&d, job);
    test_never_again(&d, job);
    CHECK_EQ(xcopy_queue_fd(d.queue), fd);

    int closed = xcopy_device_close(d.ctx, d.src);
    CHECK_EQ(closed, 0);
    CHECK_EQ(xcopy_device_is_closed(d.ctx, d.src), 1);
    CHECK_EQ(xcopy_device_close(d.ctx, d.dst), 0);
    CHECK_EQ(xcopy_queue_destroy(d.queue, 0), 0);
    CHECK_EQ(xcopy_context_free(d.ctx), 0);
    CHECK(fcntl(d.dst_fd, F_GETFD) >= 0);
    close(d.epoll);
    close(d.src_fd);
    close(d.dst_fd);
    free(job);
    stamp_clean();
    return check_done();
}
