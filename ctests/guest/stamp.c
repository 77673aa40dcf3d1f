/* Fills a disk with stamps and compares it, buffered and past the page cache.
 *
 *   stamp fill PATH DISK GENERATION [AT COUNT]
 *   stamp zero PATH AT COUNT
 *   stamp prime PATH [AT COUNT]
 *   stamp expect [--direct|--buffered] PATH DISK GENERATION [AT COUNT DISK LBA GENERATION]...
 *   stamp either PATH DISK GENERATION AT COUNT DISK LBA GENERATION PREFIX
 *
 * All numbers are of 512-byte sectors. `expect` compares the whole disk: sector
 * n is (DISK, n, GENERATION), but in each range AT COUNT it is what sector LBA on
 * of that other disk was; DISK 0 is zeroes. `fill` and `zero` write past the cache
 * and flush; `prime` reads into the page cache. `either`, after a copy that was
 * broken off, lets each sector of the range be old or new, but the first PREFIX of
 * them must be new; it prints how many are. A file that ends within a range
 * fails. Status 0 is equal, 1 differs, 2 could not be read. */
#include "stamp.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/ioctl.h>
#include <linux/fs.h>

enum { AT_ONCE = 2048, MOST = 4096 };

struct range {
    uint64_t at, count, disk, lba, generation;
};

static struct range ranges[MOST];
static unsigned range_count;

static void die(const char *what)
{
    fprintf(stderr, "stamp: %s: %s\n", what, strerror(errno));
    exit(2);
}

static uint64_t number(const char *text)
{
    char *end;
    errno = 0;
    uint64_t value = strtoull(text, &end, 0);
    if (errno != 0 || end == text || *end != '\0') {
        fprintf(stderr, "stamp: %s is no number\n", text);
        exit(2);
    }
    return value;
}

static uint64_t sectors_of(int fd, const char *path)
{
    struct stat st;
    uint64_t bytes;
    if (fstat(fd, &st) != 0)
        die(path);
    bytes = (uint64_t)st.st_size;
    if (S_ISBLK(st.st_mode) && ioctl(fd, BLKGETSIZE64, &bytes) != 0)
        die(path);
    return bytes / STAMP_BLOCK;
}

static void *buffer_of(void)
{
    void *buffer;
    if (posix_memalign(&buffer, 4096, (size_t)AT_ONCE * STAMP_BLOCK) != 0)
        die("memory");
    return buffer;
}

/* A file system without O_DIRECT (tmpfs before 6.6) is opened without. */
static int open_direct(const char *path, int flags)
{
    int fd = open(path, flags | O_DIRECT | O_CLOEXEC);
    if (fd < 0 && errno == EINVAL)
        fd = open(path, flags | O_CLOEXEC);
    if (fd < 0)
        die(path);
    return fd;
}

static void make(void *block, uint64_t disk, uint64_t lba, uint64_t generation)
{
    if (disk == 0)
        memset(block, 0, STAMP_BLOCK);
    else
        stamp_block(block, disk, lba, generation);
}

static void fill(const char *path, uint64_t disk, uint64_t generation, uint64_t at, uint64_t count)
{
    int fd = open_direct(path, O_WRONLY);
    unsigned char *buffer = buffer_of();
    if (count == 0)
        count = sectors_of(fd, path) - at;
    for (uint64_t done = 0; done < count;) {
        uint64_t n = count - done < AT_ONCE ? count - done : AT_ONCE;
        for (uint64_t i = 0; i < n; i++)
            make(buffer + i * STAMP_BLOCK, disk, at + done + i, generation);
        size_t bytes = (size_t)n * STAMP_BLOCK;
        ssize_t wrote = pwrite(fd, buffer, bytes, (off_t)((at + done) * STAMP_BLOCK));
        if (wrote != (ssize_t)bytes) {
            if (wrote >= 0)
                errno = EIO;
            die(path);
        }
        done += n;
    }
    if (fsync(fd) != 0)
        die(path);
    close(fd);
    free(buffer);
}

/* What sector n should be. */
static void wanted(uint64_t n, uint64_t disk, uint64_t generation, struct range *want)
{
    for (unsigned i = range_count; i-- > 0;) {
        if (n - ranges[i].at < ranges[i].count) {
            *want = ranges[i];
            want->lba = ranges[i].lba + (n - ranges[i].at);
            return;
        }
    }
    want->disk = disk;
    want->lba = n;
    want->generation = generation;
}

static void describe(const unsigned char *block)
{
    uint64_t words[STAMP_BLOCK / 8];
    unsigned char again[STAMP_BLOCK];
    memcpy(words, block, sizeof words);
    stamp_block(again, words[0], words[1], words[2]);
    if (memcmp(again, block, STAMP_BLOCK) == 0) {
        printf("disk %" PRIu64 " sector %" PRIu64 " generation %" PRIu64, words[0], words[1], words[2]);
        return;
    }
    memset(again, 0, sizeof again);
    printf("%s", memcmp(again, block, STAMP_BLOCK) == 0 ? "zeroes" : "no stamp");
}

static uint64_t differing(int fd, const char *path, const char *how, uint64_t disk,
                          uint64_t generation)
{
    unsigned char *buffer = buffer_of();
    unsigned char want[STAMP_BLOCK];
    uint64_t wrong = 0, sectors = sectors_of(fd, path);
    for (unsigned i = 0; i < range_count; i++) {
        if (ranges[i].at > sectors || ranges[i].count > sectors - ranges[i].at) {
            printf("%s: %" PRIu64 " sectors do not hold the range at %" PRIu64 "\n", path, sectors,
                   ranges[i].at);
            wrong++;
        }
    }
    for (uint64_t at = 0; at < sectors;) {
        uint64_t n = sectors - at < AT_ONCE ? sectors - at : AT_ONCE;
        ssize_t got = pread(fd, buffer, (size_t)n * STAMP_BLOCK, (off_t)(at * STAMP_BLOCK));
        if (got != (ssize_t)(n * STAMP_BLOCK)) {
            if (got >= 0)
                errno = EIO;
            die(path);
        }
        for (uint64_t i = 0; i < n; i++) {
            struct range is;
            wanted(at + i, disk, generation, &is);
            make(want, is.disk, is.lba, is.generation);
            if (memcmp(buffer + i * STAMP_BLOCK, want, STAMP_BLOCK) == 0)
                continue;
            if (wrong++ < 3) {
                printf("%s, %s: sector %" PRIu64 " should be disk %" PRIu64 " sector %" PRIu64
                       " generation %" PRIu64 " and is ", path, how, at + i, is.disk, is.lba,
                       is.generation);
                describe(buffer + i * STAMP_BLOCK);
                printf("\n");
            }
        }
        at += n;
    }
    if (wrong != 0)
        printf("%s, %s: %" PRIu64 " of %" PRIu64 " sectors differ\n", path, how, wrong, sectors);
    free(buffer);
    return wrong;
}

static int expect(char **argv, int argc)
{
    int buffered = 1, direct = 1;
    if (argc > 0 && strcmp(argv[0], "--direct") == 0)
        buffered = 0, argv++, argc--;
    else if (argc > 0 && strcmp(argv[0], "--buffered") == 0)
        direct = 0, argv++, argc--;
    if (argc < 3 || (argc - 3) % 5 != 0 || (argc - 3) / 5 > MOST)
        return -1;
    const char *path = argv[0];
    uint64_t disk = number(argv[1]), generation = number(argv[2]), wrong = 0;
    for (int i = 3; i < argc; i += 5) {
        struct range *range = &ranges[range_count++];
        range->at = number(argv[i]);
        range->count = number(argv[i + 1]);
        range->disk = number(argv[i + 2]);
        range->lba = number(argv[i + 3]);
        range->generation = number(argv[i + 4]);
    }
    /* Buffered first: a direct read may drop stale pages. */
    if (buffered) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            die(path);
        wrong += differing(fd, path, "buffered", disk, generation);
        close(fd);
    }
    if (direct) {
        int fd = open_direct(path, O_RDONLY);
        wrong += differing(fd, path, "direct", disk, generation);
        close(fd);
    }
    return wrong != 0;
}

static int either(char **argv)
{
    const char *path = argv[0];
    unsigned char *buffer = buffer_of(), old[STAMP_BLOCK], new[STAMP_BLOCK];
    uint64_t disk = number(argv[1]), generation = number(argv[2]), prefix = number(argv[8]);
    uint64_t copied = 0, wrong = 0;
    struct range range = {number(argv[3]), number(argv[4]), number(argv[5]), number(argv[6]),
                          number(argv[7])};
    int fd = open_direct(path, O_RDONLY);
    uint64_t sectors = sectors_of(fd, path);
    for (uint64_t at = 0; at < sectors; at += AT_ONCE) {
        uint64_t n = sectors - at < AT_ONCE ? sectors - at : AT_ONCE;
        if (pread(fd, buffer, (size_t)n * STAMP_BLOCK, (off_t)(at * STAMP_BLOCK)) !=
            (ssize_t)(n * STAMP_BLOCK))
            die(path);
        for (uint64_t i = 0; i < n; i++) {
            const unsigned char *is = buffer + i * STAMP_BLOCK;
            uint64_t in = at + i - range.at;
            make(old, disk, at + i, generation);
            if (in < range.count) {
                make(new, range.disk, range.lba + in, range.generation);
                if (memcmp(is, new, STAMP_BLOCK) == 0) {
                    copied++;
                    continue;
                }
                if (in >= prefix && memcmp(is, old, STAMP_BLOCK) == 0)
                    continue;
            } else if (memcmp(is, old, STAMP_BLOCK) == 0) {
                continue;
            }
            if (wrong++ < 3) {
                printf("%s: sector %" PRIu64 " is ", path, at + i);
                describe(is);
                printf("\n");
            }
        }
    }
    close(fd);
    free(buffer);
    printf("%" PRIu64 " of %" PRIu64 " sectors are new\n", copied, range.count);
    return wrong != 0;
}

static void prime(const char *path, uint64_t at, uint64_t count)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    unsigned char *buffer = buffer_of();
    if (fd < 0)
        die(path);
    if (count == 0)
        count = sectors_of(fd, path) - at;
    for (uint64_t done = 0; done < count; done += AT_ONCE) {
        uint64_t n = count - done < AT_ONCE ? count - done : AT_ONCE;
        if (pread(fd, buffer, (size_t)n * STAMP_BLOCK, (off_t)((at + done) * STAMP_BLOCK)) < 0)
            die(path);
    }
    close(fd);
    free(buffer);
}

int main(int argc, char **argv)
{
    const char *what = argc > 2 ? argv[1] : "";
    int status = -1;
    if (strcmp(what, "fill") == 0 && (argc == 5 || argc == 7)) {
        fill(argv[2], number(argv[3]), number(argv[4]), argc > 5 ? number(argv[5]) : 0,
             argc > 5 ? number(argv[6]) : 0);
        status = 0;
    } else if (strcmp(what, "zero") == 0 && argc == 5) {
        fill(argv[2], 0, 0, number(argv[3]), number(argv[4]));
        status = 0;
    } else if (strcmp(what, "prime") == 0 && (argc == 3 || argc == 5)) {
        prime(argv[2], argc > 3 ? number(argv[3]) : 0, argc > 3 ? number(argv[4]) : 0);
        status = 0;
    } else if (strcmp(what, "expect") == 0) {
        status = expect(argv + 2, argc - 2);
    } else if (strcmp(what, "either") == 0 && argc == 11) {
        status = either(argv + 2);
    }
    if (status < 0) {
        fprintf(stderr, "stamp fill|zero|prime|expect|either: see the top of stamp.c\n");
        return 2;
    }
    return status;
}
