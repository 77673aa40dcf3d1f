/* panics: the guard of a Rust plugin answered */
#define MODEL XCOPY_MODEL_BLOCKING
#define ON_EXECUTE(cmd, r) ((cmd)->op == XCOPY_CMD_ZERO ? ((r)->bytes = 0, -EFAULT) : 0)
#include "base.h"
