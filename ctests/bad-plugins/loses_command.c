/* loses_command: every ninth is forgotten */
static int count;
#define FINISH(q, cmd, r) (++count % 9 ? end_local(q, r) : (void)0)
#include "base.h"
