/* A reactor that keeps SPDK's contract: one thread that only polls, native
 * disks whose plugin asserts its thread, NOMEM only while something is in
 * flight, reset that waits for zero in flight, hot removal with requests in
 * flight, and bridges between its disks and a kernel file. */
#include "bdev_plugin.h"
#include "stamp.h"
#include <time.h>

enum {
    BLOCKS = 16384, /* 8 MiB */
    CHUNK = 128,    /* blocks of one request */
    CHUNKS = BLOCKS / CHUNK,
    CAPACITY = 16,
};

static struct xcopy_context *ctx;
static struct xcopy_queue *queue;
static struct bdev disk_a = {.identity = 11}, disk_b = {.identity = 12};
static uint32_t dev_a, dev_b_dst, dev_file, dev_file_dst;
static char path_a[320], path_b[320], path_file[320];
static int file_fd;

static struct {
    unsigned char seen[CHUNKS];
    uint32_t done;
    int32_t first_error;
    uint64_t offloaded, copied;
    uint32_t flags;
} run;

static void reap(int max)
{
    struct xcopy_completion c[8];
    int n = xcopy_poll(queue, c, sizeof c[0], 0, (uint32_t)(max < 8 ? max : 8), 0);
    CHECK_OK(n);
    for (int i = 0; i < n; i++) {
        if (c[i].user_data >= CHUNKS) {
            CHECK(!"a completion of a request that was never made");
            continue;
        }
        run.seen[c[i].user_data]++;
        run.done++;
        run.offloaded += c[i].bytes_offloaded;
        run.copied += c[i].bytes_copied;
        run.flags |= c[i].flags;
        if (c[i].res != 0 && run.first_error == 0)
            run.first_error = c[i].res;
    }
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Polls until `done` requests have ended. */
static int poll_until(uint32_t done)
{
    double end = seconds() + 60;
    while (run.done < done && seconds() < end)
        reap(8);
    return run.done >= done;
}

static struct xcopy_request request_of(uint32_t src, uint32_t dst, uint32_t chunk)
{
    struct xcopy_request r;
    memset(&r, 0, sizeof r);
    r.user_data = chunk;
    r.op = XCOPY_OP_COPY;
    r.src = src;
    r.dst = dst;
    r.src_offset = (uint64_t)chunk * CHUNK * STAMP_BLOCK;
    r.dst_offset = (uint64_t)(CHUNKS - 1 - chunk) * CHUNK * STAMP_BLOCK;
    r.length = CHUNK * STAMP_BLOCK;
    return r;
}

static void prepare(uint32_t src, uint32_t dst)
{
    struct xcopy_request r;
    memset(&r, 0, sizeof r);
    memset(&run, 0, sizeof run);
    r.op = XCOPY_OP_PREPARE;
    r.src = src;
    r.dst = dst;
    REQUIRE(xcopy_submit(queue, &r, sizeof r, 1) == 1);
    REQUIRE(poll_until(1));
    CHECK_EQ(run.first_error, 0);
}

/* Copies all chunks to their mirrored places, keeping the queue full. */
static void copy_all(uint32_t src, uint32_t dst)
{
    int nomem = 0, nomem_idle = 0, refused = 0;
    double end = seconds() + 60;
    memset(&run, 0, sizeof run);
    for (uint32_t next = 0; run.done < CHUNKS && seconds() < end;) {
        while (next < CHUNKS) {
            struct xcopy_request r = request_of(src, dst, next);
            int before = xcopy_queue_in_flight(queue);
            int n = xcopy_submit(queue, &r, sizeof r, 1);
            if (n == -EAGAIN) {
                nomem++;
                nomem_idle += before == 0;
                break;
            }
            refused += n != 1;
            next++;
        }
        reap(3);
    }
    CHECK(nomem > 0);
    CHECK_EQ(nomem_idle, 0);
    CHECK_EQ(refused, 0);
    CHECK_EQ(run.done, CHUNKS);
    CHECK_EQ(run.first_error, 0);
    CHECK_EQ(run.copied, (uint64_t)BLOCKS * STAMP_BLOCK);
    int not_once = 0;
    for (int i = 0; i < CHUNKS; i++)
        not_once += run.seen[i] != 1;
    CHECK_EQ(not_once, 0);
    CHECK_EQ(xcopy_queue_in_flight(queue), 0);
}

static uint64_t wrong_mirrored(int fd, uint64_t disk, uint64_t generation)
{
    uint64_t wrong = 0;
    for (uint64_t i = 0; i < CHUNKS; i++)
        wrong += stamp_wrong(fd, (CHUNKS - 1 - i) * CHUNK, disk, i * CHUNK, generation, CHUNK);
    return wrong;
}

static void test_offload(void)
{
    stamp_fill(disk_b.fd, 2, BLOCKS, 1);
    prepare(dev_a, dev_b_dst);
    copy_all(dev_a, dev_b_dst);
    CHECK_EQ(wrong_mirrored(disk_b.fd, 1, 1), 0);
    CHECK_EQ(run.offloaded, (uint64_t)BLOCKS * STAMP_BLOCK);
    CHECK(run.flags & XCOPY_CPL_OFFLOADED);
    CHECK_EQ(run.flags & XCOPY_CPL_EMULATED, 0);
}

static void test_bridge(uint32_t src, int src_disk, uint32_t dst, int dst_fd)
{
    stamp_fill(dst_fd, 99, BLOCKS, 5);
    prepare(src, dst);
    copy_all(src, dst);
    CHECK_EQ(wrong_mirrored(dst_fd, (uint64_t)src_disk, 1), 0);
    CHECK_EQ(run.offloaded, 0);
    CHECK(run.flags & XCOPY_CPL_EMULATED);
}

/* Zeroes and flushes of a native disk go to its plugin. */
static void test_zero_flush(void)
{
    static unsigned char block[STAMP_BLOCK];
    struct xcopy_request r = request_of(0, dev_b_dst, 0);
    int wrong = 0;
    memset(&run, 0, sizeof run);
    stamp_fill(disk_b.fd, 2, BLOCKS, 1);
    r.op = XCOPY_OP_ZERO;
    r.src_offset = 0;
    r.dst_offset = 4 * STAMP_BLOCK;
    r.length = 3 * STAMP_BLOCK;
    CHECK_EQ(xcopy_submit(queue, &r, sizeof r, 1), 1);
    CHECK(poll_until(1));
    r = request_of(0, dev_b_dst, 1);
    r.op = XCOPY_OP_FLUSH;
    r.src_offset = r.dst_offset = r.length = 0;
    CHECK_EQ(xcopy_submit(queue, &r, sizeof r, 1), 1);
    CHECK(poll_until(2));
    CHECK_EQ(run.first_error, 0);
    for (int i = 4; i < 7; i++) {
        CHECK_EQ(pread(disk_b.fd, block, sizeof block, i * (off_t)sizeof block), sizeof block);
        for (size_t k = 0; k < sizeof block; k++)
            wrong += block[k] != 0;
    }
    CHECK_EQ(wrong, 0);
    CHECK_EQ(stamp_wrong(disk_b.fd, 0, 2, 0, 1, 4), 0);
    CHECK_EQ(stamp_wrong(disk_b.fd, 7, 2, 7, 1, BLOCKS - 7), 0);
}

static int submit_held(int n)
{
    int accepted = 0;
    memset(&run, 0, sizeof run);
    disk_b.hold = 1;
    for (int i = 0; i < n; i++) {
        struct xcopy_request r = request_of(dev_a, dev_b_dst, (uint32_t)i);
        accepted += xcopy_submit(queue, &r, sizeof r, 1) == 1;
    }
    for (int i = 0; i < 100; i++)
        reap(8);
    CHECK_EQ(run.done, 0);
    CHECK_EQ(xcopy_queue_in_flight(queue), accepted);
    return accepted;
}

/* A reset closes the door, waits for zero, and opens it. */
static void test_reset(void)
{
    int n = submit_held(8);
    CHECK_EQ(n, 8);
    CHECK_EQ(xcopy_queue_drain(queue), n);
    struct xcopy_request r = request_of(dev_a, dev_b_dst, 0);
    CHECK_REFUSED(xcopy_submit(queue, &r, sizeof r, 1), ESHUTDOWN);
    CHECK_REFUSED(xcopy_queue_destroy(queue, 0), EBUSY);
    disk_b.hold = 0;
    CHECK(poll_until((uint32_t)n));
    CHECK_EQ(xcopy_queue_in_flight(queue), 0);
    CHECK_EQ(run.first_error, 0);
    CHECK_EQ(bdevs.n, 0);
    CHECK_OK(xcopy_queue_resume(queue));
    copy_all(dev_a, dev_b_dst);
}

/* The disk goes away with requests in flight: they end with -ENODEV, and the
 * close is reported done once the plugin has closed its side. */
static void test_removal(void)
{
    uint32_t events = 0;
    int n = submit_held(8);
    int closes = disk_b.closes;
    disk_b.removed = 1;
    bdevs.host->device_event(disk_b.host_device, XCOPY_EVENT_REMOVED, 0);
    CHECK_OK(xcopy_device_events(ctx, dev_b_dst, &events));
    CHECK(events & XCOPY_EVENT_REMOVED);
    CHECK_OK(xcopy_device_events(ctx, dev_b_dst, &events));
    CHECK_EQ(events, 0);
    CHECK_EQ(xcopy_device_close(ctx, dev_b_dst), 1);
    CHECK_EQ(xcopy_device_is_closed(ctx, dev_b_dst), 0);
    CHECK_REFUSED(xcopy_device_close(ctx, dev_b_dst), EBADF);
    struct xcopy_request r = request_of(dev_a, dev_b_dst, 100);
    CHECK_REFUSED(xcopy_submit(queue, &r, sizeof r, 1), EBADF);
    disk_b.hold = 0;
    CHECK(poll_until((uint32_t)n));
    CHECK_EQ(run.first_error, -ENODEV);
    CHECK_EQ(xcopy_queue_in_flight(queue), 0);
    double end = seconds() + 10;
    while (xcopy_device_is_closed(ctx, dev_b_dst) == 0 && seconds() < end)
        reap(8);
    CHECK_EQ(xcopy_device_is_closed(ctx, dev_b_dst), 1);
    CHECK_EQ(disk_b.closes, closes + 1);
}

int main(void)
{
    struct xcopy_queue_options options;

    disk_a.fd = stamp_file("a", path_a, sizeof path_a, 1, BLOCKS, 1);
    disk_b.fd = stamp_file("b", path_b, sizeof path_b, 2, BLOCKS, 1);
    file_fd = stamp_file("file", path_file, sizeof path_file, 3, BLOCKS, 1);
    disk_a.size = disk_b.size = (uint64_t)BLOCKS * STAMP_BLOCK;
    disk_a.can_copy = disk_b.can_copy = 1;
    bdevs.reactor = pthread_self();

    REQUIRE(xcopy_context_create(NULL, &ctx) == 0);
    REQUIRE(xcopy_plugin_register(ctx, bdev_init) >= 0);
    REQUIRE(xcopy_queue_options_init(&options, sizeof options) == 0);
    options.capacity = CAPACITY;
    REQUIRE(xcopy_queue_create(ctx, &options, &queue) == 0);
    REQUIRE(xcopy_device_open_native(ctx, "bdev", &disk_a, XCOPY_OPEN_READ, &dev_a) == 0);
    REQUIRE(xcopy_device_open_native(ctx, "bdev", &disk_b, XCOPY_OPEN_WRITE, &dev_b_dst) == 0);
    REQUIRE(xcopy_device_open_fd(ctx, file_fd, XCOPY_OPEN_READ, &dev_file) == 0);
    REQUIRE(xcopy_device_open_fd(ctx, file_fd, XCOPY_OPEN_WRITE, &dev_file_dst) == 0);
    CHECK_EQ(disk_a.opens, 0);

    test_offload();
    CHECK(bdevs.refusals > 0);

    /* The same pair without copy: the host method bridges the two disks. */
    disk_b.can_copy = 0;
    CHECK_OK(xcopy_device_invalidate(ctx, dev_b_dst));
    test_bridge(dev_a, 1, dev_b_dst, disk_b.fd);
    test_bridge(dev_file, 3, dev_b_dst, disk_b.fd);
    test_zero_flush();
    test_bridge(dev_a, 1, dev_file_dst, file_fd);
    test_reset();
    test_removal();

    CHECK_OK(xcopy_device_close(ctx, dev_a));
    CHECK_OK(xcopy_device_close(ctx, dev_file));
    CHECK_OK(xcopy_device_close(ctx, dev_file_dst));
    double end = seconds() + 10;
    while (xcopy_device_is_closed(ctx, dev_a) == 0 && seconds() < end)
        reap(8);
    CHECK_EQ(xcopy_device_is_closed(ctx, dev_a), 1);
    CHECK_EQ(disk_a.opens, 1);
    CHECK_EQ(disk_a.closes, 1);
    CHECK_EQ(disk_b.opens, 1);
    CHECK_EQ(xcopy_queue_destroy(queue, 0), 0);
    CHECK_EQ(bdevs.has_queue, 0);
    CHECK_EQ(xcopy_context_free(ctx), 0);
    CHECK_EQ(bdevs.wrong_thread, 0);
    printf("%d plugin commands, %d in its ring at most\n", bdevs.commands, bdevs.highest);
    close(disk_a.fd);
    close(disk_b.fd);
    close(file_fd);
    stamp_clean();
    return check_done();
}
