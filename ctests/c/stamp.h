/* Stamped data: every 512 bytes say which disk, which block and which
 * generation they are, so that a lost, doubled or misplaced write shows. */
#ifndef STAMP_H
#define STAMP_H

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define STAMP_BLOCK 512u

static inline void stamp_block(void *block, uint64_t disk, uint64_t lba, uint64_t generation)
{
    uint64_t words[STAMP_BLOCK / 8];
    for (unsigned i = 0; i < STAMP_BLOCK / 8; i += 4) {
        words[i] = disk ^ ((uint64_t)i << 56);
        words[i + 1] = lba;
        words[i + 2] = generation;
        words[i + 3] = (disk * 31 + lba) * UINT64_C(0x9e3779b97f4a7c15) + generation + i;
    }
    memcpy(block, words, sizeof words);
}

/* Fills `blocks` blocks of the file from its start. 0, or -1 with errno. */
static inline int stamp_fill(int fd, uint64_t disk, uint64_t blocks, uint64_t generation)
{
    enum { AT_ONCE = 256 };
    static unsigned char buffer[AT_ONCE * STAMP_BLOCK];
    for (uint64_t lba = 0; lba < blocks; lba += AT_ONCE) {
        uint64_t n = blocks - lba < AT_ONCE ? blocks - lba : AT_ONCE;
        for (uint64_t i = 0; i < n; i++)
            stamp_block(buffer + i * STAMP_BLOCK, disk, lba + i, generation);
        size_t bytes = (size_t)n * STAMP_BLOCK;
        if (pwrite(fd, buffer, bytes, (off_t)(lba * STAMP_BLOCK)) != (ssize_t)bytes)
            return -1;
    }
    return 0;
}

/* How many of `blocks` blocks from `at` on are not what block `from` on of
 * (disk, generation) is. */
static inline uint64_t stamp_wrong(int fd, uint64_t at, uint64_t disk, uint64_t from,
                                   uint64_t generation, uint64_t blocks)
{
    enum { AT_ONCE = 256 };
    void *buffer = NULL;
    unsigned char want[STAMP_BLOCK];
    uint64_t wrong = 0;
    if (posix_memalign(&buffer, 4096, AT_ONCE * STAMP_BLOCK) != 0)
        return blocks;
    for (uint64_t done = 0; done < blocks;) {
        uint64_t n = blocks - done < AT_ONCE ? blocks - done : AT_ONCE;
        ssize_t got = pread(fd, buffer, (size_t)n * STAMP_BLOCK,
                            (off_t)((at + done) * STAMP_BLOCK));
        if (got != (ssize_t)(n * STAMP_BLOCK)) {
            wrong += blocks - done;
            break;
        }
        for (uint64_t i = 0; i < n; i++) {
            stamp_block(want, disk, from + done + i, generation);
            wrong += memcmp((unsigned char *)buffer + i * STAMP_BLOCK, want, STAMP_BLOCK) != 0;
        }
        done += n;
    }
    free(buffer);
    return wrong;
}

/* As stamp_wrong, past the page cache where the file system has O_DIRECT.
 * Ranges must be multiples of 4,096 bytes. */
static inline uint64_t stamp_wrong_direct(const char *path, uint64_t at, uint64_t disk,
                                          uint64_t from, uint64_t generation, uint64_t blocks)
{
    int fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    if (fd < 0)
        fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return blocks;
    uint64_t wrong = stamp_wrong(fd, at, disk, from, generation, blocks);
    close(fd);
    return wrong;
}

/* A directory of the test's own, removed by stamp_clean. */
static char stamp_directory[256];

static inline const char *stamp_path(const char *name, char *path, size_t size)
{
    if (stamp_directory[0] == '\0') {
        const char *base = getenv("TMPDIR");
        snprintf(stamp_directory, sizeof stamp_directory, "%s/xcopy-test-XXXXXX",
                 base ? base : "/var/tmp");
        if (mkdtemp(stamp_directory) == NULL) {
            perror(stamp_directory);
            exit(1);
        }
    }
    snprintf(path, size, "%s/%s", stamp_directory, name);
    return path;
}

/* Makes a stamped file in the test's directory and answers an fd of it. */
static inline int stamp_file(const char *name, char *path, size_t size, uint64_t disk,
                             uint64_t blocks, uint64_t generation)
{
    stamp_path(name, path, size);
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || stamp_fill(fd, disk, blocks, generation) != 0) {
        perror(path);
        exit(1);
    }
    return fd;
}

static inline void stamp_clean(void)
{
    static const char *const names[] = {"src", "dst", "a", "b", "file", "fifo", "ro"};
    char path[320];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", stamp_directory, names[i]);
        unlink(path);
    }
    rmdir(stamp_directory);
}

#endif
