/* bad_status: a positive errno */
#define ON_RESULT(cmd, r) (r)->status = EIO
#include "base.h"
