/* bad_answer: a result whose fields were never set */
#define ON_RESULT(cmd, r) ((r)->flags = 0xa5a5a5a5u, (r)->action = 0xa5a5u)
#include "base.h"
