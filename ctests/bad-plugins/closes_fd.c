/* closes_fd: closes the descriptor of the core */
#define FLAGS XCOPY_PLUGIN_KERNEL
#define COMMANDS XCOPY_CAN_COPY
#define ON_VERDICT(v) ((v)->usable = 0, (v)->reason = XCOPY_REASON_WRONG_DEVICE)
#define ON_CLOSE(disk) (close((disk)->fd), free(disk))
#include "base.h"
