/* start_fails: one context at a time */
static int starts;
#define ON_START() if (starts++) return -EBUSY
#include "base.h"
