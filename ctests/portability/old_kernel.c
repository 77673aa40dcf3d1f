/* Runs a program as on Linux 4.14: every system call that came later answers
 * ENOSYS, which is what an older kernel says. Flags of older calls that came
 * later are not taken away; the library asks for none without looking at the
 * answer.
 *
 *   old_kernel PROGRAM [ARGUMENT...]
 *   old_kernel --refused      a kernel before 4.14: no context, and why
 */
#include "../c/check.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
enum { AFTER_4_14 = 333 }; /* io_pgetevents */
#elif defined(__aarch64__)
enum { AFTER_4_14 = 292 };
#else
#error "add the first system call after Linux 4.14 of this machine"
#endif

static int filter(int before)
{
    struct sock_filter steps[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, AFTER_4_14, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, before ? SYS_membarrier : AFTER_4_14, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
    };
    struct sock_fprog program = {sizeof steps / sizeof steps[0], steps};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0;
}

int main(int argc, char **argv)
{
    int refused = argc == 2 && strcmp(argv[1], "--refused") == 0;
    if (argc < 2)
        return 2;
    if (!filter(refused)) {
        check_skip("this kernel or container has no seccomp filters");
        return check_done();
    }
    /* The filter does what it says. */
    if (syscall(AFTER_4_14, 0, 0, 0, 0, 0, 0) != -1 || errno != ENOSYS)
        return 3;
    if (!refused) {
        execv(argv[1], argv + 1);
        perror(argv[1]);
        return 3;
    }
    struct xcopy_context *context = NULL;
    CHECK_REFUSED(xcopy_context_create(NULL, &context), ENOSYS);
    CHECK(context == NULL);
    CHECK(strstr(xcopy_last_error(), "4.14") != NULL);
    return check_done();
}
