/* ignores_stride: verdicts as an array of today's struct */
#define METHODS {.name = NAME}, {.name = NAME "_b"}
#define VERDICT(verdicts, stride, i) ((void)(stride), &(verdicts)[i])
#include "base.h"
