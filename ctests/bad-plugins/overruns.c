/* overruns: reads one byte more than was asked */
#define ON_RESULT(cmd, r) \
    if ((cmd)->op == XCOPY_CMD_READ) ((char *)(cmd)->buffer)[(cmd)->bytes] = 0
#include "base.h"
