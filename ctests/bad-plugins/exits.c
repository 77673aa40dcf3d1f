/* exits: ends the process */
#define ON_PROBE() exit(0)
#include "base.h"
