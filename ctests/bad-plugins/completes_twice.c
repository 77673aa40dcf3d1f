/* completes_twice: each command ends two times */
#define FINISH(q, cmd, r) (end_local(q, r), end_local(q, r))
#include "base.h"
