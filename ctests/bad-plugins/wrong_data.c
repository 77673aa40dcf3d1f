/* wrong_data: copies the block before */
#define ON_RESULT(cmd, r)                                                                \
    if ((cmd)->op == XCOPY_CMD_COPY && (cmd)->ranges[0].src_offset > 0)                  \
        memmove(at((cmd)->dst, (cmd)->ranges[0].dst_offset, BLOCK),                      \
                at((cmd)->src, (cmd)->ranges[0].src_offset - BLOCK, BLOCK), BLOCK)
#include "base.h"
