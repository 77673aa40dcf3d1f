/* over_reports: more bytes than the command had */
#define ON_RESULT(cmd, r) (r)->bytes += 512
#include "base.h"
