/* bad_verdict: not usable, and no reason */
#define ON_VERDICT(v) (v)->usable = 0
#include "base.h"
