/* no_table: init works once */
static int inits;
#define ON_INIT() if (inits++) return NULL
#include "base.h"
