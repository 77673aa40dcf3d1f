/* The steady null path allocates nothing, locks nothing and reads no clock:
 * the program's own malloc, pthread_mutex_lock, clock_gettime and syscall stand
 * before libc's and count. */
#include "null_pairs.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdarg.h>
#include <time.h>

enum { REQUESTS = 500000, BATCH = 32 };

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *memory, size_t size);
extern void *__libc_memalign(size_t align, size_t size);
extern void __libc_free(void *memory);

/* Of this thread only: what the pool does meanwhile is its own affair. */
static __thread unsigned long allocations, frees, locks, clocks, syscalls;

#define COUNT(counter) ((counter)++)

void *malloc(size_t size)
{
    COUNT(allocations);
    return __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    COUNT(allocations);
    return __libc_calloc(n, size);
}

void *realloc(void *memory, size_t size)
{
    COUNT(allocations);
    return __libc_realloc(memory, size);
}

int posix_memalign(void **memory, size_t align, size_t size)
{
    COUNT(allocations);
    *memory = __libc_memalign(align, size);
    return *memory == NULL ? ENOMEM : 0;
}

void *aligned_alloc(size_t align, size_t size)
{
    COUNT(allocations);
    return __libc_memalign(align, size);
}

void free(void *memory)
{
    COUNT(frees);
    __libc_free(memory);
}

/* A function of libc, found once. ISO C has no cast from void * to a function. */
#define NEXT(pointer, name)                              \
    do {                                                 \
        if ((pointer) == NULL) {                         \
            void *symbol = dlsym(RTLD_NEXT, (name));     \
            memcpy(&(pointer), &symbol, sizeof symbol);  \
        }                                                \
    } while (0)

int pthread_mutex_lock(pthread_mutex_t *mutex)
{
    static int (*next)(pthread_mutex_t *);
    COUNT(locks);
    NEXT(next, "pthread_mutex_lock");
    return next(mutex);
}

int pthread_mutex_trylock(pthread_mutex_t *mutex)
{
    static int (*next)(pthread_mutex_t *);
    COUNT(locks);
    NEXT(next, "pthread_mutex_trylock");
    return next(mutex);
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
    static int (*next)(clockid_t, struct timespec *);
    COUNT(clocks);
    NEXT(next, "clock_gettime");
    return next(clock, time);
}

long syscall(long number, ...)
{
    static long (*next)(long, ...);
    long a[6];
    va_list list;
    va_start(list, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(list, long);
    va_end(list);
    COUNT(syscalls);
    NEXT(next, "syscall");
    return next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

static struct null_pairs pairs;

static void run(uint64_t requests)
{
    static struct xcopy_request batch[BATCH];
    static struct xcopy_completion done[BATCH];
    static uint64_t random = 3;
    uint64_t submitted = 0, completed = 0;
    while (completed < requests) {
        for (uint64_t i = 0; i < BATCH; i++)
            null_copy(&batch[i], &pairs, &random, submitted + i);
        if (submitted < requests) {
            int n = xcopy_submit(pairs.queue, batch, sizeof batch[0], BATCH);
            if (n < 0 && n != -EAGAIN)
                break;
            submitted += n > 0 ? (uint64_t)n : 0;
        }
        int n = xcopy_poll(pairs.queue, done, sizeof done[0], 0, BATCH, 0);
        if (n < 0)
            break;
        completed += (uint64_t)n;
    }
    CHECK(completed >= requests);
}

int main(void)
{
    null_pairs_make(&pairs, 128);
    /* The counters do count. */
    struct timespec now;
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    void *(*volatile allocate)(size_t) = malloc;
    unsigned long a = allocations, l = locks, c = clocks;
    free(allocate(10));
    pthread_mutex_lock(&mutex);
    pthread_mutex_unlock(&mutex);
    clock_gettime(CLOCK_MONOTONIC, &now);
    CHECK(allocations > a && locks > l && clocks > c);
    /* They count the library's calls, too: a context needs memory. */
    struct xcopy_context *other = NULL;
    a = allocations;
    CHECK_EQ(xcopy_context_create(NULL, &other), 0);
    CHECK(allocations > a);
    CHECK_EQ(xcopy_context_free(other), 0);

    run(10000);
    unsigned long f = frees, s = syscalls;
    a = allocations, l = locks, c = clocks;
    run(REQUESTS);
    CHECK_EQ(allocations - a, 0);
    CHECK_EQ(frees - f, 0);
    CHECK_EQ(locks - l, 0);
    CHECK_EQ(clocks - c, 0);
    CHECK_EQ(syscalls - s, 0);
    null_pairs_free(&pairs);
    return check_done();
}
