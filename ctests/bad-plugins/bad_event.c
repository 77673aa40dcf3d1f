/* bad_event: an event of a device that was closed */
#define ON_CLOSE(disk) (gone = (disk)->host_device, free(disk))
#define ON_START() (void)(gone ? host->device_event(gone, XCOPY_EVENT_REMOVED, 0) : (void)0)
static void *gone;
#include "base.h"
