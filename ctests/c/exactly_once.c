/* A million requests over 64 null pairs at random: each user_data comes back
 * once, never twice, never not; a refused request never comes back. */
#include "null_pairs.h"

enum { REQUESTS = 1000000, CAPACITY = 256, BATCH = 64 };

int main(void)
{
    struct null_pairs pairs;
    struct xcopy_request batch[BATCH];
    struct xcopy_completion done[BATCH];
    unsigned char *seen = calloc(REQUESTS, 1);
    uint64_t random = 42, submitted = 0, completed = 0, wrong = 0, unknown = 0, eagain = 0;
    uint64_t idle_eagain = 0;

    null_pairs_make(&pairs, CAPACITY);
    REQUIRE(seen != NULL);
    while (completed < REQUESTS) {
        uint32_t n = 1 + (uint32_t)(random_next(&random) % BATCH);
        if (n > REQUESTS - submitted)
            n = (uint32_t)(REQUESTS - submitted);
        for (uint32_t i = 0; i < n; i++)
            null_copy(&batch[i], &pairs, &random, submitted + i);
        int accepted = n == 0 ? 0 : xcopy_submit(pairs.queue, batch, sizeof batch[0], n);
        if (accepted == -EAGAIN) {
            eagain++;
            idle_eagain += xcopy_queue_in_flight(pairs.queue) == 0;
            accepted = 0;
        }
        REQUIRE(accepted >= 0 && accepted <= (int)n);
        submitted += (uint64_t)accepted;
        if (accepted > 0 && accepted < (int)n)
            eagain += xcopy_submit(pairs.queue, batch + accepted, sizeof batch[0], 1) == -EAGAIN;
        /* Polling less than is submitted, at times, fills the queue. */
        uint32_t max = 1 + (uint32_t)(random_next(&random) % BATCH);
        int got = xcopy_poll(pairs.queue, done, sizeof done[0], 0, max, 0);
        REQUIRE(got >= 0 && got <= (int)max);
        for (int i = 0; i < got; i++) {
            if (done[i].user_data >= submitted) {
                unknown++;
                continue;
            }
            seen[done[i].user_data]++;
            wrong += done[i].res != 0 || done[i].bytes_done != 65536 ||
                     done[i].bytes_copied != 65536 || done[i].method != XCOPY_METHOD_NULL ||
                     done[i].reserved != 0;
        }
        completed += (uint64_t)got;
    }
    uint64_t lost = 0, doubled = 0;
    for (int i = 0; i < REQUESTS; i++) {
        lost += seen[i] == 0;
        doubled += seen[i] > 1;
    }
    CHECK_EQ(lost, 0);
    CHECK_EQ(doubled, 0);
    CHECK_EQ(unknown, 0);
    CHECK_EQ(wrong, 0);
    CHECK_EQ(idle_eagain, 0);
    CHECK(eagain > 0);
    CHECK_EQ(xcopy_poll(pairs.queue, done, sizeof done[0], 0, BATCH, 0), 0);

    struct xcopy_queue_stats stats;
    CHECK_OK(xcopy_queue_stats(pairs.queue, &stats, sizeof stats));
    CHECK_EQ(stats.completions, REQUESTS + NULL_PAIRS);
    CHECK_EQ(stats.requests, REQUESTS + NULL_PAIRS);
    CHECK_EQ(stats.late_answers, 0);
    CHECK_EQ(stats.plugin_faults, 0);
    free(seen);
    null_pairs_free(&pairs);
    return check_done();
}
