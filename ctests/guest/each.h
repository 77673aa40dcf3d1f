/* The peer of gather.c: one Copy command (19h, format 0) for each range, DEPTH at a
 * time, by io_uring passthrough and nothing between. */
#ifndef EACH_H
#define EACH_H

#include <stddef.h>
#include <stdint.h>

struct each_range {
    uint64_t from, to; /* blocks */
    uint32_t blocks;
};

/* Sends them to a namespace's character node. 0, or -1 and words on standard error. */
int each_copy(const char *node, const struct each_range *ranges, size_t count, uint32_t depth);

#endif
