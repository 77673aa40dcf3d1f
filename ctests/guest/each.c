#include "each.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/nvme_ioctl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define COPY 0x19

/* A source range, NVM Command Set 1.0 3.2.2, format 0. */
struct source {
    uint64_t reserved, slba;
    uint16_t nlb; /* 0's based */
    unsigned char rest[14];
};

static struct {
    int fd;
    uint32_t *sq_tail, *sq_mask, *sq_array, *cq_head, *cq_tail, *cq_mask;
    struct io_uring_sqe *sqes; /* of 128 bytes: two each */
    struct io_uring_cqe *cqes; /* of 32 bytes: two each */
} ring;

/* As lean as the kernel has it: one thread, and ends handed over when it enters. */
static int open_ring(uint32_t depth)
{
    struct io_uring_params params = {.flags = IORING_SETUP_SQE128 | IORING_SETUP_CQE32 |
                                              IORING_SETUP_SINGLE_ISSUER |
                                              IORING_SETUP_DEFER_TASKRUN};
    ring.fd = (int)syscall(__NR_io_uring_setup, depth, &params);
    if (ring.fd < 0)
        return -1;
    size_t sq = params.sq_off.array + params.sq_entries * sizeof(uint32_t);
    size_t cq = params.cq_off.cqes + params.cq_entries * 2 * sizeof(struct io_uring_cqe);
    int protection = PROT_READ | PROT_WRITE, flags = MAP_SHARED | MAP_POPULATE;
    char *memory = mmap(NULL, sq > cq ? sq : cq, protection, flags, ring.fd, IORING_OFF_SQ_RING);
    void *sqes = mmap(NULL, params.sq_entries * 2 * sizeof(struct io_uring_sqe), protection,
                      flags, ring.fd, IORING_OFF_SQES);
    if (memory == MAP_FAILED || sqes == MAP_FAILED)
        return -1;
    ring.sqes = sqes;
    ring.sq_tail = (void *)(memory + params.sq_off.tail);
    ring.sq_mask = (void *)(memory + params.sq_off.ring_mask);
    ring.sq_array = (void *)(memory + params.sq_off.array);
    ring.cq_head = (void *)(memory + params.cq_off.head);
    ring.cq_tail = (void *)(memory + params.cq_off.tail);
    ring.cq_mask = (void *)(memory + params.cq_off.ring_mask);
    ring.cqes = (void *)(memory + params.cq_off.cqes);
    return 0;
}

static void queue(int node, uint32_t nsid, struct source *source, const struct each_range *range,
                  uint32_t place)
{
    uint32_t tail = *ring.sq_tail, at = tail & *ring.sq_mask;
    struct io_uring_sqe *sqe = &ring.sqes[2 * at];
    struct nvme_uring_cmd command = {.opcode = COPY,
                                     .nsid = nsid,
                                     .addr = (uint64_t)(uintptr_t)source,
                                     .data_len = sizeof *source,
                                     .cdw10 = (uint32_t)range->to,
                                     .cdw11 = (uint32_t)(range->to >> 32)};
    source->slba = range->from;
    source->nlb = (uint16_t)(range->blocks - 1);
    memset(sqe, 0, 2 * sizeof *sqe);
    sqe->opcode = IORING_OP_URING_CMD;
    sqe->fd = node;
    sqe->cmd_op = NVME_URING_CMD_IO;
    sqe->user_data = place;
    memcpy((char *)sqe + offsetof(struct io_uring_sqe, addr3), &command, sizeof command);
    ring.sq_array[at] = at;
    __atomic_store_n(ring.sq_tail, tail + 1, __ATOMIC_RELEASE);
}

int each_copy(const char *node, const struct each_range *ranges, size_t count, uint32_t depth)
{
    int fd = open(node, O_RDWR | O_CLOEXEC);
    int nsid = fd < 0 ? -1 : ioctl(fd, NVME_IOCTL_ID);
    struct source *sources = calloc(depth, sizeof *sources);
    uint32_t *idle = calloc(depth, sizeof *idle), free_places = depth;
    if (nsid <= 0 || sources == NULL || idle == NULL || open_ring(depth) != 0) {
        perror(node);
        return -1;
    }
    for (uint32_t i = 0; i < depth; i++)
        idle[i] = i;
    for (size_t sent = 0, ended = 0; ended < count;) {
        uint32_t new = 0;
        for (; free_places > 0 && sent < count; new++, sent++) {
            uint32_t place = idle[--free_places];
            queue(fd, (uint32_t)nsid, &sources[place], &ranges[sent], place);
        }
        long entered = syscall(__NR_io_uring_enter, ring.fd, new, 1, IORING_ENTER_GETEVENTS, NULL, 0);
        if (entered != (long)new) {
            fprintf(stderr, "io_uring_enter: %ld of %u: %s\n", entered, new, strerror(errno));
            return -1;
        }
        uint32_t head = *ring.cq_head, tail = __atomic_load_n(ring.cq_tail, __ATOMIC_ACQUIRE);
        for (; head != tail; head++, ended++) {
            const struct io_uring_cqe *cqe = &ring.cqes[2 * (head & *ring.cq_mask)];
            if (cqe->res != 0) {
                fprintf(stderr, "a Copy ended with %d\n", cqe->res);
                return -1;
            }
            idle[free_places++] = (uint32_t)cqe->user_data;
        }
        __atomic_store_n(ring.cq_head, head, __ATOMIC_RELEASE);
    }
    free(sources);
    free(idle);
    close(ring.fd);
    close(fd);
    return 0;
}
