/* no_text: refuses every device without a word */
#define ON_OPEN(disk, props)     \
    if ((disk)->size > 0) {      \
        free(disk);              \
        return -ENODEV;          \
    }
#include "base.h"
