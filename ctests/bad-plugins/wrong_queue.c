/* wrong_queue: one host_queue for all queues */
#define MODEL XCOPY_MODEL_THREADED
static struct xcopy_host_queue *last;
#define ON_QUEUE(q) (last = (q)->host, usleep(20000))
#define FINISH(q, cmd, r) host->complete(last, r, sizeof *(r), 1)
#include "base.h"
