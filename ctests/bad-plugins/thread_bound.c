/* thread_bound: state of the queue in a thread-local variable */
static __thread int mine;
#define ON_QUEUE(q) (void)(mine = 1)
#define ON_RESULT(cmd, r) (void)(mine || ((r)->status = -EPERM, (r)->bytes = 0))
#include "base.h"
