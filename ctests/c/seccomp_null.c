/* Submitting to and polling the null plugin makes no system call: the thread
 * runs under a filter that kills it for anything but write and exit. */
#include "null_pairs.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { REQUESTS = 200000, BATCH = 32 };

static int forbid(void)
{
#define ALLOW(number)                                                \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (number), 0, 1),             \
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ALLOW(SYS_write),
        ALLOW(SYS_exit),
        ALLOW(SYS_exit_group),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = {sizeof filter / sizeof filter[0], filter};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0;
}

/* 0: done; 1: wrong; 2: no filters here. */
static int run_filtered(int canary)
{
    static struct null_pairs pairs;
    static struct xcopy_request batch[BATCH];
    static struct xcopy_completion done[BATCH];
    uint64_t random = 1, submitted = 0, completed = 0;

    null_pairs_make(&pairs, 128);
    if (check_failed)
        return 1;
    if (!forbid())
        return 2;
    if (canary)
        syscall(SYS_getppid);
    while (completed < REQUESTS) {
        for (uint64_t i = 0; i < BATCH; i++)
            null_copy(&batch[i], &pairs, &random, submitted + i);
        if (submitted < REQUESTS) {
            int n = xcopy_submit(pairs.queue, batch, sizeof batch[0], BATCH);
            if (n < 0 && n != -EAGAIN)
                return 1;
            submitted += n > 0 ? (uint64_t)n : 0;
        }
        int n = xcopy_poll(pairs.queue, done, sizeof done[0], 1, BATCH, 1000000000);
        if (n < 0)
            return 1;
        for (int i = 0; i < n; i++)
            if (done[i].res != 0)
                return 1;
        completed += (uint64_t)n;
    }
    return 0;
}

static int in_child(int canary)
{
    int status;
    fflush(stdout);
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0)
        _exit(run_filtered(canary));
    REQUIRE(waitpid(child, &status, 0) == child);
    return status;
}

int main(void)
{
    int status = in_child(0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 2) {
        check_skip("this kernel or container has no seccomp filters");
        return check_done();
    }
    if (WIFSIGNALED(status))
        fprintf(stderr, "killed by signal %d: a system call on the null path\n", WTERMSIG(status));
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    /* The filter does kill. */
    status = in_child(1);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
    return check_done();
}
