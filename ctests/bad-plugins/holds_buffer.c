/* holds_memory: the transfer into the buffer goes on after the command ended */
#define FINISH(q, cmd, r)                       \
    do {                                        \
        void *to = (cmd)->buffer;               \
        int reads = (cmd)->op == XCOPY_CMD_READ; \
        end_local(q, r);                        \
        if (reads)                              \
            memset(to, 0, 1);                   \
    } while (0)
#include "base.h"
