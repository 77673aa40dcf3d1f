/* none: the base itself, POLLED */
#include "base.h"
