/* blocks: submit sleeps */
static int slept;
#define ON_SUBMIT(q, commands, n) (void)(slept++ || usleep(400000))
#include "base.h"
