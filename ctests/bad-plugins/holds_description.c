/* holds_memory: keeps the description of a device */
static volatile unsigned seen;
#define ON_CLOSE(disk) (seen = (disk)->desc->kind, free(disk))
#include "base.h"
