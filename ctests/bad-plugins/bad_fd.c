/* bad_fd: a new descriptor each time */
#define QUEUE_FD(q) dup((q)->fd)
#include "base.h"
