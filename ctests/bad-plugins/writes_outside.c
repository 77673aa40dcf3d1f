/* writes_outside: writes one block more */
#define ON_RESULT(cmd, r)                                                             \
    if ((cmd)->op == XCOPY_CMD_ZERO)                                                  \
        memset((char *)at((cmd)->dst, (cmd)->ranges[0].dst_offset, 1) + (cmd)->bytes, \
               0, BLOCK)
#include "base.h"
