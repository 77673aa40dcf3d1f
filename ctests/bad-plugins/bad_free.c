/* bad_free: frees with another size */
static void *kept;
#define ON_START() (void)(kept = host->alloc(context, 4096, 64), host->free(context, kept, 4095, 64))
#include "base.h"
