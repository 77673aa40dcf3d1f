/* Pairs of devices of the null plugin, prepared on a queue. */
#ifndef NULL_PAIRS_H
#define NULL_PAIRS_H

#include "check.h"

#define NULL_PAIRS 64

struct null_pairs {
    struct xcopy_context *ctx;
    struct xcopy_queue *queue;
    uint32_t src[NULL_PAIRS], dst[NULL_PAIRS];
};

/* xorshift64*: the same sequence in every run. */
static inline uint64_t random_next(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(0x2545f4914f6cdd1d);
}

static inline void null_pairs_make(struct null_pairs *p, uint32_t capacity)
{
    struct xcopy_queue_options options;
    memset(p, 0, sizeof *p);
    REQUIRE(xcopy_context_create(NULL, &p->ctx) == 0);
    REQUIRE(xcopy_plugin_load(p->ctx, "null") >= 0);
    REQUIRE(xcopy_queue_options_init(&options, sizeof options) == 0);
    options.capacity = capacity;
    options.window = capacity;
    REQUIRE(xcopy_queue_create(p->ctx, &options, &p->queue) == 0);
    for (int i = 0; i < NULL_PAIRS; i++) {
        REQUIRE(xcopy_device_open(p->ctx, "null:1T", XCOPY_OPEN_READ, &p->src[i]) == 0);
        REQUIRE(xcopy_device_open(p->ctx, "null:1T", XCOPY_OPEN_WRITE, &p->dst[i]) == 0);
        struct xcopy_request prepare;
        struct xcopy_completion completion;
        memset(&prepare, 0, sizeof prepare);
        prepare.op = XCOPY_OP_PREPARE;
        prepare.user_data = (uint64_t)i;
        prepare.src = p->src[i];
        prepare.dst = p->dst[i];
        REQUIRE(xcopy_submit(p->queue, &prepare, sizeof prepare, 1) == 1);
        REQUIRE(xcopy_poll(p->queue, &completion, sizeof completion, 1, 1,
                           INT64_C(10000000000)) == 1);
        REQUIRE(completion.res == 0 && completion.user_data == (uint64_t)i);
    }
}

static inline void null_pairs_free(struct null_pairs *p)
{
    CHECK_EQ(xcopy_queue_in_flight(p->queue), 0);
    CHECK_EQ(xcopy_queue_destroy(p->queue, 0), 0);
    CHECK_EQ(xcopy_context_free(p->ctx), 0);
}

static inline void null_copy(struct xcopy_request *r, const struct null_pairs *p, uint64_t *random,
                             uint64_t user_data)
{
    uint64_t number = random_next(random);
    memset(r, 0, sizeof *r);
    r->user_data = user_data;
    r->op = XCOPY_OP_COPY;
    r->src = p->src[number % NULL_PAIRS];
    r->dst = p->dst[number % NULL_PAIRS];
    r->src_offset = (number >> 8 & 0xffff) * 65536;
    r->dst_offset = (number >> 24 & 0xffff) * 65536;
    r->length = 65536;
}

#endif
