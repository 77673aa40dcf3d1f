/* changes_command: counts down in the command */
#define ON_RESULT(cmd, r) (cmd)->bytes = 0
#include "base.h"
