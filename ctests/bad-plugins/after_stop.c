/* after_stop: logs by a context that is gone */
static void *first;
#define ON_START() (void)(first ? host->log(first, XCOPY_LOG_INFO, "still here") : (void)0)
#define ON_STOP() (void)(first ? (void)0 : (void)(first = context))
#include "base.h"
