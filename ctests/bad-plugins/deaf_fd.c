/* deaf_fd: the descriptor never becomes readable */
#define SIGNAL(q) (void)0
#include "base.h"
