/* none: the base itself, BLOCKING */
#define MODEL XCOPY_MODEL_BLOCKING
#include "base.h"
