/* short_success: success with a part of the bytes */
#define ON_RESULT(cmd, r) (r)->bytes /= 2
#include "base.h"
