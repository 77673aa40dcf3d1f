/* alters_source: WRITE encrypts in place */
#define ON_RESULT(cmd, r) \
    if ((cmd)->op == XCOPY_CMD_WRITE) ((char *)(cmd)->buffer)[7] ^= 1
#include "base.h"
