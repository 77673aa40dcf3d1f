/* bad_props: blocks of 500 bytes */
#define ON_OPEN(disk, props) (props)->block_size = 500
#include "base.h"
