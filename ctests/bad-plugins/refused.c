/* refused: a name that the file does not have */
#undef NAME
#define NAME "other"
#include "base.h"
