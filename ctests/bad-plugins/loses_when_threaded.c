/* loses_command: a thread of its own forgets one */
static int count;
#define MODEL XCOPY_MODEL_THREADED
#define FINISH(q, cmd, r) (++count != 40 ? end_anywhere(q, r) : (void)0)
#include "base.h"
