/* leaks_memory: memory of host.alloc is not freed before stop */
static void *kept;
#define ON_START() (void)(kept = host->alloc(context, 4096, 4096))
#include "base.h"
