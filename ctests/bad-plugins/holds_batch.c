/* holds_memory: keeps the array of submit */
#include "xcopy_plugin.h"
static struct xcopy_cmd *const *kept;
#define ON_POLL(q) if (kept != NULL && *kept == NULL) return 0
#define ON_SUBMIT(q, commands, n) kept = (commands)
#include "base.h"
