/* wrong_thread: complete_local on a thread of its own */
#define MODEL XCOPY_MODEL_THREADED
#define FINISH(q, cmd, r) end_local(q, r)
#include "base.h"
