/* hangs: execute waits for ever */
#define MODEL XCOPY_MODEL_BLOCKING
#define ON_EXECUTE(cmd, r) ((cmd)->op == XCOPY_CMD_COPY ? pause() : 0)
#include "base.h"
