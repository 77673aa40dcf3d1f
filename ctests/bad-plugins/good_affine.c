/* none: the base itself, AFFINE */
#define MODEL XCOPY_MODEL_AFFINE
#include "base.h"
