/* bad_stride: a stride that is no size */
#define FINISH(q, cmd, r) host->complete_local((q)->host, r, 0, 1)
#include "base.h"
