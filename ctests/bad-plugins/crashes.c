/* crashes: follows NULL */
#define ON_POLL(q) if ((q)->n > 3) *(volatile int *)NULL = 1
#include "base.h"
