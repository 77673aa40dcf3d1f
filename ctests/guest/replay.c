/* Reads a dm-log-writes log and writes part of it onto a disk: the disk as it
 * would be had the power failed there, with nothing of a volatile cache.
 *
 *   replay list LOG               one line an entry: INDEX FLAGS SECTOR SECTORS MARK
 *   replay apply LOG DISK A B     entries A up to, but not with, B
 *
 * The kernel logs a write only once a flush (or FUA) has made it durable, so the
 * entries before a mark are what had reached the medium when the mark was made.
 * Layout: linux/drivers/md/dm-log-writes.c. */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAGIC UINT64_C(0x6a736677736872)
enum { FLUSH = 1, FUA = 2, DISCARD = 4, MARK = 8, AT_ONCE = 1 << 20 };

struct super {
    uint64_t magic, version, entries;
    uint32_t sector;
};

struct entry {
    uint64_t sector, sectors, flags, length;
};

static unsigned char buffer[AT_ONCE];

static void die(const char *what)
{
    fprintf(stderr, "replay: %s: %s\n", what, strerror(errno));
    exit(2);
}

static void take(int fd, void *to, uint64_t bytes, uint64_t at)
{
    ssize_t got = pread(fd, to, bytes, (off_t)at);
    if (got != (ssize_t)bytes) {
        if (got >= 0)
            errno = ENODATA;
        die("the log");
    }
}

static void put(int fd, uint64_t bytes, uint64_t at)
{
    ssize_t wrote = pwrite(fd, buffer, bytes, (off_t)at);
    if (wrote != (ssize_t)bytes) {
        if (wrote >= 0)
            errno = ENOSPC;
        die("the disk");
    }
}

static void apply(int log, uint64_t place, int disk, uint64_t unit, const struct entry *entry)
{
    uint64_t bytes = entry->sectors * unit, at = entry->sector * unit;
    int zero = (entry->flags & DISCARD) != 0;
    if (zero)
        memset(buffer, 0, sizeof buffer);
    for (uint64_t done = 0; done < bytes;) {
        uint64_t n = bytes - done < AT_ONCE ? bytes - done : AT_ONCE;
        if (!zero)
            take(log, buffer, n, place + done);
        put(disk, n, at + done);
        done += n;
    }
}

int main(int argc, char **argv)
{
    int listing = argc == 3 && strcmp(argv[1], "list") == 0;
    if (!listing && !(argc == 6 && strcmp(argv[1], "apply") == 0)) {
        fprintf(stderr, "replay list LOG | replay apply LOG DISK A B\n");
        return 2;
    }
    int log = open(argv[2], O_RDONLY | O_CLOEXEC), disk = -1;
    if (log < 0)
        die(argv[2]);
    uint64_t from = 0, to = UINT64_MAX;
    if (!listing) {
        disk = open(argv[3], O_WRONLY | O_CLOEXEC);
        if (disk < 0)
            die(argv[3]);
        from = strtoull(argv[4], NULL, 10);
        to = strtoull(argv[5], NULL, 10);
    }
    struct super super;
    take(log, &super, sizeof super, 0);
    uint64_t unit = le32toh(super.sector), entries = le64toh(super.entries);
    if (le64toh(super.magic) != MAGIC || le64toh(super.version) != 1 || unit < 512 ||
        unit > sizeof buffer) {
        fprintf(stderr, "replay: %s is no log of dm-log-writes\n", argv[2]);
        return 2;
    }
    for (uint64_t i = 0, place = unit; i < entries && i < to; i++) {
        unsigned char head[512];
        struct entry entry;
        take(log, head, sizeof head, place);
        memcpy(&entry, head, sizeof entry);
        entry.sector = le64toh(entry.sector);
        entry.sectors = le64toh(entry.sectors);
        entry.flags = le64toh(entry.flags);
        entry.length = le64toh(entry.length);
        place += unit;
        if (listing) {
            int mark = (entry.flags & MARK) != 0;
            int length = mark && entry.length < sizeof head - sizeof entry ? (int)entry.length : 0;
            printf("%" PRIu64 " %s%s%s%s- %" PRIu64 " %" PRIu64 " %.*s\n", i,
                   entry.flags & FLUSH ? "F" : "", entry.flags & FUA ? "U" : "",
                   entry.flags & DISCARD ? "D" : "", mark ? "M" : "", entry.sector, entry.sectors,
                   length, (const char *)head + sizeof entry);
        } else if (i >= from) {
            apply(log, place, disk, unit, &entry);
        }
        if ((entry.flags & DISCARD) == 0)
            place += entry.sectors * unit;
    }
    if (disk >= 0 && fsync(disk) != 0)
        die(argv[3]);
    return 0;
}
