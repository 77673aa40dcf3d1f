/* answers_after_cancel: cancel ends the command, poll ends it once more */
#define CANCEL cancel
#include "xcopy_plugin.h"
static int cancel(void *queue, struct xcopy_cmd *command);
#include "base.h"

static int cancel(void *queue, struct xcopy_cmd *command)
{
    struct xcopy_result r = {.cookie = command->cookie, .status = -ECANCELED};

    end_local(queue, &r);
    return 0;
}
