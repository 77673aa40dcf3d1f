/* wrong_data: success, and nothing was written */
#define MODEL XCOPY_MODEL_BLOCKING
#define ON_EXECUTE(cmd, r)                                                           \
    ((cmd)->op == XCOPY_CMD_COPY                                                     \
         ? (memset(at((cmd)->dst, (cmd)->ranges[0].dst_offset, BLOCK), 0, BLOCK), 0) \
         : 0)
#include "base.h"
