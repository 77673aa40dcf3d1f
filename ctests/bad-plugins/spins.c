/* spins: the descriptor is always readable */
#define ON_QUEUE(q) (void)(close((q)->fd), (q)->fd = open("/dev/zero", O_RDONLY | O_CLOEXEC))
#define ON_POLL(q) if ((q)->n == 0) return 0
#define SIGNAL(q) (void)0
#define DRAIN(q) (void)0
#include "base.h"
