/* Counting checks. Each program ends with `return check_done();`, whose line of
 * counts the test script reads. */
#ifndef CHECK_H
#define CHECK_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xcopy.h>

static int check_passed, check_failed, check_skipped;

/* A check in a loop passes once, however often it runs; each failure counts.
 * `seen` is of the place in the source; NULL counts every time. */
static inline int check_note(int *seen, int ok, const char *file, int line, const char *what)
{
    if (ok) {
        if (seen == NULL || !__atomic_exchange_n(seen, 1, __ATOMIC_RELAXED))
            __atomic_fetch_add(&check_passed, 1, __ATOMIC_RELAXED);
    } else {
        __atomic_fetch_add(&check_failed, 1, __ATOMIC_RELAXED);
        fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
    }
    return ok;
}

#define CHECK_ONCE(call)         \
    __extension__({              \
        static int check_seen;   \
        int *check_site = &check_seen; \
        call;                    \
    })

#define CHECK(condition) \
    CHECK_ONCE(check_note(check_site, (condition) != 0, __FILE__, __LINE__, #condition))

static inline int check_equal(int *seen, long long have, long long want, const char *file,
                              int line, const char *what)
{
    int ok = check_note(seen, have == want, file, line, what);
    if (!ok)
        fprintf(stderr, "    have %lld, want %lld; last error: %s\n", have, want,
                xcopy_last_error());
    return ok;
}

#define CHECK_EQ(have, want) \
    CHECK_ONCE(check_equal(check_site, (long long)(have), (long long)(want), __FILE__, __LINE__, \
                           #have " == " #want))

/* The call succeeds: any answer that is not negative. */
static inline int check_success(int *seen, int answer, const char *file, int line, const char *what)
{
    int ok = check_note(seen, answer >= 0, file, line, what);
    if (!ok)
        fprintf(stderr, "    answered %d (%s): %s\n", answer, strerror(-answer),
                xcopy_last_error());
    return ok;
}

#define CHECK_OK(call) CHECK_ONCE(check_success(check_site, (call), __FILE__, __LINE__, #call))

/* The call is refused with -wanted, and says why. */
static inline int check_refused(int *seen, int answer, int wanted, const char *file, int line,
                                const char *what)
{
    const char *text = xcopy_last_error();
    int ok = check_note(seen, answer == -wanted && text != NULL && text[0] != '\0', file, line,
                        what);
    if (!ok)
        fprintf(stderr, "    answered %d, want -%d (%s), text \"%s\"\n", answer, wanted,
                strerror(wanted), text ? text : "(null)");
    return ok;
}

#define CHECK_REFUSED(call, wanted) \
    CHECK_ONCE(check_refused(check_site, (call), (wanted), __FILE__, __LINE__, #call))

/* For what a test cannot go on without. */
#define REQUIRE(condition)                                                       \
    do {                                                                         \
        if (!CHECK(condition)) {                                                 \
            fprintf(stderr, "    cannot go on: %s\n", xcopy_last_error());       \
            exit(check_done());                                                  \
        }                                                                        \
    } while (0)

static inline void check_skip(const char *why)
{
    check_skipped++;
    printf("SKIP: %s\n", why);
}

static inline int check_done(void)
{
    fflush(stderr);
    printf("%d passed, %d failed, %d skipped\n", check_passed, check_failed, check_skipped);
    fflush(stdout);
    return check_failed ? 1 : 0;
}

#endif
