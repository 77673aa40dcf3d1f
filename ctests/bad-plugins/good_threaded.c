/* none: the base itself, THREADED */
#define MODEL XCOPY_MODEL_THREADED
#include "base.h"
