/* completes_unknown: a cookie of its own making */
#define FINISH(q, cmd, r) ((r)->cookie++, end_local(q, r), (r)->cookie--, end_local(q, r))
#include "base.h"
