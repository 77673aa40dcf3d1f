/* overruns: reads a field that the host's table does not have */
#include "xcopy_plugin.h"
static volatile uintptr_t seen;
#define ON_INIT() seen = ((const uintptr_t *)(const void *)host)[host->struct_size / sizeof seen]
#include "base.h"
