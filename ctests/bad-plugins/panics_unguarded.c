/* panics: what a panic or an assertion without a guard comes to */
#define ON_POLL(q) if ((q)->n > 3) abort()
#include "base.h"
