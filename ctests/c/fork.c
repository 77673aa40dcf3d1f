/* In a forked child every call on what the parent made answers -ECHILD and
 * changes nothing; the parent goes on as before. */
#include "null_pairs.h"
#include <sys/wait.h>
#include <unistd.h>

static struct null_pairs pairs;
static uint32_t token;

static void in_child(void)
{
    struct xcopy_request request;
    struct xcopy_completion completion;
    struct xcopy_device_info device_info;
    struct xcopy_plugin_info plugin_info;
    struct xcopy_token_info token_info;
    struct xcopy_queue_stats stats;
    struct xcopy_progress progress;
    struct xcopy_method_info methods[4];
    struct xcopy_context *ctx = pairs.ctx;
    struct xcopy_queue *queue = pairs.queue, *new_queue = NULL;
    uint64_t random = 7;
    uint32_t handle = 0, mask;
    char buffer[64];
    size_t used;

    null_copy(&request, &pairs, &random, 1);
    CHECK_REFUSED(xcopy_submit(queue, &request, sizeof request, 1), ECHILD);
    CHECK_REFUSED(xcopy_poll(queue, &completion, sizeof completion, 0, 1, 0), ECHILD);
    CHECK_REFUSED(xcopy_queue_fd(queue), ECHILD);
    CHECK_REFUSED(xcopy_queue_arm(queue), ECHILD);
    CHECK_REFUSED(xcopy_queue_disarm(queue), ECHILD);
    CHECK_REFUSED(xcopy_queue_ready(queue), ECHILD);
    CHECK_REFUSED(xcopy_queue_in_flight(queue), ECHILD);
    CHECK_REFUSED(xcopy_queue_drain(queue), ECHILD);
    CHECK_REFUSED(xcopy_queue_resume(queue), ECHILD);
    CHECK_REFUSED(xcopy_queue_stats(queue, &stats, sizeof stats), ECHILD);
    CHECK_REFUSED(xcopy_cancel(queue, 1), ECHILD);
    CHECK_REFUSED(xcopy_cancel_device(queue, pairs.src[0]), ECHILD);
    CHECK_REFUSED(xcopy_progress(queue, 1, &progress, sizeof progress), ECHILD);
    CHECK_REFUSED(xcopy_queue_create(ctx, NULL, &new_queue), ECHILD);
    CHECK(new_queue == NULL);
    CHECK_REFUSED(xcopy_device_open(ctx, "null:1T", XCOPY_OPEN_READ, &handle), ECHILD);
    CHECK_REFUSED(xcopy_device_open_fd(ctx, 0, XCOPY_OPEN_READ, &handle), ECHILD);
    CHECK_REFUSED(xcopy_device_open_native(ctx, "null", &handle, XCOPY_OPEN_READ, &handle), ECHILD);
    CHECK_EQ(handle, 0);
    CHECK_REFUSED(xcopy_device_close(ctx, pairs.src[0]), ECHILD);
    CHECK_REFUSED(xcopy_device_is_closed(ctx, pairs.src[0]), ECHILD);
    CHECK_REFUSED(xcopy_device_info(ctx, pairs.src[0], &device_info, sizeof device_info), ECHILD);
    CHECK_REFUSED(xcopy_device_events(ctx, pairs.src[0], &handle), ECHILD);
    CHECK_REFUSED(xcopy_device_invalidate(ctx, pairs.src[0]), ECHILD);
    CHECK_REFUSED(xcopy_pair_query(ctx, pairs.src[0], pairs.dst[0], methods, sizeof methods[0], 4),
                  ECHILD);
    CHECK_REFUSED(xcopy_plugin_load(ctx, "null"), ECHILD);
    CHECK_REFUSED(xcopy_plugin_load_all(ctx, NULL), ECHILD);
    CHECK_REFUSED(xcopy_plugin_count(ctx), ECHILD);
    CHECK_REFUSED(xcopy_plugin_info(ctx, 0, &plugin_info, sizeof plugin_info), ECHILD);
    CHECK_REFUSED(xcopy_method_mask(ctx, "null", &mask), ECHILD);
    CHECK_REFUSED(xcopy_token_create(ctx, &handle), ECHILD);
    CHECK_REFUSED(xcopy_token_info(ctx, token, &token_info, sizeof token_info), ECHILD);
    CHECK_REFUSED(xcopy_token_export(ctx, token, buffer, sizeof buffer, &used), ECHILD);
    CHECK_REFUSED(xcopy_token_import(ctx, buffer, sizeof buffer, &handle), ECHILD);
    CHECK_REFUSED(xcopy_token_free(ctx, token), ECHILD);
    CHECK_REFUSED(xcopy_queue_destroy(queue, 0), ECHILD);
    CHECK_REFUSED(xcopy_queue_destroy(queue, XCOPY_DESTROY_FORCE), ECHILD);
    CHECK_REFUSED(xcopy_context_free(ctx), ECHILD);
    /* What needs no context still answers. */
    CHECK(xcopy_version() != 0);
    CHECK(xcopy_reason_string(XCOPY_REASON_NONE) != NULL);
}

int main(void)
{
    struct xcopy_request request;
    struct xcopy_completion completion;
    uint64_t random = 9;
    int status, counts[2], fds[2];

    null_pairs_make(&pairs, 64);
    REQUIRE(xcopy_token_create(pairs.ctx, &token) == 0);
    null_copy(&request, &pairs, &random, 77);
    CHECK_EQ(xcopy_submit(pairs.queue, &request, sizeof request, 1), 1);
    REQUIRE(pipe(fds) == 0);
    fflush(stdout);
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        check_passed = check_failed = 0;
        in_child();
        counts[0] = check_passed;
        counts[1] = check_failed;
        _exit(write(fds[1], counts, sizeof counts) == sizeof counts ? 0 : 1);
    }
    close(fds[1]);
    REQUIRE(read(fds[0], counts, sizeof counts) == sizeof counts);
    check_passed += counts[0];
    check_failed += counts[1];
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);

    /* The parent's request was not disturbed. */
    CHECK_EQ(xcopy_poll(pairs.queue, &completion, sizeof completion, 1, 1, INT64_C(5000000000)), 1);
    CHECK_EQ(completion.user_data, 77);
    CHECK_EQ(completion.res, 0);
    CHECK_EQ(xcopy_token_free(pairs.ctx, token), 0);
    null_pairs_free(&pairs);
    return check_done();
}
