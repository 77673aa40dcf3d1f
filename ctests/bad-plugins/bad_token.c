/* bad_token: a token of no bytes */
#define COMMANDS (XCOPY_CAN_READ | XCOPY_CAN_WRITE | XCOPY_CAN_TOKEN)
#define FINISH(q, cmd, r)                                 \
    ((cmd)->op == XCOPY_CMD_TOKEN_CREATE                  \
         ? (void)((r)->status = 0, (r)->bytes = (cmd)->bytes) \
         : (void)0,                                       \
     end_local(q, r))
#include "base.h"
