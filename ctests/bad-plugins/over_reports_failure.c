/* over_reports: execute fails, and the result claims all bytes */
#define MODEL XCOPY_MODEL_BLOCKING
#define ON_EXECUTE(cmd, r) ((cmd)->op == XCOPY_CMD_ZERO ? -EIO : 0)
#include "base.h"
