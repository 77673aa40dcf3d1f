/* hangs: close waits for ever */
#define ON_CLOSE(disk)   \
    while ((disk) != NULL) \
    pause()
#include "base.h"
