/* bad_table: commands that do not exist */
#define COMMANDS 0xffffffffu & ~XCOPY_CAN_TOKEN
#include "base.h"
