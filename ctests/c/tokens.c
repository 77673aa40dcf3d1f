/* Tokens through the C interface: one context names the data, another one, which
 * stands for another host, writes it; damaged, dead and foreign ones are refused
 * by name. The copy manager is the one in memory. */
#include "check.h"
#include "copy_manager.h"
#include "stamp.h"

enum { BLOCKS = 40960 }; /* 20 MiB: three tokens of an array with 8 MiB tokens */
#define BYTES ((uint64_t)BLOCKS * STAMP_BLOCK)

struct host {
    struct xcopy_context *ctx;
    struct xcopy_queue *queue;
    uint32_t device;
};

static struct host host_make(const struct copy_manager *target, const char *name, size_t unit)
{
    struct host h;
    uint32_t both = XCOPY_OPEN_READ | XCOPY_OPEN_WRITE;
    REQUIRE(xcopy_context_create(NULL, &h.ctx) == 0);
    REQUIRE(xcopy_plugin_load(h.ctx, "odx") >= 0);
    REQUIRE(xcopy_queue_create(h.ctx, NULL, &h.queue) == 0);
    void *native = copy_manager_connect(target, name, unit);
    REQUIRE(xcopy_device_open_native(h.ctx, "odx", native, both, &h.device) == 0);
    return h;
}

static void host_free(struct host *h)
{
    CHECK_EQ(xcopy_queue_destroy(h->queue, 0), 0);
    CHECK_OK(xcopy_device_close(h->ctx, h->device));
    CHECK_EQ(xcopy_context_free(h->ctx), 0);
}

static struct xcopy_completion run(const struct host *h, uint16_t op, uint32_t src, uint32_t dst,
                                   uint64_t src_offset, uint64_t dst_offset, uint64_t length)
{
    struct xcopy_request r;
    struct xcopy_completion c;
    memset(&r, 0, sizeof r);
    memset(&c, 0xff, sizeof c);
    r.op = op;
    r.src = src;
    r.dst = dst;
    r.src_offset = src_offset;
    r.dst_offset = dst_offset;
    r.length = length;
    CHECK_EQ(xcopy_submit(h->queue, &r, sizeof r, 1), 1);
    CHECK_EQ(xcopy_poll(h->queue, &c, sizeof c, 1, 1, INT64_C(30000000000)), 1);
    return c;
}

/* `blocks` blocks of the unit from `first` on hold those of `disk` from `from` on. */
static int holds(const struct copy_manager *target, size_t unit, uint64_t first, uint64_t disk,
                 uint64_t from, uint64_t blocks)
{
    unsigned char have[STAMP_BLOCK], want[STAMP_BLOCK];
    for (uint64_t i = 0; i < blocks; i++) {
        copy_manager_peek(target, unit, (first + i) * STAMP_BLOCK, have, sizeof have);
        stamp_block(want, disk, from + i, 1);
        if (memcmp(have, want, sizeof want) != 0)
            return 0;
    }
    return 1;
}

static size_t stamped_disk(const struct copy_manager *target, uint64_t disk)
{
    unsigned char block[STAMP_BLOCK];
    size_t unit = copy_manager_add_disk(target, STAMP_BLOCK, BYTES);
    for (uint64_t i = 0; i < BLOCKS; i++) {
        stamp_block(block, disk, i, 1);
        copy_manager_poke(target, unit, i * STAMP_BLOCK, block, sizeof block);
    }
    return unit;
}

static uint32_t make(const struct host *h, uint64_t offset, uint64_t length)
{
    uint32_t token = 0;
    REQUIRE(xcopy_token_create(h->ctx, &token) == 0);
    struct xcopy_completion c = run(h, XCOPY_OP_TOKEN_CREATE, h->device, token, offset, 0, length);
    CHECK_EQ(c.res, 0);
    CHECK_EQ(c.bytes_done, length);
    return token;
}

int main(void)
{
    struct copy_manager *array = copy_manager_new("array"), *foreign = copy_manager_new("array");
    REQUIRE(array != NULL && foreign != NULL);
    size_t a = stamped_disk(array, 1), b = stamped_disk(array, 2), f = stamped_disk(foreign, 3);
    struct host one = host_make(array, "one", a), two = host_make(array, "two", b);
    struct host other = host_make(foreign, "other", f);

    /* Named by the one, written by the other: all of it, and a part to another place. */
    uint32_t token = make(&one, 0, BYTES), again = 0;
    struct xcopy_token_info info;
    memset(&info, 0, sizeof info);
    CHECK_OK(xcopy_token_info(one.ctx, token, &info, sizeof info));
    CHECK_EQ(info.bytes, BYTES);
    CHECK_EQ(info.shows, XCOPY_TOKEN_SHOWS_PAST);
    CHECK(info.lifetime_s > 0 && info.created_s > 0 && strchr(info.origin, ':') != NULL);
    CHECK(strchr(info.origin, ':')[1] != 0);
    CHECK_EQ(info.method, XCOPY_METHOD_ODX);
    CHECK_EQ(copy_manager_live_tokens(array), 3);
    size_t used = 0, size = info.export_bytes;
    unsigned char *buffer = malloc(size);
    REQUIRE(buffer != NULL);
    CHECK_REFUSED(xcopy_token_export(one.ctx, token, buffer, size - 1, &used), ENOBUFS);
    CHECK_EQ(used, size);
    CHECK_OK(xcopy_token_export(one.ctx, token, buffer, size, &used));
    CHECK_OK(xcopy_token_import(two.ctx, buffer, used, &again));

    struct xcopy_completion c = run(&two, XCOPY_OP_TOKEN_WRITE, again, two.device,
                                    8 * 1048576 - 512, 4096, 1024);
    CHECK_EQ(c.res, 0);
    CHECK(c.flags & XCOPY_CPL_OFFLOADED);
    CHECK(holds(array, b, 8, 1, 16383, 2));
    CHECK(holds(array, b, 0, 2, 0, 8) && holds(array, b, 10, 2, 10, BLOCKS - 10));
    c = run(&two, XCOPY_OP_TOKEN_WRITE, again, two.device, 0, 0, BYTES);
    CHECK_EQ(c.res, 0);
    CHECK_EQ(c.bytes_offloaded, BYTES);
    CHECK(holds(array, b, 0, 1, 0, BLOCKS));

    /* Damaged anywhere, or cut off: refused, with words. */
    for (size_t at = 0; at < used; at += 97) {
        uint32_t none = 0;
        buffer[at] ^= 0x20;
        CHECK_REFUSED(xcopy_token_import(two.ctx, buffer, used, &none), EINVAL);
        buffer[at] ^= 0x20;
        CHECK_EQ(none, 0);
    }
    uint32_t none = 0;
    CHECK_REFUSED(xcopy_token_import(two.ctx, buffer, used - 1, &none), EINVAL);

    /* Another copy manager does not know it. */
    uint32_t there = 0;
    CHECK_OK(xcopy_token_import(other.ctx, buffer, used, &there));
    c = run(&other, XCOPY_OP_TOKEN_WRITE, there, other.device, 0, 0, BYTES);
    CHECK_EQ(c.res, -ESTALE);
    CHECK_EQ(c.reason, XCOPY_REASON_CROSS_DEVICE);
    CHECK(holds(foreign, f, 0, 3, 0, BLOCKS));
    /* Which says nothing of its own tokens. */
    uint32_t own = make(&other, 0, 1048576);
    c = run(&other, XCOPY_OP_TOKEN_WRITE, own, other.device, 0, 2 * 1048576, 1048576);
    CHECK_EQ(c.res, 0);
    CHECK(holds(foreign, f, 4096, 3, 0, 2048));
    c = run(&other, XCOPY_OP_TOKEN_RELEASE, own, other.device, 0, 0, 0);
    CHECK_EQ(c.res, 0);
    CHECK_EQ(copy_manager_live_tokens(foreign), 0);
    CHECK_EQ(xcopy_token_free(other.ctx, own), 0);

    /* One request fills a token; a queue destroyed by force gives it back. */
    struct xcopy_queue *beside;
    struct xcopy_request fill;
    uint32_t empty;
    REQUIRE(xcopy_token_create(other.ctx, &empty) == 0);
    REQUIRE(xcopy_queue_create(other.ctx, NULL, &beside) == 0);
    memset(&fill, 0, sizeof fill);
    fill.op = XCOPY_OP_TOKEN_CREATE;
    fill.src = other.device;
    fill.dst = empty;
    fill.length = BYTES;
    copy_manager_service(foreign, 50000);
    CHECK_EQ(xcopy_submit(beside, &fill, sizeof fill, 1), 1);
    CHECK_REFUSED(xcopy_submit(other.queue, &fill, sizeof fill, 1), EBUSY);
    CHECK_REFUSED(xcopy_token_free(other.ctx, empty), EBUSY);
    CHECK_EQ(xcopy_queue_destroy(beside, XCOPY_DESTROY_FORCE), 0);
    CHECK_EQ(xcopy_token_free(other.ctx, empty), 0);
    copy_manager_service(foreign, 0);

    /* Released by the one, dead for the other. */
    c = run(&one, XCOPY_OP_TOKEN_RELEASE, token, one.device, 0, 0, 0);
    CHECK_EQ(c.res, 0);
    CHECK_EQ(copy_manager_live_tokens(array), 0);
    c = run(&two, XCOPY_OP_TOKEN_WRITE, again, two.device, 0, 0, 4096);
    CHECK_EQ(c.res, -ESTALE);

    /* Expired, and by its name. */
    uint32_t late = make(&one, 512, 65536);
    CHECK_EQ(copy_manager_end_tokens(array, 7), 0);
    c = run(&one, XCOPY_OP_TOKEN_WRITE, late, one.device, 0, 1048576, 65536);
    CHECK_EQ(c.res, -ESTALE);
    char words[200];
    CHECK_OK(xcopy_detail_string(c.detail, words, sizeof words));
    CHECK(strstr(words, "expired") != NULL);
    CHECK(holds(array, a, 0, 1, 0, BLOCKS));

    memset(buffer, 0, size);
    free(buffer);
    CHECK_EQ(xcopy_token_free(one.ctx, token), 0);
    CHECK_EQ(xcopy_token_free(two.ctx, again), 0);
    host_free(&one);
    host_free(&two);
    host_free(&other);
    copy_manager_free(array);
    copy_manager_free(foreign);
    return check_done();
}
