/* holds_memory: reads the command after it ended */
static volatile unsigned long seen;
#define FINISH(q, cmd, r) (end_local(q, r), (void)(seen = (cmd)->bytes))
#include "base.h"
