/* completes_unknown: execute answers for a command that it was never given */
#define MODEL XCOPY_MODEL_BLOCKING
#define ON_RESULT(cmd, r) ((r)->cookie = 77)
#include "base.h"
