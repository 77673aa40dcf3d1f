/* Gathers blocks scattered over a disk into one piece, as a log-structured file
 * system's garbage collection does.
 *
 *   gather packed|single SRC DST COUNT SECTORS TO [DEPTH [METHOD]]
 *   gather each|row CHARACTER-NODE COUNT SECTORS TO DEPTH
 *   gather direct PATH COUNT SECTORS TO
 *   gather lists COUNT SECTORS TO PER
 *   gather expect PATH COUNT SECTORS TO DISK GENERATION
 *
 * Block n of SECTORS sectors (512 bytes) goes to sector TO + n * SECTORS; where it
 * comes from is drawn once and for all from the first 2 * COUNT * SECTORS sectors.
 * `packed` is one request of all ranges, `single` one request for each, DEPTH (64) of
 * them at a time; both print seconds, and how much was offloaded in how many commands (the
 * host's included), as `xcopy copy --json` does, and leave page caches alone. `each` is a peer without the library (each.h): one command for each block,
 * and `row` the same for blocks that lie in a row from the first sector on. `direct` reads
 * each block and writes MiBs, past the cache. `lists` prints first sector, starts and lengths
 * for commands of PER ranges. `expect` compares past the cache with stamps. Status 0, 1
 * differs, 2 fails. */
#include <errno.h>
#include <inttypes.h>
#include <time.h>
#include <xcopy.h>

#include "each.h"
#include "stamp.h"

static uint64_t count, sectors, target;

static uint64_t number(const char *text)
{
    char *end;
    errno = 0;
    uint64_t value = strtoull(text, &end, 0);
    if (errno != 0 || end == text || *end != '\0') {
        fprintf(stderr, "gather: %s is no number\n", text);
        exit(2);
    }
    return value;
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void fail(const char *what)
{
    fprintf(stderr, "gather: %s: %s\n", what, xcopy_last_error());
    exit(2);
}

/* Where each block comes from, in sectors: every other place, in disorder. */
static uint64_t *places(void)
{
    uint64_t *at = calloc(count, sizeof *at), state = 1;
    if (at == NULL)
        exit(2);
    for (uint64_t i = 0; i < count; i++)
        at[i] = i * 2 * sectors;
    for (uint64_t i = count; i > 1; i--) {
        state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        uint64_t other = (state >> 33) % i, kept = at[i - 1];
        at[i - 1] = at[other];
        at[other] = kept;
    }
    return at;
}

static int lists(uint64_t per)
{
    uint64_t *at = places();
    for (uint64_t i = 0; i < count; i += per) {
        printf("%" PRIu64 " ", target + i * sectors);
        for (uint64_t k = i; k < i + per && k < count; k++)
            printf("%s%" PRIu64, k == i ? "" : ",", at[k]);
        printf(" ");
        for (uint64_t k = i; k < i + per && k < count; k++)
            printf("%s%" PRIu64, k == i ? "" : ",", sectors - 1);
        printf("\n");
    }
    free(at);
    return 0;
}

static int each(const char *node, int scattered, uint32_t depth)
{
    uint64_t *at = places();
    struct each_range *ranges = calloc(count, sizeof *ranges);
    if (ranges == NULL)
        return 2;
    for (uint64_t i = 0; i < count; i++) {
        ranges[i].from = scattered ? at[i] : i * sectors;
        ranges[i].to = target + i * sectors;
        ranges[i].blocks = (uint32_t)sectors;
    }
    double begin = seconds();
    int status = each_copy(node, ranges, count, depth) != 0 ? 2 : 0;
    printf("{\"seconds\":%.6f,\"methods\":[]}\n", seconds() - begin);
    free(ranges);
    free(at);
    return status;
}

static int direct(const char *path)
{
    enum { AT_ONCE = 2048 };
    uint64_t *at = places(), held = 0, written = 0;
    unsigned char *memory;
    size_t block = (size_t)sectors * STAMP_BLOCK;
    int fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
    if (fd < 0 || posix_memalign((void **)&memory, 4096, AT_ONCE * STAMP_BLOCK) != 0) {
        perror(path);
        return 2;
    }
    double begin = seconds();
    for (uint64_t i = 0; i < count; i++) {
        if (pread(fd, memory + held * STAMP_BLOCK, block, (off_t)(at[i] * STAMP_BLOCK)) != (ssize_t)block)
            return perror("read"), 2;
        held += sectors;
        if (held + sectors > AT_ONCE || i + 1 == count) {
            size_t bytes = (size_t)held * STAMP_BLOCK;
            if (pwrite(fd, memory, bytes, (off_t)((target + written) * STAMP_BLOCK)) != (ssize_t)bytes)
                return perror("write"), 2;
            written += held;
            held = 0;
        }
    }
    printf("{\"seconds\":%.6f,\"methods\":[]}\n", seconds() - begin);
    free(memory);
    free(at);
    return close(fd);
}

static int expect(const char *path, uint64_t disk, uint64_t generation)
{
    enum { AT_ONCE = 2048 };
    uint64_t *at = places(), wrong = 0, total = count * sectors;
    unsigned char want[STAMP_BLOCK];
    void *memory;
    int fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    if (fd < 0 || posix_memalign(&memory, 4096, AT_ONCE * STAMP_BLOCK) != 0) {
        perror(path);
        return 2;
    }
    for (uint64_t done = 0; done < total; done += AT_ONCE) {
        uint64_t n = total - done < AT_ONCE ? total - done : AT_ONCE;
        size_t bytes = (size_t)n * STAMP_BLOCK;
        if (pread(fd, memory, bytes, (off_t)((target + done) * STAMP_BLOCK)) != (ssize_t)bytes) {
            perror(path);
            return 2;
        }
        for (uint64_t i = 0; i < n; i++) {
            uint64_t sector = done + i;
            stamp_block(want, disk, at[sector / sectors] + sector % sectors, generation);
            wrong += memcmp((unsigned char *)memory + i * STAMP_BLOCK, want, STAMP_BLOCK) != 0;
        }
    }
    close(fd);
    free(memory);
    free(at);
    if (wrong != 0)
        printf("%" PRIu64 " of %" PRIu64 " sectors are wrong\n", wrong, total);
    return wrong != 0;
}

struct totals {
    uint64_t bytes, offloaded, commands, failed;
};

static void account(struct totals *totals, const struct xcopy_completion *done)
{
    totals->bytes += done->bytes_copied;
    totals->commands += done->commands;
    totals->offloaded += done->bytes_offloaded;
    if (done->res != 0) {
        fprintf(stderr, "gather: %s: %s\n", strerror(-done->res), xcopy_reason_string(done->reason));
        totals->failed++;
    }
}

static void take(struct xcopy_queue *queue, struct totals *totals, uint32_t min)
{
    struct xcopy_completion done[64];
    int n = xcopy_poll(queue, done, sizeof *done, min, 64, -1);
    if (n < 0)
        fail("poll");
    for (int i = 0; i < n; i++)
        account(totals, &done[i]);
}

static int copy(int packed, const char *from, const char *to, uint32_t depth, const char *method)
{
    struct xcopy_context *context;
    struct xcopy_queue_options options;
    struct xcopy_queue *queue;
    uint32_t src, dst, mask = 0;
    struct totals totals = {0};
    if (xcopy_context_create(NULL, &context) < 0 || xcopy_plugin_load_all(context, NULL) < 0 ||
        xcopy_queue_options_init(&options, sizeof options) < 0)
        fail("a context");
    options.capacity = depth;
    options.window = depth;
    if (xcopy_queue_create(context, &options, &queue) < 0 ||
        xcopy_device_open(context, from, XCOPY_OPEN_READ, &src) < 0 ||
        xcopy_device_open(context, to, XCOPY_OPEN_WRITE, &dst) < 0 ||
        (method != NULL && xcopy_method_mask(context, method, &mask) < 0))
        fail(to);
    uint64_t *at = places(), block = sectors * STAMP_BLOCK;
    struct xcopy_range *ranges = calloc(count, sizeof *ranges);
    struct xcopy_request request = {.op = XCOPY_OP_COPY,
                                    .flags = XCOPY_REQ_NO_COHERENCE,
                                    .src = src,
                                    .dst = dst,
                                    .methods = mask};
    struct xcopy_ext ext = {.size = sizeof ext, .ranges = ranges, .nranges = count};
    if (ranges == NULL)
        return 2;
    for (uint64_t i = 0; i < count; i++) {
        ranges[i].src_offset = at[i] * STAMP_BLOCK;
        ranges[i].dst_offset = target * STAMP_BLOCK + i * block;
        ranges[i].length = block;
    }
    double begin = seconds();
    if (packed) {
        request.ext = &ext;
        if (xcopy_submit(queue, &request, sizeof request, 1) != 1)
            fail("submit");
        take(queue, &totals, 1);
    } else {
        uint64_t sent = 0, ended = 0;
        while (ended < count) {
            struct xcopy_request batch[64];
            uint32_t n = 0;
            while (n < 64 && n < depth - (sent - ended) && sent + n < count) {
                batch[n] = request;
                batch[n].src_offset = ranges[sent + n].src_offset;
                batch[n].dst_offset = ranges[sent + n].dst_offset;
                batch[n].length = block;
                n++;
            }
            int taken = n == 0 ? 0 : xcopy_submit(queue, batch, sizeof *batch, n);
            if (taken < 0)
                fail("submit");
            sent += (uint32_t)taken;
            struct xcopy_completion done[64];
            int got = xcopy_poll(queue, done, sizeof *done, 1, 64, -1);
            if (got < 0)
                fail("poll");
            for (int i = 0; i < got; i++)
                account(&totals, &done[i]);
            ended += (uint32_t)got;
        }
    }
    printf("{\"seconds\":%.6f,\"bytes\":%" PRIu64 ",\"methods\":["
           "{\"name\":\"offloaded\",\"bytes\":%" PRIu64 ",\"commands\":%" PRIu64 "},"
           "{\"name\":\"host\",\"bytes\":%" PRIu64 ",\"commands\":0}]}\n",
           seconds() - begin, totals.bytes, totals.offloaded, totals.commands,
           totals.bytes - totals.offloaded);
    free(ranges);
    free(at);
    if (xcopy_queue_destroy(queue, 0) < 0 || xcopy_context_free(context) < 0)
        fail("the end");
    return totals.failed != 0 || totals.bytes != count * block ? 2 : 0;
}

int main(int argc, char **argv)
{
    const char *how = argc > 1 ? argv[1] : "";
    if (strcmp(how, "lists") == 0 && argc == 6) {
        count = number(argv[2]), sectors = number(argv[3]), target = number(argv[4]);
        return lists(number(argv[5]));
    }
    if ((strcmp(how, "each") == 0 || strcmp(how, "row") == 0) && argc == 7) {
        count = number(argv[3]), sectors = number(argv[4]), target = number(argv[5]);
        return each(argv[2], how[0] == 'e', (uint32_t)number(argv[6]));
    }
    if (strcmp(how, "direct") == 0 && argc == 6) {
        count = number(argv[3]), sectors = number(argv[4]), target = number(argv[5]);
        return direct(argv[2]);
    }
    if (strcmp(how, "expect") == 0 && argc == 8) {
        count = number(argv[3]), sectors = number(argv[4]), target = number(argv[5]);
        return expect(argv[2], number(argv[6]), number(argv[7]));
    }
    if ((strcmp(how, "packed") == 0 || strcmp(how, "single") == 0) && argc >= 7 && argc <= 9) {
        count = number(argv[4]), sectors = number(argv[5]), target = number(argv[6]);
        uint32_t depth = argc > 7 ? (uint32_t)number(argv[7]) : 64;
        return copy(how[0] == 'p', argv[2], argv[3], depth, argc > 8 ? argv[8] : NULL);
    }
    fprintf(stderr, "gather: see the head of ctests/guest/gather.c\n");
    return 2;
}
