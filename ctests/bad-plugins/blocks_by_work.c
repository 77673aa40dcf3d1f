/* blocks: poll computes for long */
#include <time.h>
static int worked;
#define ON_POLL(q)                                                 \
    if (!worked++)                                                 \
        for (clock_t end = clock() + CLOCKS_PER_SEC / 2; clock() < end;) \
            ;
#include "base.h"
