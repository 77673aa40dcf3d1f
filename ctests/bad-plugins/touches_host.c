/* touches_host: looks into a host_queue */
static volatile char seen;
#define ON_QUEUE(q) seen = *(volatile char *)(q)->host
#include "base.h"
