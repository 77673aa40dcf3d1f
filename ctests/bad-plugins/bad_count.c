/* bad_count: takes more commands than it was given */
#define TAKEN(n) (int)((n) + 1)
#include "base.h"
