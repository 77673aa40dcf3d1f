/* completes_refused: takes one less than it ends */
#define ON_SUBMIT(q, commands, n)                        \
    if ((n) > 1) {                                       \
        struct xcopy_result r;                           \
        for (uint32_t i = 0; i < (n); i++) {             \
            r = perform(commands[i]);                    \
            end_local(q, &r);                            \
        }                                                \
        return (int)(n) - 1;                             \
    }
#include "base.h"
