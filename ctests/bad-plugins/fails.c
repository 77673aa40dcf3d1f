/* fails: a limit that probe did not state */
#define ON_RESULT(cmd, r) (void)((cmd)->nranges > 4 ? ((r)->status = -EIO, (r)->bytes = 0) : 0)
#include "base.h"
